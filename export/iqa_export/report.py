"""The export report: what was written, the work per item, parity; as JSON and as a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from iqa_export.parity import TOLERANCE, OutputParity
from iqa_runtime.contract import Contract, FileDigest, range_in_words
from iqa_runtime.files.overwriting import write_at_once


@dataclass(frozen=True, kw_only=True)
class GraphReport:
    """One file of the artefact; `gmac` counts 10^9 multiply-accumulates of one item, None where that cannot be told."""

    file: str
    bytes: int
    sha256: str
    gmac: float | None

    @staticmethod
    def of_file(path: Path, macs: int | None) -> GraphReport:
        """Describe a written graph."""
        digest = FileDigest.of_file(path)
        return GraphReport(
            file=digest.file, bytes=path.stat().st_size, sha256=digest.sha256, gmac=None if macs is None else macs / 1e9
        )


@dataclass(frozen=True, kw_only=True)
class Report:
    """The outcome of one export.

    Attributes
    ----------
    contract
        As in the artefact.
    graphs
        The artefact, then the encoder of references where there is one.
    gmac_as_written
        The work of one item for the network as published, for comparison; None where there is no such network, or
        pictures come at their own size.
    oracle
        What the artefact was compared with: ``PyTorch``, or ``the graph as it came``, where one was adopted without the
        network that it was exported from.
    parity
        One row for each output, batch size and kind of samples.
    scores
        The lowest and the highest score of photographs and noise.
    seconds
        Duration of the job.
    ignored
        Entries beside the weights that are none of the network's.
    """

    contract: Contract
    graphs: tuple[GraphReport, ...]
    gmac_as_written: float | None
    parity: tuple[OutputParity, ...]
    scores: tuple[float, float]
    seconds: float
    ignored: tuple[str, ...] = ()
    oracle: Literal["PyTorch", "the graph as it came"] = "PyTorch"

    @property
    def passed(self) -> bool:
        """Whether every row of parity passed."""
        return all(row.passed for row in self.parity)

    def failures(self) -> str:
        """Say what is wrong, each fault once."""
        return "; ".join(dict.fromkeys(row.fault for row in self.parity if row.fault is not None))

    def write(self, path: Path) -> None:
        """Write the report as JSON; numbers that JSON has not (NaN, infinity) become null. Raises `FileError`."""
        content: dict[str, Any] = {"passed": self.passed, "tolerance": TOLERANCE, **msgspec.to_builtins(self)}
        write_at_once(path, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")

    def show(self, console: Console) -> None:
        """Print the report as tables."""
        contract = self.contract
        crops = contract.crops_per_item
        title = f"{contract.model} {contract.variant}, {contract.task}, {contract.precision}, opset {contract.opset}"
        files = Table(title=title, title_justify="left")
        for heading in ("file", "MB", "GMAC per item", "as written"):
            files.add_column(heading, justify="left" if heading == "file" else "right")
        for index, graph in enumerate(self.graphs):
            as_written = "" if index or self.gmac_as_written is None else _gmac(self.gmac_as_written)
            gmac = "not counted" if graph.gmac is None else _gmac(graph.gmac)
            files.add_row(Text(graph.file), f"{graph.bytes / 1e6:.1f}", gmac, as_written)
        console.print(files)
        parity = Table(
            title=f"parity with {self.oracle} on photographs and noise, and on plain crops", title_justify="left"
        )
        for heading in (
            "output",
            "crops",
            "batch",
            "largest",
            "difference",
            "share of largest",
            f"allowed {TOLERANCE:g}",
        ):
            parity.add_column(heading, justify="left" if heading in ("output", "crops") else "right")
        for row in self.parity:
            share = row.difference / row.largest if row.largest else float("nan")
            verdict = "pass" if row.passed else "FAIL"
            numbers = (f"{row.largest:.4g}", f"{row.difference:.2e}", f"{share:.2e}")
            parity.add_row(row.output, row.samples, str(row.batch), *numbers, verdict)
        console.print(parity)
        if self.oracle != "PyTorch":
            console.print("no parity with PyTorch: no PyTorch module was given")
        weights = contract.weights
        if weights.entry is not None or self.ignored:
            ignored = f"; ignored beside it: {', '.join(self.ignored)}" if self.ignored else ""
            console.print(Text(f"weights: {weights.file}, entry {weights.entry or 'at the top'}{ignored}"))
        low, high = self.scores
        ends = range_in_words(contract.score.range)
        console.print(f"photographs and noise score {low:.4g} to {high:.4g}; range: {ends}")
        item = f"{crops} crop{'s' if crops != 1 else ''}"
        if contract.patch_plan.kind == "whole":
            item = "a whole picture"
        console.print(f"one item is {item}; {self.seconds:.0f} s")


def _gmac(count: float) -> str:
    """Return a number with a decimal, and three digits of what is less than one."""
    return f"{count:.1f}" if count >= 1 else f"{count:.3g}"
