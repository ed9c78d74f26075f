"""How well probabilities of names agree with what was done to pictures; several names may be right of one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
BINS = 15
"""Of equal width, in which `calibration_error` compares: those of Guo et al., arXiv 1706.04599."""


def average_precision(probabilities: Array, right: NDArray[np.bool_]) -> float:
    """Return the mean, over the pictures that a name fits, of the precision down to each.

    Precision is the share of pictures that the name fits, among those with at least the probability of the picture
    looked at; so equal probabilities count alike, whatever their order.

    Parameters
    ----------
    probabilities
        Of the name, (N,), of any scale.
    right
        Whether it fits, (N,).

    Returns
    -------
    float
        Above 0, 1 where every picture that it fits comes before all others; NaN where it fits none.
    """
    if not right.any():
        return math.nan
    ascending = np.sort(probabilities)
    hits = np.sort(probabilities[right])
    found = len(hits) - np.searchsorted(hits, hits, "left")
    seen = len(ascending) - np.searchsorted(ascending, hits, "left")
    return float(np.mean(found / seen))


def calibration_error(probabilities: Array, right: NDArray[np.bool_]) -> float:
    """Return by how much probabilities miss the share of the pictures that a name fits.

    The expected calibration error of Guo et al., arXiv 1706.04599, equation 5, for a name by itself: probabilities
    are put into `BINS` of equal width, and the differences between their mean and that share are averaged, each with
    the number of pictures in its bin.

    Parameters
    ----------
    probabilities
        (N,), 0 to 1, N at least 1.
    right
        Whether the name fits, (N,).
    """
    bins = np.minimum((probabilities * BINS).astype(np.intp), BINS - 1)
    missed = [np.bincount(bins, values, BINS) for values in (probabilities, right.astype(np.float64))]
    return float(np.abs(missed[0] - missed[1]).sum() / len(probabilities))


def top_1(probabilities: Array, right: NDArray[np.bool_]) -> float:
    """Return the share of pictures whose likeliest name fits; both (N, K), NaN where N is 0."""
    if not len(probabilities):
        return math.nan
    return float(right[np.arange(len(right)), probabilities.argmax(1)].mean())
