"""From the scores of crops to that of their image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median

from iqa_runtime.contract import Pooling


def _mean(scores: Sequence[float]) -> float:
    """Return the mean, summed exactly, so that the order of crops cannot matter."""
    return math.fsum(scores) / len(scores)


_POOLINGS: dict[Pooling, Callable[[Sequence[float]], float]] = {
    "mean": _mean,
    "median": median,
    "minimum": min,
    "maximum": max,
}


def pooled(scores: Sequence[float], pooling: Pooling) -> float:
    """Return the score of an image.

    Parameters
    ----------
    scores
        Of its crops: one or more, finite, in any order.
    pooling
        How, as the contract says; the median of an even number is the mean of the two in the middle.
    """
    return _POOLINGS[pooling](scores)
