"""The page that ``--report`` of ``iqa-run`` writes: what it says, where it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from iqa_runtime import Scorer
from iqa_runtime.backends import BACKEND_PACKAGES
from iqa_runtime.benchmark.host import versions_of
from iqa_runtime.commands.check import describe
from iqa_runtime.commands.process import undisturbed
from iqa_runtime.commands.rows import Row
from iqa_runtime.contract import Contract
from iqa_runtime.errors import FileError, IqaError
from iqa_runtime.files.overwriting import Named, rewritten
from iqa_runtime.images.header import Frame
from iqa_runtime.images.loading import Target, load_with_color
from iqa_runtime.report.pictures import MOST_INSIDE, Beside, Looks, Sizes, inside, pictures_beside
from iqa_runtime.report.writer import About, ReportWriter
from iqa_runtime.results import Score
from iqa_runtime.scoring.resizing import shrunk, shrunk_size

_LIBRARIES = ("numpy", "opencv-python-headless", "opencv-python", *BACKEND_PACKAGES)


def has_heat_maps(contract: Contract) -> bool:
    """Whether results of an artefact can have quality maps."""
    return len(contract.inputs[0].shape) == 4 and any(output.name == "quality_map" for output in contract.maps)


@dataclass(frozen=True, slots=True)
class ReportPlan:
    """What a page will hold, as far as that is known before anything is scored.

    Attributes
    ----------
    path
        Of the page.
    images
        How many it will show; None where that is not known, because frames of videos are among them.
    pictures
        Images, references and restored images that it will show.
    pixel_limit, frame
        As in `iqa_runtime.Scorer`, for images of an earlier run, which are read again.
    """

    path: Path
    images: int | None
    pictures: int
    pixel_limit: int
    frame: Frame | None

    @property
    def is_inside(self) -> bool:
        """Whether the pictures are in the page itself."""
        return self.images is not None and self.images <= MOST_INSIDE

    @property
    def sizes(self) -> Sizes:
        """Sizes of the pictures."""
        return Sizes.of_report(self.pictures, inside=self.is_inside)

    @property
    def folder(self) -> Path:
        """Where the pictures are if they are not in the page; browsers call what belongs to a saved page alike."""
        return self.path.with_name(f"{self.path.stem}_files")

    def targets(self) -> Iterator[Named]:
        """Yield what will be written or removed."""
        yield "--report", self.path
        if not self.is_inside:
            yield from (("--report", picture) for picture in pictures_beside(self.folder))

    def look_again(self, image: str) -> Looks:
        """Return what can be shown of an image that was scored before; nothing if it cannot be read any more."""
        longest = self.sizes.longest
        target = Target(size=partial(shrunk_size, longest), draft=True)
        try:
            loaded = load_with_color(image, pixel_limit=self.pixel_limit, target=target, frame=self.frame)
        except IqaError:
            return Looks()
        return Looks(image=shrunk(loaded.pixels, longest))


class Report:
    """The page of one run; without one nothing happens.

    Attributes
    ----------
    summary, interrupted
        What it says at its foot, and whether the run was ended before its end; to be set before the page is.
    added
        Keys that its rows get at the end, one mapping a row; likewise.
    """

    def __init__(self, plan: ReportPlan | None, writer: ReportWriter | None) -> None:
        self._plan, self._writer = plan, writer
        self.summary, self.interrupted = "", False
        self.added: Sequence[Row] = ()

    def keep(self, rows: Sequence[Row], place: Callable[[str], str]) -> None:
        """Show rows of an earlier run; `place` returns where an image is that a row names."""
        if self._plan is not None:
            for row in rows:
                self._write(row, partial(self._plan.look_again, place(row["path"])))

    def write(self, row: Row, result: Score) -> None:
        """Show a row of this run."""
        self._write(row, partial(Looks.of_score, result))

    def _write(self, row: Row, look: Callable[[], Looks]) -> None:
        if self._writer is not None and self._plan is not None:
            with _telling(self._plan.path):
                self._writer.write(row, look)

    def end(self) -> None:
        """Finish the page."""
        if self._writer is not None:
            self._writer.end(self.summary, interrupted=self.interrupted, added=self.added)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Say which file it was that cannot be written."""
    try:
        yield
    except OSError as error:
        if isinstance(error, IqaError):
            raise
        raise FileError(
            f"{path}: cannot write the report ({error.strerror or error}); check folder and disk"
        ) from error


@contextmanager
def open_report(plan: ReportPlan | None, scorer: Scorer, title: str) -> Iterator[Report]:
    """Write a page beside its place while rows come, and put it there when the block ends; None: write nothing.

    Raises
    ------
    FileError
        If it cannot be written; nothing has changed then.
    """
    if plan is None:
        yield Report(None, None)
        return
    beside = None if plan.is_inside else Beside(plan.folder)
    with ExitStack() as opened:
        with _telling(plan.path):
            new = opened.enter_context(rewritten(plan.path))
            # A file name that is no UTF-8 becomes an escape that JSON reads back.
            stream = opened.enter_context(new.open("x", encoding="utf-8", errors="backslashreplace", newline=""))
            writer = ReportWriter(
                stream,
                about_of(scorer, title),
                sizes=plan.sizes,
                place=inside if beside is None else beside,
                # Served by a web server it is one origin; from disk, browsers disagree on whether a file has one.
                images_from="data:" if beside is None else "data: 'self' file:",
                threads=scorer.threads,
            )
            opened.callback(writer.close)
            writer.begin()
        report = Report(plan, writer)
        yield report
        with undisturbed(), _telling(plan.path):
            report.end()
            opened.close()
            if beside is not None:
                beside.remove_others()


def about_of(scorer: Scorer, title: str) -> About:
    """Return what a page says of what scored its images."""
    contract = scorer.contract
    untrained = "The artefact is untrained (random weights): its scores only show that the pipeline runs."
    file = {"file": scorer.file.file, "SHA-256": scorer.file.sha256, "scored as": scorer.artefact_key}
    backend = {"backend": f"{scorer.backend_name} {scorer.provider}", "computed in": scorer.precision}
    return About(
        heading=f"Image quality by {contract.model} {contract.variant}",
        title=title,
        score=f"score {contract.score}",
        higher_is_better=contract.score.higher_is_better,
        notices=() if contract.weights.trained else (untrained,),
        contract=file | describe(contract),
        versions=versions_of(_LIBRARIES) | backend,
    )
