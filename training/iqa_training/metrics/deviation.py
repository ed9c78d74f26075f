"""GMSD and MDSI: how unevenly similarity is spread over the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iqa_training.metrics.planes import (
    block_mean,
    check_pair,
    downsampling_factor,
    gray,
    lmn,
    prewitt,
    similarity,
)

_GMSD_CONSTANT = 170.0
_GMSD_FACTOR = 2
_GRADIENT, _FUSED, _CHROMINANCE = 140.0, 55.0, 550.0
_GRADIENT_SHARE = 0.6
_POWER = 0.25


def gmsd(reference: NDArray[np.uint8], distorted: NDArray[np.uint8]) -> float:
    """Return the gradient magnitude similarity deviation (Xue, Zhang, Mou and Bovik, TIP 2014).

    On BT.601 luma, both images reduced by 2 first, as the authors do at any size.

    Parameters
    ----------
    reference, distorted
        uint8 RGB, H x W x 3, at least 32 pixels a side.

    Returns
    -------
    float
        0 to about 0.35 in practice, lower is better; 0 for identical images.

    Raises
    ------
    UsageError
        If the images cannot be compared.
    """
    check_pair(reference, distorted)
    first, second = (prewitt(gray(block_mean(image, _GMSD_FACTOR))) for image in (reference, distorted))
    return float(similarity(first, second, _GMSD_CONSTANT).std(ddof=1, dtype=np.float64))


def mdsi(reference: NDArray[np.uint8], distorted: NDArray[np.uint8], *, downsample: int | None = None) -> float:
    """Return MDSI, the mean deviation similarity index, maps combined by sum (Nafchi et al., IEEE Access 2016).

    Parameters
    ----------
    reference, distorted
        uint8 RGB, H x W x 3, at least 32 pixels a side.
    downsample
        Factor by which both are reduced first; None: max(1, round(min(H, W) / 256)), as the authors do.

    Returns
    -------
    float
        0 to about 0.7 in practice, lower is better; 0 for identical images.

    Raises
    ------
    UsageError
        If the images cannot be compared, or `downsample` does not fit them.
    """
    check_pair(reference, distorted)
    factor = downsampling_factor(reference, downsample)
    small1, small2 = block_mean(reference, factor), block_mean(distorted, factor)
    luma1, luma2 = gray(small1), gray(small2)
    _, h1, m1 = lmn(small1)
    _, h2, m2 = lmn(small2)
    gradient1, gradient2, fused = prewitt(luma1), prewitt(luma2), prewitt(np.float32(0.5) * (luma1 + luma2))
    gradients = (
        similarity(gradient1, gradient2, _GRADIENT)
        + similarity(gradient2, fused, _FUSED)
        - similarity(gradient1, fused, _FUSED)
    )
    strength1, strength2 = h1 * h1 + m1 * m1, h2 * h2 + m2 * m2
    chrominance = (2 * (h1 * h2 + m1 * m2) + _CHROMINANCE) / (strength1 + strength2 + _CHROMINANCE)
    combined = _GRADIENT_SHARE * gradients + (1 - _GRADIENT_SHARE) * chrominance
    # Negative where edges vanish or colours oppose; the authors' power is then complex and its modulus counts.
    root = np.emath.power(combined.astype(np.float64), _POWER)
    deviation = np.abs(root - root.mean()).mean()
    return float(deviation**_POWER)
