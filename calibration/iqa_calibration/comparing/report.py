"""Show a comparison: as tables on a terminal, as JSON, as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from iqa_calibration.comparing.layers import LayerRow
from iqa_calibration.comparing.scores import Comparison
from iqa_calibration.pages import write_page
from iqa_runtime import __version__
from iqa_runtime.files.overwriting import write_at_once

SHOWN_ROWS = 10
"""Rows of a table on the terminal; the files have all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareReport:
    """What `iqa-compare` found.

    Attributes
    ----------
    scores
        Of the images.
    layers
        Tensors that both have, the worst first; None if they were not compared.
    layers_apart
        Float tensors of the ONNX graph, the first one's if there are two, without a partner.
    version
        Of the package that compared.
    """

    scores: Comparison
    layers: tuple[LayerRow, ...] | None = None
    layers_apart: int = 0
    version: str = __version__

    @property
    def title(self) -> str:
        """The two, in one line."""
        first, second = self.scores.first, self.scores.second
        untrained = "" if first.trained and second.trained else " - UNTRAINED"
        return f"{first.artefact.file} on {first.backend} and {second.artefact.file} on {second.backend}{untrained}"

    def sides(self) -> list[tuple[str, str, str]]:
        """Return what the two are: name of the property, first, second."""
        first, second = self.scores.first, self.scores.second
        return [
            ("artefact", first.artefact.file, second.artefact.file),
            ("model", first.model, second.model),
            ("precision", first.precision, second.precision),
            ("backend", first.backend, second.backend),
            ("resize", first.resize, second.resize),
        ]

    def measures(self) -> list[tuple[str, str]]:
        """Return the numbers about all images, in words."""
        scores = self.scores
        return [
            ("mean difference", f"{scores.mean:.3e}{_of_spread(scores.mean_share)}"),
            ("largest difference", f"{scores.largest:.3e}{_of_spread(scores.largest_share)}"),
            ("spread of the first one's scores", f"{scores.spread:.4f}"),
            ("SRCC", _correlation(scores.srcc)),
            ("PLCC", _correlation(scores.plcc)),
            ("crops", scores.crops),
        ]

    def show(self, console: Console) -> None:
        """Print what matters: the numbers, and the worst images and tensors."""
        console.print(Text(self.title))
        numbers = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for name, value in self.measures():
            numbers.add_row(name, value)
        console.print(numbers)
        images = [
            (row.image, f"{row.first:.6g}", f"{row.second:.6g}", f"{row.difference:+.2e}")
            for row in self.scores.images[:SHOWN_ROWS]
        ]
        heading = f"images, the largest difference first{_shown(len(self.scores.images))}"
        console.print(_table(heading, ("image",), ("first", "second", "difference"), images))
        if self.layers is None:
            return
        layers = [
            (row.tensor, row.node, row.operator, f"{row.relative:.2e}", f"{row.largest:.2e}")
            for row in self.layers[:SHOWN_ROWS]
        ]
        heading = f"tensors, the worst first{_shown(len(self.layers))}; {self.layers_apart} without a partner"
        console.print(_table(heading, ("tensor", "node", "operator"), ("relative", "largest"), layers))

    def write_json(self, path: Path) -> None:
        """Write everything as JSON; an infinite relative difference is null. Raises `FileError`."""
        write_at_once(path, msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")

    def write_page(self, path: Path) -> None:
        """Write everything as one HTML page. Raises `FileError`."""
        write_page(
            path,
            "iqa_calibration.comparing",
            "compare.html.j2",
            self.title,
            comparison=self.scores,
            sides=self.sides(),
            measures=self.measures(),
            layers=self.layers,
            layers_apart=self.layers_apart,
            version=self.version,
        )


def _table(title: str, texts: Sequence[str], numbers: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD)
    for heading in texts:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _shown(count: int) -> str:
    return f" ({SHOWN_ROWS} of {count})" if count > SHOWN_ROWS else ""


def _of_spread(share: float | None) -> str:
    return "" if share is None else f" ({share:.3%} of the spread)"


def _correlation(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"
