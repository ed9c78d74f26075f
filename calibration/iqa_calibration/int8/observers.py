"""Observers: from what was seen of a tensor to the range that its integers cover.

Every observer chooses one clipping magnitude T from the distribution of |x|; the range is what was seen, cut at -T and
T. A wider range clips less and rounds more coarsely.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import ArtefactError

BINS = 4096
"""Bins of a histogram on each side of zero. The limit is a power of two below twice the peak, so 2048 are in use."""

PERCENT = 99.99
"""Share of the values that `percentile` keeps: the usual choice for activations (Wu et al., 2020, table 5)."""

_LEVELS = 128
"""Magnitudes of a symmetric int8, zero among them."""

_CANDIDATES = 256
"""Clipping magnitudes that a search tries: steps of 0.4 % of the peak, finer than the flat top of either measure."""

_ENTROPY_CLIPS = 1e-3
"""Largest share of the values other than zero that `entropy` may clip: ten times and more what is best for 8 bits of a
normal (9e-5) or a Laplace distribution (5e-5; Banner et al., 2019)."""

_SMALLEST_EXPONENT = -100
"""Of a limit, so that the width of a bin is a normal float32 even for a tensor of zeros."""

_EXACT_COUNT = 2**24
"""OpenCV counts in float32, which is exact up to here."""

_ABSENT = 1e-10
"""Probability of what the quantised distribution cannot represent at all; keeps the divergence finite."""


@dataclass(frozen=True, slots=True)
class Range:
    """The values between which a tensor is quantised; `low` <= `high`."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What was seen of one tensor over a calibration set.

    Attributes
    ----------
    low, high
        Smallest and largest value.
    limit
        A power of two above every magnitude.
    counts
        Histogram over [-limit, limit), int64, shape (2 * BINS,).
    """

    low: float
    high: float
    limit: float
    counts: NDArray[np.int64]

    @property
    def peak(self) -> float:
        """The largest magnitude."""
        return max(abs(self.low), abs(self.high))

    @property
    def bin_width(self) -> float:
        """Width of a bin of the histogram."""
        return self.limit / BINS

    def magnitudes(self) -> NDArray[np.int64]:
        """Histogram of |x| from zero to the bin of the peak, int64."""
        folded = self.counts[BINS:] + self.counts[BINS - 1 :: -1]
        return folded[: min(BINS, math.floor(self.peak / self.bin_width) + 1)]

    def clipped(self, magnitude: float) -> Range:
        """Cut the observed range at a magnitude."""
        return Range(max(self.low, -magnitude), min(self.high, magnitude))

    def levels(self, symmetric: bool) -> int:
        """Count the integers that share the magnitudes from zero to the peak.

        Symmetric int8 has 128 whatever the signs; an asymmetric range gives its 256 to the side that has the values.
        """
        if symmetric or self.peak == 0:
            return _LEVELS
        return round(2 * _LEVELS * self.peak / (max(self.high, 0.0) - min(self.low, 0.0)))


class Observer(Protocol):
    """A method to choose a range; `symmetric` says that the integers will be symmetric about zero."""

    def __call__(self, observation: Observation, *, symmetric: bool = True) -> Range:
        """Choose the range of a tensor."""


def min_max(observation: Observation, *, symmetric: bool = True) -> Range:  # noqa: ARG001 - one signature for all
    """Cover every value: T = max |x|."""
    return Range(observation.low, observation.high)


def percentile(observation: Observation, *, symmetric: bool = True, percent: float = PERCENT) -> Range:  # noqa: ARG001
    """Cover a share of the values: the smallest T with P(|x| <= T) >= percent / 100, to the width of a bin.

    Source: Wu, Judd, Zhang, Isaev, Micikevicius, "Integer Quantization for Deep Learning Inference", 2020, section 5.
    """
    counts = observation.magnitudes()
    kept = np.searchsorted(np.cumsum(counts), percent / 100 * counts.sum())
    return observation.clipped((int(kept) + 1) * observation.bin_width)


def entropy(observation: Observation, *, symmetric: bool = True) -> Range:
    """Lose the least information: T minimises the divergence KL(P || Q) = sum P log(P / Q).

    P is the histogram of |x| up to T with everything beyond in its last bin; Q is the histogram up to T merged into as
    many groups as there are integer magnitudes, each group spread evenly over those of its bins that hold anything.
    The bin of zero takes the count of its neighbour: zeros are represented exactly whatever T is, and the many that a
    ReLU makes would otherwise outweigh all else and draw T towards zero.

    At most one value in a thousand is clipped. Where many pixels have one value, as in the flat parts of an image, any
    grid spreads their bin over its group; the divergence counts that as a loss, and clipping everything from that bin
    on would escape it.

    Source: Migacz, "8-bit Inference with TensorRT", GTC 2017; the bin of zero and the limit of clipping: our choices,
    by measurement on convolutional networks, which either of them else ruins.
    """
    counts = observation.magnitudes().astype(np.float64)
    levels = observation.levels(symmetric)
    if len(counts) <= levels:
        return min_max(observation)
    counts[0] = counts[1]
    if not counts.any():
        return min_max(observation)
    fewest = int(np.searchsorted(np.cumsum(counts), (1 - _ENTROPY_CLIPS) * counts.sum())) + 1
    ends = np.unique(np.linspace(max(fewest, levels), len(counts), _CANDIDATES).round().astype(int))
    best = min(ends[::-1], key=lambda end: _divergence(counts, int(end), levels))
    return observation.clipped(int(best) * observation.bin_width)


def _divergence(counts: NDArray[np.float64], end: int, levels: int) -> float:
    """Compute KL(P || Q) of clipping a histogram after `end` bins."""
    inside = counts[:end]
    total = inside.sum()
    if total == 0:
        return math.inf
    group = np.arange(end) * levels // end
    held = inside > 0
    mass = np.bincount(group, inside, levels) / np.maximum(np.bincount(group, held, levels), 1)
    quantised = np.where(held, mass[group], 0) / total
    clipped = inside / counts.sum()
    clipped[-1] += counts[end:].sum() / counts.sum()
    present = clipped > 0
    ratio = clipped[present] / np.maximum(quantised[present], _ABSENT)
    return float((clipped[present] * np.log(ratio)).sum())


def mse(observation: Observation, *, symmetric: bool = True) -> Range:
    """Least mean square error: T minimises the rounding noise inside plus the clipping noise outside.

    E(T) = P(0 < |x| <= T) step^2 / 12 + sum over |x| > T of P(x) (|x| - T)^2, with step = T / levels. Zeros are exact.

    Source: Banner, Nahshan, Soudry, "Post training 4-bit quantization of convolutional networks" (ACIQ), 2019, eq. 1-5.
    """
    counts = observation.magnitudes().astype(np.float64)
    width, levels = observation.bin_width, observation.levels(symmetric)
    counts[0] = 0
    centres = (np.arange(len(counts)) + 0.5) * width
    below = np.cumsum(counts)
    # From the far end, so that the small tails, not the large total, decide the rounding of the sums.
    tails = [np.append(np.cumsum((counts * centres**power)[::-1])[::-1], 0.0)[1:] for power in range(3)]
    thresholds = (np.arange(len(counts)) + 1) * width
    clipping = tails[2] - 2 * thresholds * tails[1] + thresholds**2 * tails[0]
    error = below * (thresholds / levels) ** 2 / 12 + clipping
    # All-zero tensors have no error anywhere; then, and in any tie, nothing is clipped.
    best = len(counts) - 1 - int(np.argmin(error[::-1]))
    return observation.clipped(float(thresholds[best]))


OBSERVERS: dict[str, Observer] = {"minmax": min_max, "percentile": percentile, "entropy": entropy, "mse": mse}


def observe(values: NDArray[np.float32], before: Observation | None = None) -> Observation:
    """Count the values of an array, on top of what was seen before; the order of the arrays makes no difference.

    The limit doubles when a larger value comes, and pairs of bins become one. Bins of a power of two place every value
    exactly, before as after a doubling.

    Parameters
    ----------
    values
        Any shape, not empty.
    before
        What was seen of the tensor until now.

    Raises
    ------
    ArtefactError
        If a value is not finite.
    """
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ArtefactError("a value is not finite; check the weights of the network and the calibration images")
    limit = math.ldexp(1.0, max(math.frexp(max(abs(low), abs(high)))[1], _SMALLEST_EXPONENT))
    counts = np.zeros(2 * BINS, np.int64)
    if before is not None:
        low, high, limit = min(low, before.low), max(high, before.high), max(limit, before.limit)
        merged = round(limit / before.limit)
        if merged < BINS:
            side = BINS // merged
            counts[BINS - side : BINS + side] = before.counts.reshape(-1, merged).sum(1)
        else:
            counts[BINS - 1 : BINS + 1] = before.counts.reshape(2, -1).sum(1)
    for chunk in np.array_split(values.reshape(1, -1), values.size // _EXACT_COUNT + 1, axis=1):
        histogram = cv2.calcHist([np.ascontiguousarray(chunk)], [0], None, [2 * BINS], [-limit, limit])
        counts += histogram.reshape(-1).astype(np.int64)
    return Observation(low, high, limit, counts)
