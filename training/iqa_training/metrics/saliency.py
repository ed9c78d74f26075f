"""VSI: similarity of visual saliency, gradients and chrominance (Zhang, Shen and Li, TIP 2014)."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from iqa_training.metrics.phase_congruency import frequencies, log_gabor
from iqa_training.metrics.planes import (
    Plane,
    block_mean,
    check_pair,
    downsampling_factor,
    lmn,
    scharr,
    similarity,
    weighted_mean,
)

_SALIENCY, _GRADIENT, _CHROMINANCE = 1.27, 386.0, 130.0
_GRADIENT_POWER, _CHROMINANCE_POWER = 0.40, 0.02

_SIDE = 256
_CENTRE_FREQUENCY, _BANDWIDTH = 0.021, 1.34
_CENTRE_SIGMA, _WARMTH_SIGMA = 145.0, 0.001
_COLOURLESS = 0.01
"""CIELAB units; a channel that spans less holds rounding alone (one step of one uint8 pixel spans 0.1 and more)."""

# Linear sRGB to CIE XYZ under D65, each row over the D50 white that the authors divide by.
_XYZ = np.array(
    [(0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041)]
) / np.array([[0.9642], [1.0], [0.8251]])
_LAB = np.array([(0, 116, 0), (500, -500, 0), (0, 200, -200)], dtype=np.float32)
_CIE_EPSILON, _CIE_KAPPA = 0.008856, 903.3


def vsi(reference: NDArray[np.uint8], distorted: NDArray[np.uint8], *, downsample: int | None = None) -> float:
    """Return VSI, the visual-saliency-induced index.

    Parameters
    ----------
    reference, distorted
        uint8 RGB, H x W x 3, at least 32 pixels a side.
    downsample
        Factor by which images and saliency maps are reduced; None: max(1, round(min(H, W) / 256)), as the authors do.

    Returns
    -------
    float
        0 to 1, higher is better; 1 for identical images.

    Raises
    ------
    UsageError
        If the images cannot be compared, or `downsample` does not fit them.
    """
    check_pair(reference, distorted)
    factor = downsampling_factor(reference, downsample)
    saliency1, saliency2 = (block_mean(saliency(image), factor) for image in (reference, distorted))
    l1, m1, n1 = lmn(block_mean(reference, factor))
    l2, m2, n2 = lmn(block_mean(distorted, factor))
    chrominance = similarity(m1, m2, _CHROMINANCE) * similarity(n1, n2, _CHROMINANCE)
    quality = (
        similarity(saliency1, saliency2, _SALIENCY)
        * similarity(scharr(l1), scharr(l2), _GRADIENT) ** _GRADIENT_POWER
        # Opposed colours make the product negative, its power complex; the authors keep the real part.
        * np.emath.power(chrominance, _CHROMINANCE_POWER).real
    )
    return weighted_mean(quality, np.maximum(saliency1, saliency2))


def saliency(image: NDArray[np.uint8]) -> Plane:
    """Return the saliency map SDSP of an image (Zhang, Gu and Li, ICIP 2013): band-passed colour, centre, warmth.

    Computed at 256 x 256 and brought back to the image's size by bilinear interpolation.

    Parameters
    ----------
    image
        uint8 RGB, H x W x 3.

    Returns
    -------
    numpy.ndarray
        float32, H x W, 0 to 1. Zero throughout for a flat image; where both colours are constant but lightness is
        not, the authors' warmth is 0 / 0 and counts as 1 here.
    """
    height, width = image.shape[:2]
    lab = _lab(_resize(image.astype(np.float32), _SIDE, _SIDE))
    band_passed = fft.irfft2(fft.rfft2(lab) * _band(), s=(_SIDE, _SIDE))
    contrast = np.sqrt((band_passed**2).sum(axis=0))
    small = contrast * _centre() * _warmth(lab[1:])
    result = _resize(small, height, width)
    low, high = float(result.min()), float(result.max())
    # A flat image leaves rounding, which must not be stretched to the full range.
    return (result - low) / (high - low) if high - low > _COLOURLESS else np.zeros_like(result)


def _resize(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    shrinks = height < image.shape[0] or width < image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), dtype=np.float32)


def _lab(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert sRGB, 0 to 255, to CIELAB with the authors' mixture of D65 primaries and D50 white, channels first."""
    scaled = image / 255
    linear = np.where(scaled <= 0.04045, scaled / 12.92, cv2.pow((scaled + 0.055) / 1.055, 2.4))
    xyz = cv2.transform(linear.astype(np.float32), _XYZ.astype(np.float32))
    stretched = np.where(xyz > _CIE_EPSILON, cv2.pow(xyz, 1 / 3), (_CIE_KAPPA * xyz + 16) / 116)
    # Without the usual -16 of lightness, which the band-pass takes away.
    return np.stack(cv2.split(cv2.transform(stretched.astype(np.float32), _LAB)))


def _warmth(ab: NDArray[np.float32]) -> Plane:
    spans = [float(np.ptp(channel)) for channel in ab]
    scaled = [(c - c.min()) / span for c, span in zip(ab, spans, strict=True) if span > _COLOURLESS]
    if not scaled:
        return np.ones(ab.shape[1:], dtype=np.float32)
    squared = np.sum(np.square(scaled), axis=0)
    return np.asarray(1 - np.exp(-squared / _WARMTH_SIGMA**2), dtype=np.float32)


@cache
def _band() -> NDArray[np.float32]:
    y, x = np.meshgrid(frequencies(_SIDE), frequencies(_SIDE), indexing="ij")
    radius = np.hypot(x, y)
    band = np.where(radius <= 0.5, log_gabor(radius, _CENTRE_FREQUENCY, _BANDWIDTH), 0)
    return band[:, : _SIDE // 2 + 1].astype(np.float32)


@cache
def _centre() -> Plane:
    offset = np.arange(1, _SIDE + 1) - _SIDE / 2
    squared = offset[:, None] ** 2 + offset**2
    return np.exp(-squared / _CENTRE_SIGMA**2).astype(np.float32)
