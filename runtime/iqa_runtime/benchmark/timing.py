"""Repeating a piece of work and summing up how long it took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

_LEAST_ROUNDS, _MOST_ROUNDS, _WARM_UP_ROUNDS = 5, 10_000, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Times of many rounds, in milliseconds: percentiles, and how many rounds they are of."""

    p50: float
    p90: float
    p99: float
    rounds: int

    @staticmethod
    def of_seconds(seconds: Sequence[float]) -> Spread:
        """Sum up the times of one round or more, in seconds; percentiles are interpolated."""
        p50, p90, p99 = (1000 * float(value) for value in np.percentile(seconds, [50, 90, 99]))
        return Spread(p50=p50, p90=p90, p99=p99, rounds=len(seconds))


def repeat(work: Callable[[], object], seconds: float) -> Spread:
    """Time some work again and again, for so many seconds and at least five rounds, after two that don't count."""
    for _ in range(_WARM_UP_ROUNDS):
        work()
    times: list[float] = []
    while goes_on(len(times), sum(times), seconds):
        began = perf_counter()
        work()
        times.append(perf_counter() - began)
    return Spread.of_seconds(times)


def goes_on(rounds: int, spent: float, seconds: float) -> bool:
    """Return whether another round is due after so many, which took `spent` of the `seconds` there are."""
    return rounds < _LEAST_ROUNDS or (spent < seconds and rounds < _MOST_ROUNDS)
