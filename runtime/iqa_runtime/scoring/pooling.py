"""From the scores of crops to that of their image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np

from iqa_runtime.contract import Pooling


def _mean(scores: Sequence[float]) -> float:
    """Return the mean, summed exactly, so that the order of crops cannot matter."""
    return math.fsum(scores) / len(scores)


def _low_percentile(scores: Sequence[float]) -> float:
    """Return the 5th percentile, between two scores by linear interpolation: the worst parts, but for outliers."""
    return float(np.percentile(np.asarray(scores, np.float64), 5, method="linear"))


_POOLINGS: dict[Pooling, Callable[[Sequence[float]], float]] = {
    "mean": _mean,
    "median": median,
    "min": min,
    "max": max,
    "p05": _low_percentile,
}


def pooled(scores: Sequence[float], pooling: Pooling) -> float:
    """Return the score of an image.

    Parameters
    ----------
    scores
        Of its crops: one or more, finite, in any order.
    pooling
        How, as the contract says; the median of an even number is the mean of the two in the middle, and ``p05``
        lies at ``0.05 * (n - 1)`` between the n scores in ascending order (NumPy's ``linear``).
    """
    return _POOLINGS[pooling](scores)
