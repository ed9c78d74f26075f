"""Images of many requests through one scorer, in batches that nobody waits for."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import tee
from queue import Empty, SimpleQueue
from threading import Thread

from iqa_runtime import Score, Scorer
from iqa_runtime.errors import UsageError
from iqa_runtime.images.loading import Source

_LOG = logging.getLogger(__name__)

_LANES = 2
"""Rounds that may run at once: the next one is decoded while the model works on the end of the last."""


@dataclass(frozen=True, slots=True)
class _Job:
    image: Source
    reference: Source | None
    future: Future[Score]


def _ignore(_: int) -> None:
    pass


class Batcher:
    """Scores images that come one by one, from any thread, in batches.

    Work goes in rounds: a round takes what waits in the queue, and goes on taking while anything does, as one stream of
    `iqa_runtime.Scorer.score_many`. So an image that comes alone is scored at once, and batches fill by themselves when
    many come. A score doesn't depend on what shares its batch.

    Parameters
    ----------
    scorer
        What scores; it is closed with this.
    on_round
        Called after every round with the number of its images, from the round's thread.
    """

    def __init__(self, scorer: Scorer, *, on_round: Callable[[int], None] = _ignore) -> None:
        self._scorer = scorer
        self._on_round = on_round
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._is_open = True
        self._lanes = [Thread(target=self._work, name=f"iqa-lane-{lane}", daemon=True) for lane in range(_LANES)]
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

    def submit(self, image: Source, reference: Source | None = None) -> Future[Score]:
        """Have an image scored; one whose future is cancelled before its turn is passed over.

        Parameters
        ----------
        image, reference
            As in `iqa_runtime.Scorer.score`.

        Returns
        -------
        Future
            Of a `Score`, which holds what is wrong with the image; it has an exception only where no image is to blame.

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

    def close(self) -> None:
        """Score what was submitted, then close the scorer; nothing may be submitted meanwhile."""
        self._is_open = False
        for _ in self._lanes:
            self._queue.put(None)
        for lane in self._lanes:
            lane.join()
        self._scorer.close()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            self._round(job)

    def _round(self, first: _Job) -> None:
        begun: deque[_Job] = deque()
        count = 0
        try:
            for result in self._scores(self._taken(first, begun)):
                begun.popleft().future.set_result(result)
                count += 1
        except Exception:  # of one image or of none: who is to blame shows when each is scored alone
            for job in begun:
                _settle(job, lambda job=job: next(self._scores([job])))  # type: ignore[misc]
            count += len(begun)
        try:
            self._on_round(count)
        except Exception:  # who counts must not end who scores
            _LOG.exception("a round of %d images was not counted", count)

    def _taken(self, first: _Job, begun: deque[_Job]) -> Iterator[_Job]:
        """Yield a job and those that wait behind it, for as long as any does."""
        job: _Job | None = first
        while job is not None:
            if job.future.set_running_or_notify_cancel():
                begun.append(job)
                yield job
            try:
                job = self._queue.get_nowait()
            except Empty:
                return
        self._queue.put(None)  # it is for a lane, not for a round

    def _scores(self, jobs: Iterable[_Job]) -> Iterator[Score]:
        if not self._scorer.contract.needs_reference:
            return self._scorer.score_many(job.image for job in jobs)
        images, references = tee(jobs)
        return self._scorer.score_many((job.image for job in images), (job.reference for job in references))


def _settle(job: _Job, score: Callable[[], Score]) -> None:
    try:
        job.future.set_result(score())
    except Exception as error:
        job.future.set_exception(error)
