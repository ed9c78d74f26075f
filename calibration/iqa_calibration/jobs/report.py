"""The report of a calibration job: verdict, numbers, what stayed float; as lines, as tables, as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from iqa_calibration.gate.gate import GateResult
from iqa_calibration.images.sets import FEW_PHOTOGRAPHS
from iqa_calibration.int8.search import Attention
from iqa_calibration.int8.sensitivity import Sensitivity
from iqa_calibration.jobs.judging import ItemTimes
from iqa_runtime.contract import Contract, FileDigest

_SHOWN = 12
"""Rows of a table on the terminal; the files have all."""

_ATTENTION: dict[Attention, str] = {
    "quantised": "in integers too",
    "refused": "in float32: in integers the gate refused them",
}
"""What to say of them; nothing where they are in float32 unasked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An alternative that was made and judged because the gate had refused.

    Attributes
    ----------
    command
        The command line that asks for it, argument by argument.
    passed, reasons
        The verdict; where it could not be made, `reasons` says why.
    largest, mean, srcc
        As in `GateResult`.
    """

    command: tuple[str, ...]
    passed: bool
    reasons: tuple[str, ...]
    largest: float | None = None
    mean: float | None = None
    srcc: float | None = None

    @property
    def command_line(self) -> str:
        """The command, quoted for a shell."""
        return shlex.join(self.command)


@dataclass(frozen=True, kw_only=True)
class Report:
    """The outcome of one job.

    Attributes
    ----------
    contract
        Of the artefact, written or refused.
    judged_on
        The backend whose scores decided.
    source, source_bytes
        The float32 artefact.
    file, bytes
        The artefact; None where the gate refused.
    gate
        The verdict; None where there was none.
    item_ms
        What one item takes; None where it was not measured. In no contract: the same command gives the same artefact.
    images
        What each pair of scores in `gate` is of.
    converted
        Nodes that compute in the precision of the contract.
    kept_float
        Nodes that could and don't, and why.
    sensitivities
        Effect of each part, worst first; empty where it was not measured.
    alternatives
        What was tried after a refusal; the last may have passed.
    seconds
        Duration of the job.
    """

    contract: Contract
    judged_on: str
    source: FileDigest
    source_bytes: int
    file: FileDigest | None = None
    bytes: int | None = None
    gate: GateResult | None
    item_ms: ItemTimes | None = None
    images: tuple[str, ...]
    converted: int
    kept_float: dict[str, str] = field(default_factory=dict)
    sensitivities: tuple[Sensitivity, ...] = ()
    alternatives: tuple[Attempt, ...] = ()
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the artefact may be used: the gate accepted it, or nobody asked."""
        return self.gate is None or self.gate.passed

    @property
    def alternative(self) -> Attempt | None:
        """The alternative that passed."""
        return next((attempt for attempt in self.alternatives if attempt.passed), None)

    @property
    def title(self) -> str:
        """What was made, in a phrase."""
        contract = self.contract
        whom = "" if contract.target == "any" else f" for {contract.target}"
        return f"{contract.model} {contract.variant}, {contract.task}: {contract.precision}{whom}"

    def lines(self) -> list[str]:
        """Say what came out, one sentence a line: slowness first, then the verdict, then what limits its meaning."""
        return [*self._about_speed(), self.verdict(), *self._about_meaning()]

    def verdict(self) -> str:
        """Say in one sentence how the gate decided, and what to do if it refused."""
        if self.gate is None:
            return "not judged: the gate was left out, and the contract says so"
        if self.gate.passed:
            return f"the gate accepts it: {_numbers(self.gate)}"
        refused = f"the gate refuses it, no artefact was written: {'; '.join(self.gate.reasons)}"
        found = self.alternative
        if found is not None:
            return f"{refused}. This passes ({_numbers(found)}): {found.command_line}"
        count = len(self.alternatives)
        return f"{refused}. None of {count} alternatives passes; keep float32, or calibrate with more photographs"

    def _about_speed(self) -> Iterator[str]:
        times = self.item_ms
        if times is not None and times.candidate > times.fp32:
            yield (
                f"{self.contract.precision} is SLOWER than float32 on this host: {times.candidate:.2f} ms an item "
                f"instead of {times.fp32:.2f} ({self.judged_on}, one thread)"
            )

    def _about_meaning(self) -> Iterator[str]:
        contract = self.contract
        if not contract.weights.trained:
            yield (
                "the weights are random: float32 scores hardly differ between images then, and the verdict says "
                "nothing about the trained network"
            )
        if contract.target in ("openvino", "tensorrt") and self.judged_on != contract.target and self.gate is not None:
            yield f"judged on {self.judged_on}, made for {contract.target}: scores there may differ by rounding"
        unknown = [each.picture for each in self.gate.extremes if not isfinite(each.fp32)] if self.gate else []
        if unknown:
            yield f"float32 itself has no finite score for {', '.join(unknown)}, so nothing was compared there"
        photographs = (contract.calibration or {}).get("photographs", FEW_PHOTOGRAPHS)
        if photographs < FEW_PHOTOGRAPHS:
            several = "s" if photographs != 1 else ""
            yield f"calibrated on {photographs} photograph{several}; ranges are surer from {FEW_PHOTOGRAPHS} on"

    def content(self) -> dict[str, Any]:
        """Return what the JSON report holds; numbers that JSON has not (NaN, infinity) become null there."""
        return {"passed": self.passed, "summary": self.lines(), **msgspec.to_builtins(self)}

    def measures(self) -> list[tuple[str, str, str]]:
        """List what was measured: name, value, and what is allowed."""
        rows = []
        size = "" if self.bytes is None else f"{self.bytes / 1e6:.2f} MB"
        rows.append(("size", size, f"float32: {self.source_bytes / 1e6:.2f} MB"))
        if self.converted:
            rows.append(("nodes converted, kept in float32", f"{self.converted}, {len(self.kept_float)}", ""))
        attention = (self.contract.calibration or {}).get("attention")
        if attention in _ATTENTION:
            rows.append(("long products of two activations", _ATTENTION[attention], ""))
        gate = self.gate
        if gate is None:
            return rows
        limits = gate.limits
        rows += [
            ("largest difference, share of the spread", _percent(gate.largest), f"at most {limits.largest:.2%}"),
            ("mean difference, share of the spread", _percent(gate.mean), f"at most {limits.mean:.2%}"),
            (
                "largest difference on pictures at the limits",
                f"{_percent(gate.extreme)}{f' ({gate.extreme_picture})' if gate.extreme_picture else ''}",
                f"at most {limits.extreme:.2%}",
            ),
            ("SRCC with float32", _correlation(gate.srcc), f"at least {limits.srcc:g}"),
            ("PLCC with float32", _correlation(gate.plcc), ""),
            ("same order within a ladder", _percent(gate.order_agreement), ""),
            ("spread of the float32 scores", f"{gate.spread:.4g}", ""),
            ("gate set", f"{gate.images} images of {gate.photographs} photographs", ""),
        ]
        if self.item_ms is not None:
            timed = f"float32: {self.item_ms.fp32:.2f} ms ({self.judged_on}, one thread)"
            rows.append(("time of an item", f"{self.item_ms.candidate:.2f} ms", timed))
        return rows

    def show(self, console: Console) -> None:
        """Print the report: its lines, the measures, the worst parts, what stayed float."""
        for line in self.lines():
            console.print(Text(line), soft_wrap=True)
        measures = _table(self.title, "", "measured", "allowed, or beside it")
        for row in self.measures():
            measures.add_row(*map(Text, row))
        console.print(measures)
        if self.sensitivities:
            parts = _table("sensitivity: one part alone in integers", "part", "moves scores by", "10^6 MAC")
            for part in self.sensitivities[:_SHOWN]:
                parts.add_row(Text(part.part), f"{part.effect:.2%}", f"{part.macs / 1e6:.1f}")
            console.print(parts)
        if self.kept_float:
            kept = _table(f"kept in float32: {len(self.kept_float)}", "node", "why")
            for name, reason in list(self.kept_float.items())[:_SHOWN]:
                kept.add_row(Text(name), Text(reason))
            console.print(kept)
        if max(len(self.sensitivities), len(self.kept_float)) > _SHOWN:
            console.print(f"tables show {_SHOWN} rows; the report files have all")


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _numbers(result: GateResult | Attempt) -> str:
    return (
        f"largest difference {_percent(result.largest)} of the spread, mean {_percent(result.mean)}, SRCC "
        f"{_correlation(result.srcc)}"
    )


def _percent(share: float | None) -> str:
    return "undefined" if share is None else f"{share:.2%}"


def _correlation(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.5f}"
