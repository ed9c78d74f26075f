"""The gate: whether an artefact in another precision still judges quality as the float32 one does.

Both score held-back photographs and graded degradations of them, as images, not crops: crop scores are pooled as the
contract says. Differences are told as a share of the spread of the float32 scores, from their 5th to their 95th
percentile: what a score means lies in how it differs between images.

Photographs hardly reach the values where a format overflows or a small number that keeps a divisor from zero is lost;
pictures at the limits do: black, white, gray, the primary colours, a single white pixel on black.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from iqa_calibration.gate.agreement import order_agreement, pearson, spearman, spread_of
from iqa_calibration.gate.gate_set import GateSet
from iqa_runtime.contract import Precision
from iqa_runtime.errors import ArtefactError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLimits:
    """What a candidate may differ from float32.

    Attributes
    ----------
    largest, mean
        Most that the largest and the mean difference of scores may be, as a share of the spread.
    srcc
        Least Spearman correlation of the two.
    extreme
        Most that the score of a picture at the limits may differ, as a share of the spread.
    """

    largest: float
    mean: float
    srcc: float
    extreme: float

    def __post_init__(self) -> None:
        if not (min(self.largest, self.mean, self.extreme) >= 0 and -1 <= self.srcc <= 1):
            raise UsageError(f"{self}: largest, mean and extreme are shares of at least 0, srcc is -1 to 1")


LIMITS: dict[Precision, GateLimits] = {
    "fp16": GateLimits(largest=0.002, mean=0.002, srcc=0.9995, extreme=0.01),
    "bf16": GateLimits(largest=0.04, mean=0.01, srcc=0.995, extreme=0.1),
    "int8": GateLimits(largest=0.04, mean=0.01, srcc=0.995, extreme=0.4),
}
"""By precision, our choice; bfloat16 has 8 bits of mantissa, as int8 has levels, and the same limits on photographs.

Pictures at the limits may differ more: on flat ones sums cancel and normalisation enlarges what rounding left, and int8
has no range for them, as they don't calibrate. Sound artefacts of the bundled models, which all passed on photographs,
differed by up to 0.57 % in float16, 3.7 % in bfloat16 and 24 % in int8, on white; about twice that is allowed. Overflow
or a divisor of zero gives no number at all, or another score altogether.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extreme:
    """A picture at the limits: its name, and its score in float32 and in the candidate, finite or not."""

    picture: str
    fp32: float
    candidate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """The verdict and what it rests on.

    Attributes
    ----------
    passed, reasons
        Whether the candidate may take the place of the float32 artefact, and if not, why.
    limits
        What was allowed.
    photographs, images
        Size of the gate set.
    spread
        Of the float32 scores, 5th to 95th percentile.
    largest, mean
        Differences of scores as shares of the spread; None if a score is not finite or there is no spread.
    worst
        The image with the largest difference.
    extreme, extreme_picture
        Largest difference of scores of pictures at the limits, as a share of the spread, and whose it is; None as
        above, and where float32 is finite on none.
    srcc, plcc
        Spearman and Pearson correlation of the two; None where they are undefined.
    order_agreement
        Share of the pairs of one ladder that both put in the same order; reported, no limit.
    trained
        False if the weights are random: then float32 scores hardly differ between images, rounding weighs heavily
        beside that, and the verdict says nothing about the network with trained weights.
    fp32_scores, candidate_scores
        One score an image, in the order of `GateSet.renditions`; not part of the contract.
    extremes
        The scores of pictures at the limits; not part of the contract.
    """

    passed: bool
    reasons: tuple[str, ...]
    limits: GateLimits
    photographs: int
    images: int
    spread: float
    largest: float | None
    mean: float | None
    worst: str | None
    extreme: float | None
    extreme_picture: str | None
    srcc: float | None
    plcc: float | None
    order_agreement: float | None
    trained: bool
    fp32_scores: tuple[float, ...] = field(repr=False)
    candidate_scores: tuple[float, ...] = field(repr=False)
    extremes: tuple[Extreme, ...] = field(repr=False)


def compare(
    fp32_scores: NDArray[np.float64],
    candidate_scores: NDArray[np.float64],
    gate_set: GateSet,
    limits: GateLimits,
    extremes: Sequence[Extreme] = (),
) -> GateResult:
    """Judge scores, whatever made them: one an image, in the order of `GateSet.renditions`, and of pictures at limits.

    Raises
    ------
    ArtefactError
        If a float32 score is not finite.
    UsageError
        If there are more or fewer scores than images.
    """
    images = len(gate_set.renditions)
    if fp32_scores.shape != (images,) or candidate_scores.shape != (images,):
        raise UsageError(
            f"scores of shapes {fp32_scores.shape} and {candidate_scores.shape}: the gate set has {images} images"
        )
    if not np.isfinite(fp32_scores).all():
        where = gate_set.describe(int(np.argmin(np.isfinite(fp32_scores))))
        raise ArtefactError(f"the float32 score of {where} is not finite; check the weights")
    finite = bool(np.isfinite(candidate_scores).all())
    spread = spread_of(fp32_scores)
    largest = mean = worst = srcc = plcc = agreement = extreme = extreme_picture = None
    if finite:
        differences = np.abs(candidate_scores - fp32_scores)
        worst = gate_set.describe(int(differences.argmax()))
        srcc, plcc = spearman(fp32_scores, candidate_scores), pearson(fp32_scores, candidate_scores)
        agreement = order_agreement(fp32_scores, candidate_scores, gate_set.ladders)
        if spread > 0:
            largest, mean = float(differences.max() / spread), float(differences.mean() / spread)
            extreme, extreme_picture = _worst_extreme(extremes, spread)
    else:
        worst = gate_set.describe(int(np.argmin(np.isfinite(candidate_scores))))
    reasons = [*_reasons(limits, largest, mean, srcc, worst, finite=finite)]
    reasons += _reasons_at_limits(limits, extremes, extreme, extreme_picture)
    return GateResult(
        passed=not reasons,
        reasons=tuple(reasons),
        limits=limits,
        photographs=len(gate_set.photographs),
        images=images,
        spread=spread,
        largest=largest,
        mean=mean,
        worst=worst,
        extreme=extreme,
        extreme_picture=extreme_picture,
        srcc=srcc,
        plcc=plcc,
        order_agreement=agreement,
        trained=gate_set.contract.weights.trained,
        fp32_scores=tuple(fp32_scores.tolist()),
        candidate_scores=tuple(candidate_scores.tolist()),
        extremes=tuple(extremes),
    )


def _worst_extreme(extremes: Sequence[Extreme], spread: float) -> tuple[float | None, str | None]:
    shares = {
        each.picture: abs(each.candidate - each.fp32) / spread
        for each in extremes
        if math.isfinite(each.fp32) and math.isfinite(each.candidate)
    }
    picture = max(shares, key=lambda name: shares[name], default=None)
    return (None, None) if picture is None else (shares[picture], picture)


def _reasons_at_limits(
    limits: GateLimits, extremes: Sequence[Extreme], largest: float | None, picture: str | None
) -> Iterator[str]:
    """Yield what is wrong where float32 is finite; where it is not, nothing can be compared."""
    for each in extremes:
        if math.isfinite(each.fp32) and not math.isfinite(each.candidate):
            yield f"the score of {each.picture} is not finite, in float32 it is {each.fp32:.4g}"
    if largest is not None and largest > limits.extreme:
        yield f"the score of {picture} differs by {largest:.2%} of the spread, {limits.extreme:.2%} is allowed"


def _reasons(
    limits: GateLimits, largest: float | None, mean: float | None, srcc: float | None, worst: str, *, finite: bool
) -> Iterator[str]:
    if not finite:
        yield f"the score of {worst} is not finite"
        return
    if largest is None or mean is None:
        yield "the float32 scores of the gate set don't spread at all, so nothing can be compared with their spread"
        return
    if largest > limits.largest:
        yield f"largest difference {largest:.2%} of the spread ({worst}), {limits.largest:.2%} is allowed"
    if mean > limits.mean:
        yield f"mean difference {mean:.2%} of the spread, {limits.mean:.2%} is allowed"
    if srcc is None or srcc < limits.srcc:
        found = "undefined" if srcc is None else f"{srcc:.5f}"
        yield f"SRCC {found}, at least {limits.srcc:g} is required"
