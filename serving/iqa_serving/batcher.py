"""Images of many requests through one scorer, in batches that nobody waits for."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import tee
from queue import Empty, SimpleQueue
from threading import Thread

from iqa_runtime import BackendError, Score, Scorer
from iqa_runtime.errors import IqaError, ResourceError, UsageError, first_line
from iqa_runtime.images.formats import promised_pixels
from iqa_runtime.images.loading import Source, source_name
from iqa_runtime.images.named import StoredImage
from iqa_runtime.scoring.room import Room

_LOG = logging.getLogger(__name__)

_LANES = 2
"""Rounds that may run at once: the next one is decoded while the model works on the end of the last."""

_NO_LIMIT = 2**62


@dataclass(slots=True)
class _Job:
    image: Source
    reference: Source | None
    future: Future[Score]
    pixels: int = 0

    def weigh(self) -> None:
        """Find out how many pixels there are to decode; whatever prevents that, the decoder will meet it, too."""
        encoded = (each.read() if isinstance(each, StoredImage) else each for each in (self.image, self.reference))
        with suppress(Exception):
            self.pixels = sum(promised_pixels(each) for each in encoded if isinstance(each, bytes))


def _ignore(_: int) -> None:
    pass


class Batcher:
    """Scores images that come one by one, from any thread, in batches.

    Work goes in rounds: a round takes what waits in the queue, and goes on taking while anything does, as one stream of
    `iqa_runtime.Scorer.score_many`. So an image that comes alone is scored at once, and batches fill by themselves when
    many come. A score doesn't depend on what shares its batch. Nor does an error: a run of the model that fails is
    repeated for each of its images alone.

    Parameters
    ----------
    scorer
        What scores; it is closed with this.
    room
        For the pixels of images that were begun, from before they are decoded until their results are there; None for
        any number of them. Several may share one.
    on_round
        Called after every round with the number of its images, from the round's thread.
    """

    def __init__(self, scorer: Scorer, *, room: Room | None = None, on_round: Callable[[int], None] = _ignore) -> None:
        self._scorer = scorer
        self._room = Room(_NO_LIMIT) if room is None else room
        self._on_round = on_round
        self._last_sign: list[float | None] = [None] * _LANES
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._is_open = True
        self._lanes = [
            Thread(target=self._work, args=(lane,), name=f"iqa-lane-{lane}", daemon=True) for lane in range(_LANES)
        ]
        for lane in self._lanes:
            lane.start()

    @property
    def scorer(self) -> Scorer:
        """What scores."""
        return self._scorer

    @property
    def waiting(self) -> int:
        """Images that no round has taken yet."""
        return self._queue.qsize()

    @property
    def silence(self) -> float:
        """Seconds for which images have been under way without a result: of a model that hangs, ever more."""
        now = time.monotonic()
        return max((now - sign for sign in self._last_sign if sign is not None), default=0.0)

    def submit(self, image: Source, reference: Source | None = None) -> Future[Score]:
        """Have an image scored; one whose future is cancelled before its turn is passed over.

        Parameters
        ----------
        image, reference
            As in `iqa_runtime.Scorer.score`.

        Returns
        -------
        Future
            Of a `Score`; where it has no value, it holds why.

        Raises
        ------
        UsageError
            If this is closed.
        """
        if not self._is_open:
            raise UsageError("this Batcher is closed; make another one")
        job = _Job(image, reference, Future())
        self._queue.put(job)
        return job.future

    def close(self, seconds: float = math.inf) -> None:
        """Score what was submitted, then close the scorer; nothing may be submitted meanwhile.

        Parameters
        ----------
        seconds
            How long to wait for that. What hangs is left alone after it, and the scorer open, until the process ends.
        """
        self._is_open = False
        for _ in self._lanes:
            self._queue.put(None)
        over = time.monotonic() + seconds
        for lane in self._lanes:
            lane.join(None if seconds == math.inf else max(0.0, over - time.monotonic()))
        if not any(lane.is_alive() for lane in self._lanes):
            self._scorer.close()

    def _work(self, lane: int) -> None:
        left = None
        while (job := left or self._queue.get()) is not None:
            left = self._round(job, lane)

    def _round(self, first: _Job, lane: int) -> _Job | None:
        """Score a job and those that wait behind it; return one that was taken and found no room."""
        begun: deque[_Job] = deque()
        left: list[_Job] = []
        count = 0
        try:
            for result in self._scores(self._taken(first, begun, left, lane)):
                job = begun.popleft()
                # Of a run that has failed, any of its images may be the cause.
                self._end(job, self._alone(job) if isinstance(result.error, BackendError) else result, lane)
                count += 1
        except Exception:  # of one image or of none: who is to blame shows when each is scored alone
            is_taken = first.future.running() or first.future.done()
            if not is_taken and first.future.set_running_or_notify_cancel():
                begun.append(first)
            count += len(begun)
            while begun:
                job = begun.popleft()
                self._end(job, self._alone(job), lane)
        self._last_sign[lane] = None
        try:
            self._on_round(count)
        except Exception:  # who counts must not end who scores
            _LOG.exception("a round of %d images was not counted", count)
        return left[0] if left else None

    def _taken(self, first: _Job, begun: deque[_Job], left: list[_Job], lane: int) -> Iterator[_Job]:
        """Yield a job and those that wait behind it, for as long as any does and there is room."""
        job: _Job | None = first
        while job is not None:
            if not job.future.cancelled():
                job.weigh()
                if not begun:
                    self._room.take(job.pixels)
                    self._last_sign[lane] = time.monotonic()
                elif not self._room.take_now(job.pixels):
                    left.append(job)
                    return
                if job.future.set_running_or_notify_cancel():
                    begun.append(job)
                    yield job
                else:
                    self._room.give_back(job.pixels)
            try:
                job = self._queue.get_nowait()
            except Empty:
                return
        self._queue.put(None)  # it is for a lane, not for a round

    def _end(self, job: _Job, result: Score, lane: int) -> None:
        self._room.give_back(job.pixels)
        self._last_sign[lane] = time.monotonic()
        job.future.set_result(result)

    def _alone(self, job: _Job) -> Score:
        try:
            return next(self._scores([job]))
        except Exception as error:
            return self._unscored(job, error)

    def _unscored(self, job: _Job, error: Exception) -> Score:
        """Return the result of an image that no stream would score."""
        name = source_name(job.image)
        if not isinstance(error, IqaError):
            _LOG.error("an image was not scored", exc_info=error)
            kind = ResourceError if isinstance(error, MemoryError) else BackendError
            error = kind(f"{name or 'image'}: cannot be scored ({first_line(error)})")
        score = self._scorer.contract.score
        return Score(
            path=name,
            value=None,
            range=score.range,
            higher_is_better=score.higher_is_better,
            trained=self._scorer.contract.weights.trained,
            artefact=self._scorer.artefact_key,
            error=error,
        )

    def _scores(self, jobs: Iterable[_Job]) -> Iterator[Score]:
        if not self._scorer.contract.needs_reference:
            return self._scorer.score_many(job.image for job in jobs)
        images, references = tee(jobs)
        return self._scorer.score_many((job.image for job in images), (job.reference for job in references))
