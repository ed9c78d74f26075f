"""How far two sets of scores of the same images agree."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_LOW, _HIGH = 5.0, 95.0
"""Percentiles between which the spread lies: a single odd image must not widen what is allowed."""


def spread_of(scores: NDArray[np.float64]) -> float:
    """Distance from the 5th to the 95th percentile; 0 if all are alike. Differences are told as shares of it."""
    low, high = np.percentile(scores, [_LOW, _HIGH])
    return float(high - low)


def pearson(left: NDArray[np.float64], right: NDArray[np.float64]) -> float | None:
    """Pearson's correlation of two vectors; None if one is constant."""
    left, right = left - left.mean(), right - right.mean()
    norm = math.sqrt(float(left @ left)) * math.sqrt(float(right @ right))
    return min(1.0, max(-1.0, float(left @ right) / norm)) if norm > 0 else None


def spearman(left: NDArray[np.float64], right: NDArray[np.float64]) -> float | None:
    """Spearman's correlation: Pearson's of the ranks, equal values sharing the mean of theirs."""
    return pearson(_ranks(left), _ranks(right))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[place]
    return ranks


def order_agreement(
    left: NDArray[np.float64], right: NDArray[np.float64], ladders: Sequence[Sequence[int]]
) -> float | None:
    """Share of the pairs within ladders that both score vectors put in the same order; None if there are no pairs."""
    agree = [
        np.sign(left[first] - left[second]) == np.sign(right[first] - right[second])
        for ladder in ladders
        for place, first in enumerate(ladder)
        for second in ladder[place + 1 :]
    ]
    return float(np.mean(agree)) if agree else None
