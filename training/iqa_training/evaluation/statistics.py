"""How well scores agree with human scores: correlations, errors, the logistic between the scales, intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from iqa_runtime.errors import UsageError

Array = NDArray[np.float64]

MIN_IMAGES = 5
"""The logistic has four parameters, so that with fewer images its fit is perfect whatever the scores. Our choice to ask
as many for the other statistics, so that all of a row stand or fall together."""

MIN_CONTENTS = 5
"""Contents below which there is no interval: so few can be resampled in only a handful of ways. Our choice."""

CONFIDENCE = 0.95
RESAMPLES = 1000

_NEARLY_EQUAL = 1e-9
"""Spread, as a share of the largest value, below which values count as equal: the rounding of one constant."""

_FIT_CHANGE = 1e-6
"""Relative change of the squared error that ends a fit."""

_FIT_EVALUATIONS = 100
"""More of them, with a smaller change to end, moved PLCC by less than 2e-5 on random logistic, straight and exponential
relations with noise of a tenth of their range, and took many times as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logistic:
    """The four-parameter logistic of VQEG (FR-TV phase II, 2003), from scores to human scores.

    ``f(x) = (b1 - b2) / (1 + exp(-(x - b3) / |b4|)) + b2``. It rises where b1 > b2 and falls otherwise.
    """

    b1: float
    b2: float
    b3: float
    b4: float

    def __call__(self, scores: Array) -> Array:
        """Return the human scores that scores of any shape stand for."""
        with np.errstate(over="ignore"):  # infinitely far on the steepest of logistics is one of its two ends
            rise = special.expit((scores - self.b3) / abs(self.b4))
        return np.asarray(self.b2 + (self.b1 - self.b2) * rise)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """A number with its 95 % interval; `reason` says why one of them is missing."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How scores agree with human scores over some images. Correlations are positive where better scores mean better.

    Attributes
    ----------
    images, contents
        How many; intervals rest on the contents.
    srcc, krcc
        Rank correlations of Spearman and of Kendall (tau-b).
    plcc, rmse
        Pearson's correlation and the root of the mean squared error after the logistic; the error in units of the
        human scores. Where the fitted logistic runs against the score's direction, `plcc` is negative, as `srcc` is,
        instead of hiding it.
    plcc_raw, rmse_raw
        The same without the logistic; for the error, scores are put on 0 to 1 by their nominal range.
    logistic
        As fitted, in the score's own units; None where it cannot be.
    """

    images: int
    contents: int
    srcc: Statistic
    krcc: Statistic
    plcc: Statistic
    rmse: Statistic
    plcc_raw: Statistic
    rmse_raw: Statistic
    logistic: Logistic | None


STATISTICS = tuple(field.name for field in fields(Agreement) if field.name not in ("images", "contents", "logistic"))

_Measured = dict[str, float | str]
"""A number for each statistic, or the reason why there is none."""


def agreement(
    scores: Array,
    human: Array,
    contents: Sequence[str],
    *,
    higher_is_better: bool,
    nominal_range: tuple[float, float] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Measure how scores agree with human scores.

    Intervals come from a bootstrap over contents: the degraded versions of one photograph share what makes it easy or
    hard, so their errors go together; drawing single images would take them for independent and give intervals that
    are too narrow. Each resample draws as many contents as there are, with replacement, takes all images of each, and
    fits the logistic anew. Percentile intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13).
    Equal contents and seeds draw equal resamples, so that methods judged on the same images are resampled alike.

    Parameters
    ----------
    scores
        Shape (N,); may be infinite (PSNR of identical images), which leaves the rank correlations alone.
    human
        Shape (N,), 0 (worst) to 1 (best).
    contents
        The content of each image, N names.
    higher_is_better
        Direction of `scores`.
    nominal_range
        Scores that mean 0 and 1, lowest first; None where there is no such range, and then no raw error.
    resamples
        Of the bootstrap; 0 for no intervals.
    seed
        Of the bootstrap.

    Raises
    ------
    UsageError
        If the lengths differ, a score is NaN or a human score is not finite.
    """
    if not len(scores) == len(human) == len(contents):
        raise UsageError(
            f"{len(scores)} scores, {len(human)} human scores and {len(contents)} contents; give one of each per image"
        )
    if np.isnan(scores).any() or not np.isfinite(human).all():
        raise UsageError("a score is NaN or a human score not finite; leave such images out")
    sample = _Sample(scores, human, higher_is_better, nominal_range)
    start = fit_logistic(scores, human) if sample.complaint() is None and np.isfinite(scores).all() else None
    measured = sample.measure(start)
    groups = _by_content(contents)
    draws: list[_Measured] = []
    if len(groups) >= MIN_CONTENTS:
        random = np.random.default_rng(seed)
        for _ in range(resamples):
            chosen = np.concatenate([groups[index] for index in random.integers(len(groups), size=len(groups))])
            draws.append(sample.take(chosen).measure(start, refit=True))
    few = f"{len(groups)} contents; an interval needs {MIN_CONTENTS}" if len(groups) < MIN_CONTENTS else None
    return Agreement(
        images=len(scores),
        contents=len(groups),
        logistic=start,
        **{name: _statistic(measured[name], [draw[name] for draw in draws], few) for name in STATISTICS},
    )


def fit_logistic(scores: Array, human: Array, start: Logistic | None = None) -> Logistic | None:
    """Fit the logistic by least squares (Levenberg-Marquardt).

    Where scores and human scores lie on a straight line, the logistic gets ever closer to it the larger it grows,
    without end. So the fit stops after 100 evaluations, wherever it is: every step was for the better.

    Parameters
    ----------
    scores, human
        Shape (N,), finite, N at least 5, `scores` not all equal.
    start
        Where to start. None for the best of six fits, because there are local minima where scores and human scores
        hardly agree: b1 and b2 the largest and the smallest human score, as VQEG does, swapped where the linear
        correlation is negative; b3 each quartile of the scores; b4 their standard deviation and a quarter of it.

    Returns
    -------
    Logistic or None
        None if the numbers overflow.
    """
    # Steepness instead of |b4|, and scores of mean 0 and deviation 1: no division, and one tolerance for every scale.
    centre, deviation = float(scores.mean()), float(scores.std())
    x = (scores - centre) / deviation
    if start is None:
        ends = (human.max(), human.min()) if np.dot(x, human) >= 0 else (human.min(), human.max())
        initial = [[*ends, middle, steepness] for middle in np.percentile(x, [50, 25, 75]) for steepness in (1, 4)]
    else:
        initial = [[start.b1, start.b2, (start.b3 - centre) / deviation, deviation / abs(start.b4)]]

    def residuals(b: Array) -> Array:
        return np.asarray(b[1] + (b[0] - b[1]) * special.expit(b[3] * (x - b[2])) - human)

    def jacobian(b: Array) -> Array:
        rise = special.expit(b[3] * (x - b[2]))
        slope = (b[0] - b[1]) * rise * (1 - rise)
        return np.stack([rise, 1 - rise, -b[3] * slope, (x - b[2]) * slope], axis=1)

    # Where the best logistic lies at infinity a step may overflow; what comes of it is sorted out below.
    with np.errstate(over="ignore", invalid="ignore"):
        fits = [
            optimize.least_squares(residuals, b, jac=jacobian, method="lm", ftol=_FIT_CHANGE, max_nfev=_FIT_EVALUATIONS)
            for b in initial
        ]
    sound = [fit for fit in fits if np.isfinite(fit.x).all() and np.isfinite(fit.cost) and fit.x[3] != 0]
    if not sound:
        return None
    upper, lower, middle, steepness = map(float, min(sound, key=lambda fit: fit.cost).x)
    if steepness < 0:
        upper, lower, steepness = lower, upper, -steepness
    b4 = deviation / steepness
    return Logistic(b1=upper, b2=lower, b3=centre + deviation * middle, b4=b4) if 0 < b4 < math.inf else None


@dataclass(frozen=True, slots=True)
class _Sample:
    scores: Array
    human: Array
    higher_is_better: bool
    nominal_range: tuple[float, float] | None

    def take(self, chosen: NDArray[np.int64]) -> _Sample:
        return _Sample(self.scores[chosen], self.human[chosen], self.higher_is_better, self.nominal_range)

    def complaint(self) -> str | None:
        """Say why no statistic can be computed; None if some can."""
        if len(self.scores) < MIN_IMAGES:
            return f"{len(self.scores)} images; a statistic needs {MIN_IMAGES}"
        if _nearly_equal(self.scores):
            return "all scores are equal"
        return "all human scores are equal" if _nearly_equal(self.human) else None

    def measure(self, logistic: Logistic | None, *, refit: bool = False) -> _Measured:
        """Compute every statistic; `refit` starts at `logistic` and fits it to this sample."""
        complaint = self.complaint()
        if complaint is not None:
            return dict.fromkeys(STATISTICS, complaint)
        sign = 1.0 if self.higher_is_better else -1.0
        ranks: _Measured = {
            "srcc": sign * float(stats.spearmanr(self.scores, self.human).statistic),
            # The p-value is thrown away, and the exact one takes long.
            "krcc": sign * float(stats.kendalltau(self.scores, self.human, method="asymptotic").statistic),
        }
        if not np.isfinite(self.scores).all():
            infinite = "a score is infinite, which has a rank and no distance"
            return ranks | dict.fromkeys(("plcc", "rmse", "plcc_raw", "rmse_raw"), infinite)
        if refit and logistic is not None:
            logistic = fit_logistic(self.scores, self.human, logistic)
        return (
            ranks
            | self._after(logistic, sign)
            | {"plcc_raw": sign * _pearson(self.scores, self.human), "rmse_raw": self._raw_error()}
        )

    def _after(self, logistic: Logistic | None, sign: float) -> _Measured:
        if logistic is None:
            return dict.fromkeys(("plcc", "rmse"), "the logistic fit overflowed")
        mapped = logistic(self.scores)
        plcc: float | str = "the fitted logistic is flat"
        if not _nearly_equal(mapped):
            plcc = math.copysign(1.0, sign * (logistic.b1 - logistic.b2)) * _pearson(mapped, self.human)
        return {"plcc": plcc, "rmse": _root_mean_square(mapped - self.human)}

    def _raw_error(self) -> float | str:
        if self.nominal_range is None:
            return "the score has no nominal range to compare with the human one"
        low, high = self.nominal_range
        quality = (self.scores - low) / (high - low)
        return _root_mean_square((quality if self.higher_is_better else 1 - quality) - self.human)


def _statistic(value: float | str, draws: Sequence[float | str], few: str | None) -> Statistic:
    if isinstance(value, str):
        return Statistic(reason=value)
    # Resamples may lack a statistic that the sample has, as where they draw one content again and again.
    numbers = [draw for draw in draws if isinstance(draw, float)]
    if not numbers:
        return Statistic(value=value, reason=few or "no resample gives this statistic")
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(numbers, [tail, 100 - tail])
    return Statistic(value=value, low=float(low), high=float(high))


def _by_content(contents: Sequence[str]) -> list[NDArray[np.int64]]:
    """Return the indices of each content's images, contents in the order of their names."""
    _, numbers, counts = np.unique(np.asarray(contents, dtype=str), return_inverse=True, return_counts=True)
    return np.split(np.argsort(numbers, kind="stable"), np.cumsum(counts)[:-1]) if len(counts) else []


def _nearly_equal(values: Array) -> bool:
    """Tell whether values don't differ beyond rounding; equal infinities are equal."""
    low, high = values.min(), values.max()
    return bool(low == high or high - low <= _NEARLY_EQUAL * max(abs(low), abs(high)) < math.inf)


def _pearson(left: Array, right: Array) -> float:
    return float(stats.pearsonr(left, right).statistic)


def _root_mean_square(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))
