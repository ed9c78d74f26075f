"""Score pictures and videos in one stream: a row a frame, and one for the whole of a video."""

from __future__ import annotations

import math
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import numpy as np

from iqa_runtime.commands.rows import Row, frame_path
from iqa_runtime.contract import ColorSpace
from iqa_runtime.errors import ImageError, IqaError, one_line
from iqa_runtime.images.loading import Source, source_name
from iqa_runtime.images.named import NamedImage
from iqa_runtime.measuring import mean_of
from iqa_runtime.percentiles import percentile
from iqa_runtime.results import Score
from iqa_runtime.scorer import Scorer
from iqa_runtime.scoring.pooling import pooled
from iqa_runtime.scoring.preparation import without_frames
from iqa_runtime.scoring.time_limits import TimeLimit, interruptible
from iqa_runtime.video.containers import HEAD_BYTES, is_video
from iqa_runtime.video.reading import ClipFrame, check_every, read_frames

_SAME_TIME = 0.0015  # seconds: Matroska rounds times to milliseconds, MP4 does not

_Value = TypeVar("_Value")


def clip_key(artefact_key: str, every: float) -> str:
    """Return the `artefact` of a video's row: which frames were taken decides its score, too."""
    return f"{artefact_key}:every:{every:g}"


@dataclass(frozen=True, slots=True)
class Scored:
    """A result on its way to a row.

    Attributes
    ----------
    image
        The name of the input it belongs to.
    source
        What was read for it.
    result
        Of an image, a frame or a video.
    is_frame
        Whether it is a frame: then others of the same input follow.
    p05
        Of a video, the 5th percentile of its frames' scores.
    is_clip
        Whether it is a video.
    """

    image: str
    source: Source
    result: Score
    is_frame: bool = False
    is_clip: bool = False
    p05: float | None = None

    def row(self) -> Row:
        """Return the row."""
        return self.result.row() | ({} if self.p05 is None else {"p05": self.p05})


@dataclass(slots=True)
class _Clip:
    """What is known so far about a video."""

    path: str
    source: Source
    every: float
    results: list[Score] = field(default_factory=list)
    error: IqaError | None = None


@dataclass(frozen=True, slots=True)
class _Expected:
    """A result that is to come: of an image, of a frame, or, with a clip and no frame, of a video that has been read.

    `seconds` is what it took to come to the frame.
    """

    path: str
    source: Source
    clip: _Clip | None = None
    frame: ClipFrame | None = None
    seconds: float = 0.0


class ClipScorer:
    """Scores images and videos, in order.

    Parameters
    ----------
    scorer
        For images and frames.
    every
        Seconds between the frames of a video that are scored; None takes every input for an image.
    pixel_limit
        Most pixels a frame may have.
    timeout
        Seconds that it may take to come to the next frame to score; None for any time.
    """

    def __init__(self, scorer: Scorer, *, every: float | None, pixel_limit: int, timeout: float | None) -> None:
        image = scorer.contract.input("image")
        color_space: ColorSpace = "sRGB" if image is None else image.color_space
        self._scorer, self._every = scorer, every
        self._limit = None if timeout is None else TimeLimit(timeout)
        self._read = partial(read_frames, pixel_limit=pixel_limit, color_space=color_space, threads=scorer.threads)
        if every is not None:
            check_every(every)
        self._expected: deque[_Expected] = deque()
        self._references: deque[Source | None] = deque()

    @property
    def overdue(self) -> int:
        """How many videos are still being decoded though the time of a frame was over."""
        return 0 if self._limit is None else self._limit.overdue

    def score(self, pairs: Iterable[tuple[Source, Source | None]], *, compared: bool) -> Iterator[Scored]:
        """Score inputs in order; of a video its frames come first, then the video.

        Parameters
        ----------
        pairs
            Images and videos, each with its reference. They are taken as `Scorer.score_many` takes images.
        compared
            Whether there are references.

        Raises
        ------
        UsageError
            At once, if references are missing or superfluous.
        """
        taken = self._taken_references() if compared else None
        return self._scored(self._scorer.score_many(self._sources(pairs), taken))

    def _scored(self, results: Iterator[Score]) -> Iterator[Scored]:
        for result in results:
            yield from self._ended_clips()
            expected = self._expected.popleft()
            clip, frame = expected.clip, expected.frame
            if clip is None or frame is None:
                yield Scored(expected.path, expected.source, result)
                continue
            result = replace(
                result,
                path=frame_path(clip.path, frame.time),
                color=frame.color,
                milliseconds=result.milliseconds + 1000 * expected.seconds,
            )
            clip.results.append(replace(result, patch_scores=(), map=None, preview=None, reference_preview=None))
            yield Scored(clip.path, clip.source, result, is_frame=True)
            yield from self._ended_clips()
        yield from self._ended_clips()

    def _ended_clips(self) -> Iterator[Scored]:
        while self._expected and self._expected[0].clip is not None and self._expected[0].frame is None:
            clip = self._expected.popleft().clip
            if clip is not None:
                yield self._total(clip)

    def _sources(self, pairs: Iterable[tuple[Source, Source | None]]) -> Iterator[Source]:
        for source, reference in pairs:
            image, file = source_name(source) or "image", _file_of(source)
            if self._every is None or file is None or not _begins_as_video(file):
                self._expected.append(_Expected(image, source))
                self._references.append(reference)
                yield source
                continue
            clip = _Clip(image, source, self._every)
            began = perf_counter()
            try:
                for frame, other in self._frames(file, reference, clip.every):
                    without_pixels = frame._replace(pixels=_NO_PIXELS)
                    self._expected.append(_Expected(image, source, clip, without_pixels, perf_counter() - began))
                    self._references.append(other)
                    yield frame.pixels
                    began = perf_counter()
            except IqaError as error:
                clip.error = without_frames(error)
            except Exception as error:
                # A decoder's surprise must cost no other input its score; anything typed was caught above.
                clip.error = ImageError(f"{image}: cannot be read ({type(error).__name__}: {one_line(error)})")
            self._expected.append(_Expected(image, source, clip))

    def _taken_references(self) -> Iterator[Source | None]:
        while self._references:  # each is there once its image has been taken
            yield self._references.popleft()

    def _frames(self, path: str, reference: Source | None, every: float) -> Iterator[tuple[ClipFrame, Source | None]]:
        """Yield the frames of a video, each with that of its reference which is shown at the same time."""
        frames = self._next_ones(path, every)
        if reference is None:
            yield from ((frame, None) for frame in frames)
            return
        other_path = _file_of(reference)
        if other_path is None:
            raise ImageError(f"{path}: the reference of a video is a file of this host; give the path of one")
        others = self._next_ones(other_path, every)
        for frame in frames:
            other = next(others, None)
            if other is None or abs(other.time - frame.time) > _SAME_TIME:
                found = "ends before" if other is None else f"has one at {other.time:.3f} s instead"
                raise ImageError(
                    f"{path}: its frame at {frame.time:.3f} s has none in its reference {other_path}, which {found}; "
                    "give a reference of the same frame rate and length"
                )
            yield frame, other.pixels
        if next(others, None) is not None:
            raise ImageError(f"{path}: it ends before its reference {other_path}; give one of the same length")

    def _next_ones(self, path: str, every: float) -> Iterator[ClipFrame]:
        """Yield the frames of a video, as long as each is there in time."""
        frames = self._read(path, every=every)
        advance = partial(next, frames, None)
        while True:
            try:
                frame = interruptible(advance) if self._limit is None else self._limit.call(advance)
            except TimeoutError as error:
                raise ImageError(f"{path}: its next frame is {error}") from error
            except (MemoryError, ImportError) as error:
                raise ImageError(f"{path}: its decoder finds no room ({one_line(error)}); shrink it") from error
            if frame is None:
                return
            yield frame

    def _total(self, clip: _Clip) -> Scored:
        """Return the result of a whole video."""
        results = clip.results
        values = [result.value for result in results if result.value is not None]
        error = clip.error
        if error is not None and results:
            error = type(error)(f"{error} (frames up to {results[-1].path} stand)")
        elif error is None and len(values) < len(results):
            first = next(result.error for result in results if result.error is not None)
            error = ImageError(f"{clip.path}: {len(results) - len(values)} of {len(results)} frames failed: {first}")
        contract = self._scorer.contract
        value = None if error else pooled(values, "mean")
        total = Score(
            path=clip.path,
            value=value,
            percentile=None if value is None else percentile(contract.score, value),
            range=contract.score.range,
            higher_is_better=contract.score.higher_is_better,
            trained=contract.weights.trained,
            artefact=clip_key(self._scorer.artefact_key, clip.every),
            backend=f"{self._scorer.backend_name} {self._scorer.provider}",
            width=_common([result.width for result in results]),
            height=_common([result.height for result in results]),
            color=_common([result.color for result in results]),
            patches=0 if error else sum(result.patches for result in results),
            milliseconds=math.fsum(result.milliseconds for result in results),
            distortions=None if error else _mean([result.distortions for result in results]),
            measures=None if error else mean_of([each.measures for each in results if each.measures is not None]),
            error=error,
        )
        return Scored(clip.path, clip.source, total, is_clip=True, p05=None if error else pooled(values, "p05"))


def _mean(frames: list[dict[str, float] | None]) -> dict[str, float] | None:
    """Return the mean of each probability over the frames; None where they have none."""
    named = [frame for frame in frames if frame is not None]
    return {name: pooled([frame[name] for frame in named], "mean") for name in named[0]} if named else None


_NO_PIXELS = np.empty((0, 0, 3), np.uint8)


def _common(values: Sequence[_Value | None]) -> _Value | None:
    """Return what all frames have in common; None if they differ."""
    return values[0] if len(set(values)) == 1 else None


def _file_of(source: Source) -> str | None:
    """Return the path of what is a file of this host; None for anything else."""
    if isinstance(source, NamedImage):
        return source.file
    return source if isinstance(source, str) else None


def _begins_as_video(path: str) -> bool:
    """Tell a video from an image; what cannot be read is left to whoever reads images, to say why."""
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            return False
        with Path(path).open("rb") as file:
            return is_video(file.read(HEAD_BYTES))
    except (OSError, ValueError):
        return False
