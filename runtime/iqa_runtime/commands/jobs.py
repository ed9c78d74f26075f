"""What one run of ``iqa-run`` scores, and where it writes: planned, and refused, before the first image is scored."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from iqa_runtime.commands.clips import clip_key
from iqa_runtime.commands.options import ScoringOptions
from iqa_runtime.commands.pictures import PictureWriter
from iqa_runtime.commands.reporting import ReportPlan
from iqa_runtime.commands.resuming import path_key, resume_from
from iqa_runtime.commands.rows import CLIP_KEYS, KEYS, STREAMED, TYPED, Format, Row, clip_of
from iqa_runtime.commands.shared import say
from iqa_runtime.commands.sources import Inputs
from iqa_runtime.commands.thresholds import Thresholds
from iqa_runtime.errors import UsageError
from iqa_runtime.files.inputs import pair_references
from iqa_runtime.files.overwriting import Named, check_targets, is_stream
from iqa_runtime.grouping import Grouping
from iqa_runtime.images.header import Frame
from iqa_runtime.scorer import Scorer

NAME = "iqa-run"


@dataclass(frozen=True, slots=True)
class Job:
    """What to score and where to write it; `keep` is None unless an earlier run is resumed."""

    inputs: Inputs
    left: list[str]
    references: str | list[str] | None
    form: Format
    output: Path | None
    keep: list[Row] | None
    every: float | None
    thresholds: Thresholds
    grouping: Grouping | None

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the rows."""
        return KEYS if self.every is None else CLIP_KEYS

    @property
    def images(self) -> list[str]:
        """What rows call the images."""
        return self.inputs.names

    def kept(self) -> Iterator[Row]:
        """Yield the rows of an earlier run that are of the images of this one, or of frames of theirs."""
        named = {path_key(path) for path in self.images}
        for row in self.keep or []:
            path = path_key(row["path"])
            if path in named or clip_of(path) in named:
                yield row


def plan_job(
    collect: Callable[[], Inputs],
    reference: str | None,
    form: Format | None,
    output: Path | None,
    resumed: bool,
    every: float | None,
    measured: bool,
    thresholds: Thresholds,
    grouping: Grouping | None,
) -> Job:
    """Find what is to be scored, and refuse options that do not go together."""
    if form is None:
        suffixes = {f".{known}": known for known in (Format.JSON, *STREAMED, *TYPED)} | {".feather": Format.ARROW}
        by_stream = Format.TABLE if output is None and sys.stdout.isatty() else Format.JSONL
        form = suffixes.get(output.suffix.lower(), by_stream) if output else by_stream
    if form in TYPED and output is None:
        raise UsageError(f"--format {form} needs --output: a file of it is whole only at the end")
    if resumed and (output is None or form not in (*STREAMED, *TYPED)):
        raise UsageError("--resume needs --output with rows that read back: --format jsonl, csv, parquet or arrow")
    if resumed and output and is_stream(output):
        raise UsageError(f"--resume: {output} is no file whose rows could be read; give another --output")
    inputs = collect()
    images = left = inputs.names
    keep = None
    if resumed and output:
        keep, left = resume_from(output, form, images, KEYS if every is None else CLIP_KEYS, measured=measured)
        say(NAME, f"{len(images) - len(left)} already scored, {len(left)} left")
    references = None if reference is None else pair_references(left, reference)
    return Job(inputs, left, references, form, output, keep, every, thresholds, grouping)


def plan_report(report: Path, job: Job, pixel_limit: int, scoring: ScoringOptions, restored: Path | None) -> ReportPlan:
    """Count the pictures of a page, of which its bytes are shared out."""
    references = {job.references} if isinstance(job.references, str) else {*(job.references or ())}
    of_each = 1 + (restored is not None) + job.inputs.has_references
    pictures = len(job.images) * of_each + len(references)
    images = len(job.images) if job.every is None else None
    return ReportPlan(report, images, pictures, pixel_limit, cast(Frame | None, scoring.frame))


def check_same_artefact(job: Job, scorer: Scorer) -> None:
    """Refuse rows of an earlier run that something else scored."""
    found = {row["artefact"] for row in job.keep or []} - {scorer.artefact_key}
    found -= {clip_key(scorer.artefact_key, job.every)} if job.every is not None else set()
    if found:
        raise UsageError(
            f"{job.output}: its rows are of another artefact, other crops or another size, or of frames at other "
            f"distances ({min(found)}, this run is {scorer.artefact_key}); give another --output"
        )


def check_overwriting(job: Job, pictures: PictureWriter, page: ReportPlan | None, artefact: Sequence[Named]) -> None:
    """Refuse to write over what the run reads, or over another of its own files."""
    references = [job.references] if isinstance(job.references, str) else job.references or []
    read = [*artefact, *job.inputs.read()]
    read += [("a reference", reference) for reference in references]
    rows: list[Named] = [("--output", job.output)] if job.output else []
    pages = [] if page is None else list(page.targets())
    check_targets([*rows, *pages, *pictures.paths(job.left)], read)
    check_targets(pages, rows)
    check_targets(pictures.paths(job.left), [*rows, *pages])
