"""Score in a process of its own what may have killed an actor, and name the image that does."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from iqa_runtime import Score
from iqa_serving.ray_data.items import Item, ItemScorer

KILLER = "it ended the process that scored it, twice; the image or its decoder may need more memory than there is"

_scorer: ItemScorer
"""Of the process that is apart."""


class ScorerApart:
    """Scores items in another process, which may be killed by them.

    Parameters
    ----------
    make
        Makes what scores them there; it can be pickled.
    """

    def __init__(self, make: Callable[[], ItemScorer]) -> None:
        self._make = make
        self._pool = self._started()

    def score(self, items: Sequence[Item]) -> Iterator[Score | Item]:
        """Yield the scores of items in order; one that kills the process is yielded as an item with its error."""
        try:
            yield from self._pool.submit(_score, items).result()
        except BrokenProcessPool:
            self._pool = self._started()
            for item in items:
                try:
                    yield from self._pool.submit(_score, [item]).result()
                except BrokenProcessPool:
                    self._pool = self._started()
                    yield item._replace(image=None, error=KILLER)

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()

    def _started(self) -> ProcessPoolExecutor:
        # Not forked: threads of this process would not be in it, and locks may be held for ever.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, mp_context=context, initializer=_open, initargs=(self._make,))


def _open(make: Callable[[], ItemScorer]) -> None:
    global _scorer
    _scorer = make()


def _score(items: Sequence[Item]) -> list[Score]:
    return list(_scorer.score(items))
