"""PSNR, and the metrics of local means, variances and covariances: SSIM, MS-SSIM and VIF, all on luma."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from iqa_training.metrics.planes import block_mean, check_pair, downsampling_factor, gray

_PEAK = 255.0
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
_WINDOW, _SIGMA = 11, 1.5
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_MS_SSIM_SIDE = _WINDOW * 2 ** (len(_SCALE_WEIGHTS) - 1)
_VIF_WINDOWS = (17, 9, 5, 3)
_VIF_NOISE = 2.0
_VIF_SIDE = 64
"""Pixels; our choice: leaves the coarsest of the four scales a few windows."""
_VIF_EPSILON = 1e-10


def psnr(reference: NDArray[np.uint8], distorted: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio of BT.601 luma, peak 255.

    Parameters
    ----------
    reference, distorted
        uint8 RGB, H x W x 3, at least 32 pixels a side.

    Returns
    -------
    float
        Decibels, higher is better; infinity for identical luma.

    Raises
    ------
    UsageError
        If the images cannot be compared.
    """
    check_pair(reference, distorted)
    error = np.square(gray(reference) - gray(distorted), dtype=np.float64).mean()
    return float(10 * np.log10(_PEAK**2 / error)) if error > 0 else float("inf")


def ssim(reference: NDArray[np.uint8], distorted: NDArray[np.uint8], *, downsample: int | None = 1) -> float:
    """Return the structural similarity (Wang, Bovik, Sheikh and Simoncelli, TIP 2004), mean over the valid windows.

    Parameters
    ----------
    reference, distorted
        uint8 RGB, H x W x 3, at least 32 pixels a side.
    downsample
        Factor by which both are reduced first; 1, the default, is SSIM as published, None the rule of the authors'
        later code, max(1, round(min(H, W) / 256)).

    Returns
    -------
    float
        -1 to 1, higher is better; 1 for identical images.

    Raises
    ------
    UsageError
        If the images cannot be compared, or `downsample` does not fit them.
    """
    check_pair(reference, distorted)
    factor = downsampling_factor(reference, downsample)
    luminance, contrast = _ssim_maps(*(_luma(block_mean(image, factor)) for image in (reference, distorted)))
    return float((luminance * contrast).mean())


def ms_ssim(reference: NDArray[np.uint8], distorted: NDArray[np.uint8]) -> float:
    """Return the multi-scale structural similarity over five scales (Wang, Simoncelli and Bovik, Asilomar 2003).

    Parameters
    ----------
    reference, distorted
        uint8 RGB, H x W x 3, at least 176 pixels a side: the 11-pixel window must fit the coarsest scale.

    Returns
    -------
    float
        0 to 1, higher is better; 1 for identical images. A scale whose mean contrast similarity is negative counts
        as 0, since its power is not real.

    Raises
    ------
    UsageError
        If the images cannot be compared.
    """
    check_pair(reference, distorted, _MS_SSIM_SIDE)
    first, second = _luma(reference), _luma(distorted)
    score = 1.0
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        luminance, contrast = _ssim_maps(first, second)
        coarsest = scale == len(_SCALE_WEIGHTS) - 1
        mean = (luminance * contrast if coarsest else contrast).mean()
        score *= max(float(mean), 0.0) ** weight
        if not coarsest:
            first, second = (block_mean(plane, 2).astype(np.float64) for plane in (first, second))
    return score


def vif(reference: NDArray[np.uint8], distorted: NDArray[np.uint8]) -> float:
    """Return the visual information fidelity in the pixel domain, over four scales.

    The pixel-domain version (VIFp) that the authors published beside the wavelet one (H. R. Sheikh and A. C. Bovik,
    "Image information and visual quality", TIP 2006).

    Parameters
    ----------
    reference, distorted
        uint8 RGB, H x W x 3, at least 64 pixels a side.

    Returns
    -------
    float
        0 and up, higher is better; 1 for identical images, above 1 where contrast was enhanced. A flat reference
        holds no information; it gives 1 if the other image is flat too, else 0.

    Raises
    ------
    UsageError
        If the images cannot be compared.
    """
    check_pair(reference, distorted, _VIF_SIDE)
    first, second = _luma(reference), _luma(distorted)
    kept = available = 0.0
    for scale, size in enumerate(_VIF_WINDOWS):
        window = _gaussian(size, size / 5)
        if scale > 0:
            first, second = (_smooth(plane, window)[::2, ::2] for plane in (first, second))
        scale_kept, scale_available = _information(_moments(first, second, window))
        kept += scale_kept
        available += scale_available
    if available > 0:
        return kept / available
    return float(np.ptp(gray(distorted)) == 0)


class _Moments(NamedTuple):
    """Local statistics over the windows that lie wholly inside."""

    mean1: NDArray[np.float64]
    mean2: NDArray[np.float64]
    variance1: NDArray[np.float64]
    variance2: NDArray[np.float64]
    covariance: NDArray[np.float64]


def _luma(image: NDArray[Any]) -> NDArray[np.float64]:
    # A variance is the small difference of two large numbers: float32 would leave errors as large as C2's effect.
    return gray(image).astype(np.float64)


def _gaussian(size: int, sigma: float) -> NDArray[np.float64]:
    return np.asarray(cv2.getGaussianKernel(size, sigma), dtype=np.float64)


def _smooth(plane: NDArray[np.float64], window: NDArray[np.float64]) -> NDArray[np.float64]:
    margin = window.size // 2
    smooth = np.asarray(cv2.sepFilter2D(plane, cv2.CV_64F, window, window), dtype=np.float64)
    return smooth[margin : plane.shape[0] - margin, margin : plane.shape[1] - margin]


def _moments(first: NDArray[np.float64], second: NDArray[np.float64], window: NDArray[np.float64]) -> _Moments:
    mean1, mean2 = _smooth(first, window), _smooth(second, window)
    return _Moments(
        mean1,
        mean2,
        np.maximum(_smooth(first * first, window) - mean1 * mean1, 0),
        np.maximum(_smooth(second * second, window) - mean2 * mean2, 0),
        _smooth(first * second, window) - mean1 * mean2,
    )


def _ssim_maps(first: NDArray[Any], second: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the luminance term, and contrast and structure in one."""
    moments = _moments(first, second, _gaussian(_WINDOW, _SIGMA))
    luminance = (2 * moments.mean1 * moments.mean2 + _C1) / (moments.mean1**2 + moments.mean2**2 + _C1)
    contrast = (2 * moments.covariance + _C2) / (moments.variance1 + moments.variance2 + _C2)
    return luminance, contrast


def _information(moments: _Moments) -> tuple[float, float]:
    """Return the bits about the reference that the distorted image keeps, and those there are, summed over windows."""
    textured = moments.variance1 >= _VIF_EPSILON
    reference = np.where(textured, moments.variance1, 0)
    gain = np.where(textured, moments.covariance / (moments.variance1 + _VIF_EPSILON), 0)
    noise = moments.variance2 - gain * moments.covariance
    unrelated = gain < 0
    gain = np.where(unrelated, 0, gain)
    noise = np.maximum(np.where(unrelated | ~textured, moments.variance2, noise), _VIF_EPSILON)
    kept = np.log2(1 + gain**2 * reference / (noise + _VIF_NOISE)).sum()
    return float(kept), float(np.log2(1 + reference / _VIF_NOISE).sum())
