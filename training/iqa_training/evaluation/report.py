"""The report of an evaluation: what was judged on what and where, the numbers; as JSON, as a table, scores as CSV."""

from __future__ import annotations

import csv
import math
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from iqa_runtime.backends import BACKEND_PACKAGES
from iqa_runtime.benchmark.host import versions_of
from iqa_runtime.contract import FileDigest, ScoreOutput
from iqa_runtime.errors import FileError
from iqa_runtime.scorer import Scorer
from iqa_runtime.scoring.patch_plans import format_patch_plan
from iqa_runtime.scoring.resizing import format_resize
from iqa_training.datasets import Dataset, LabelScale
from iqa_training.evaluation.judge import Failure, Judged, Row
from iqa_training.evaluation.statistics import CONFIDENCE, Statistic

LIBRARIES = ("numpy", "scipy", "opencv-python-headless", "opencv-python", *BACKEND_PACKAGES)
"""Whose versions a report has."""

COLUMNS = {
    "srcc": "SRCC",
    "plcc": "PLCC",
    "krcc": "KRCC",
    "rmse": "RMSE",
    "plcc_raw": "PLCC raw",
    "rmse_raw": "RMSE raw",
}
WITH_INTERVAL = ("srcc", "plcc")
"""Statistics that are shown with their interval."""


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """The artefact that was judged, in short; all of it is in its contract (``iqa-run FILE --info``)."""

    file: str
    sha256: str
    model: str
    variant: str
    task: str
    precision: str
    target: str
    crops: str
    resize: str
    score: ScoreOutput
    weights: str
    trained: bool
    trained_on: str

    @staticmethod
    def of_scorer(path: Path, scorer: Scorer) -> Artefact:
        """Describe an artefact that is open."""
        contract = scorer.contract
        digest = FileDigest.of_file(path)
        return Artefact(
            file=digest.file,
            sha256=digest.sha256,
            model=contract.model,
            variant=contract.variant,
            task=contract.task,
            precision=contract.precision,
            target=contract.target,
            crops=format_patch_plan(scorer.patch_plan),
            resize=format_resize(scorer.resize),
            score=contract.score,
            weights=contract.weights.sha256,
            trained=contract.weights.trained,
            trained_on=contract.weights.trained_on,
        )


@dataclass(frozen=True, kw_only=True)
class Images:
    """The images it was judged on.

    Attributes
    ----------
    dataset, title, source, scale
        The data set, and the published scale that became 0 (worst) to 1 (best).
    part, split_seed
        Of the data set; ``all``, or a part of the split with this seed.
    types
        The distortion types chosen; None for all.
    """

    dataset: str
    title: str
    source: str
    scale: LabelScale
    part: str
    split_seed: int
    types: tuple[str, ...] | None

    @staticmethod
    def of_dataset(dataset: Dataset, *, part: str, seed: int, types: list[str] | None) -> Images:
        """Describe a part of a data set."""
        return Images(
            dataset=dataset.name,
            title=dataset.title,
            source=dataset.source,
            scale=dataset.scale,
            part=part,
            split_seed=seed,
            types=None if types is None else tuple(types),
        )


@dataclass(frozen=True, kw_only=True)
class Report:
    """The outcome of one evaluation.

    Attributes
    ----------
    artefact, images
        What was judged, and on what.
    backend, provider, device
        Where it ran.
    computed_in
        What operators on floats computed in.
    groups
        Distortion types by name of the group.
    resamples, bootstrap_seed
        Of the intervals.
    rows
        The numbers.
    failures
        Images without a score; the numbers leave them out.
    """

    artefact: Artefact
    images: Images
    backend: str
    provider: str
    device: str
    computed_in: str
    groups: dict[str, list[str]]
    resamples: int
    bootstrap_seed: int
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]

    @property
    def title(self) -> str:
        """One line that says what was judged on what."""
        artefact, images = self.artefact, self.images
        part = "" if images.part == "all" else f", {images.part} (seed {images.split_seed})"
        untrained = "" if artefact.trained else " - UNTRAINED"
        return (
            f"{artefact.file} ({artefact.model} {artefact.variant} {artefact.task} {artefact.precision}) "
            f"on {images.title}{part}{untrained}"
        )

    def write(self, path: Path) -> None:
        """Write the report as JSON.

        Raises
        ------
        FileError
            If the file cannot be written.
        """
        content: dict[str, Any] = {
            "host": {"machine": platform.machine(), "system": platform.system()},
            "versions": versions_of(LIBRARIES),
            "confidence": CONFIDENCE,
            "resampled": "contents",
            **msgspec.to_builtins(self),
        }
        _write(path, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")

    def show(self, console: Console) -> None:
        """Print the numbers as a table; a missing one is a dash, its reason is in the JSON."""
        table = Table(title=Text(self.title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("images")
        table.add_column("n", justify="right")
        table.add_column("method")
        for heading in COLUMNS.values():
            table.add_column(heading, justify="right", no_wrap=True)
        previous = None
        for row in self.rows:
            if previous not in (None, row.images):
                table.add_section()
            cells = [_cell(getattr(row.agreement, name), name in WITH_INTERVAL) for name in COLUMNS]
            first = row.images != previous
            table.add_row(
                Text(row.images if first else ""), str(row.agreement.images) if first else "", Text(row.method), *cells
            )
            previous = row.images
        console.print(table)
        console.print(
            f"brackets: {CONFIDENCE:.0%} interval over contents, {self.resamples} resamples; PLCC and RMSE after the "
            "logistic; RMSE on human scores of 0 to 1"
        )


def write_scores(path: Path, judged: Judged) -> None:
    """Write a CSV with a line for every scored image: its name, type, content, human score and the methods' scores.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    lines: list[list[object]] = [
        ["distorted", "type", "content", "published", "human", *(method.name for method in judged.methods)]
    ]
    for sample, scores in zip(judged.samples, judged.scores.T, strict=True):
        numbers = [score if math.isfinite(score) else "" for score in scores.tolist()]
        lines.append([sample.distorted, sample.distortion, sample.content, sample.raw, sample.mos, *numbers])
    try:
        with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(lines)
    except OSError as error:
        raise _not_written(path, error) from error


def _cell(statistic: Statistic, with_interval: bool) -> str:
    if statistic.value is None:
        return "-"
    if not with_interval or statistic.low is None or statistic.high is None:
        return f"{statistic.value:.3f}"
    # Parentheses, because rich reads square brackets as markup.
    return f"{statistic.value:.3f} ({statistic.low:.3f} to {statistic.high:.3f})"


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: Path, error: OSError) -> FileError:
    return FileError(f"{path}: cannot be written ({error.strerror}); choose another ``output``")
