"""FSIMc: similarity of phase congruency, gradients and chrominance (Zhang, Zhang, Mou and Zhang, TIP 2011)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from iqa_training.metrics.planes import (
    Plane,
    block_mean,
    check_pair,
    downsampling_factor,
    scharr,
    similarity,
    weighted_mean,
    yiq,
)

_PHASE, _GRADIENT, _CHROMINANCE = 0.85, 160.0, 200.0
_CHROMINANCE_POWER = 0.03

_SCALES, _ORIENTATIONS = 4, 4
_SHORTEST_WAVELENGTH, _WAVELENGTH_RATIO = 6, 2
_BANDWIDTH = 0.55
_ANGULAR_SIGMA = math.pi / _ORIENTATIONS / 1.2
_LOW_PASS_CUTOFF, _LOW_PASS_ORDER = 0.45, 15
_NOISE_DEVIATIONS, _NOISE_OVERESTIMATE = 2.0, 1.7
_FLAT = 1e-4
"""Amplitude below which a response is rounding, Kovesi's guard against division by zero."""


def fsim(reference: NDArray[np.uint8], distorted: NDArray[np.uint8], *, downsample: int | None = None) -> float:
    """Return FSIMc, the feature similarity with chrominance.

    Parameters
    ----------
    reference, distorted
        uint8 RGB, H x W x 3, at least 32 pixels a side.
    downsample
        Factor by which both are reduced first; None: max(1, round(min(H, W) / 256)), as the authors do.

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
    y1, i1, q1 = yiq(block_mean(reference, factor))
    y2, i2, q2 = yiq(block_mean(distorted, factor))
    phase1, phase2 = phase_congruency(y1), phase_congruency(y2)
    chrominance = similarity(i1, i2, _CHROMINANCE) * similarity(q1, q2, _CHROMINANCE)
    quality = (
        similarity(phase1, phase2, _PHASE)
        * similarity(scharr(y1), scharr(y2), _GRADIENT)
        # Opposed colours make the product negative, its power complex; the authors keep the real part.
        * np.emath.power(chrominance, _CHROMINANCE_POWER).real
    )
    return weighted_mean(quality, np.maximum(phase1, phase2))


def phase_congruency(plane: Plane) -> Plane:
    """Return the phase congruency of a luma plane by Kovesi's measure, the noise taken off.

    Log-Gabor filters at 4 scales (wavelengths of 6, 12, 24 and 48 pixels) and 4 orientations, with the settings of
    FSIM's authors (P. Kovesi, "Image features from phase congruency", Videre 1999).

    Parameters
    ----------
    plane
        float32, H x W, 0 to 255.

    Returns
    -------
    numpy.ndarray
        float32, H x W, 0 to 1; 0 where nothing but rounding responds.
    """
    bank = _filters(*plane.shape)
    responses = fft.ifft2(fft.fft2(plane) * bank.filters)  # orientations, scales, H, W
    amplitude = np.abs(responses)
    total = responses.sum(axis=1)
    strength = np.abs(total)
    direction = total.conj() / (strength + np.finfo(np.float32).eps)
    energy = strength - np.abs((responses * direction[:, None]).imag).sum(axis=1)
    # The median of the squared responses at the finest scale is robust against edges: a Rayleigh estimate of noise.
    median_power = np.median(amplitude[:, 0].reshape(_ORIENTATIONS, -1), axis=1) ** 2
    rayleigh = np.sqrt(median_power * bank.noise_gain)
    threshold = rayleigh * (math.sqrt(math.pi / 2) + _NOISE_DEVIATIONS * math.sqrt(2 - math.pi / 2))
    kept = np.maximum(energy - (threshold / _NOISE_OVERESTIMATE)[:, None, None], 0).sum(axis=0)
    congruency: Plane = (kept / np.maximum(amplitude.sum(axis=(0, 1)), _FLAT)).astype(np.float32)
    return congruency


class _FilterBank(NamedTuple):
    filters: NDArray[np.float32]
    """Orientations, scales, H, W; zero frequency first."""
    noise_gain: NDArray[np.float32]
    """By orientation: squared Rayleigh parameter of the summed noise energy for a median power of 1."""


@lru_cache(maxsize=8)
def _filters(height: int, width: int) -> _FilterBank:
    y, x = np.meshgrid(frequencies(height), frequencies(width), indexing="ij")
    radius, angle = np.hypot(x, y), np.arctan2(-y, x)
    low_pass = 1 / (1 + (radius / _LOW_PASS_CUTOFF) ** (2 * _LOW_PASS_ORDER))
    wavelengths = [_SHORTEST_WAVELENGTH * _WAVELENGTH_RATIO**scale for scale in range(_SCALES)]
    radial = np.stack([low_pass * log_gabor(radius, 1 / length, -math.log(_BANDWIDTH)) for length in wavelengths])
    spreads = []
    for orientation in range(_ORIENTATIONS):
        offset = angle - orientation * math.pi / _ORIENTATIONS
        distance = np.arctan2(np.sin(offset), np.cos(offset))
        spreads.append(np.exp(-(distance**2) / (2 * _ANGULAR_SIGMA**2)))
    filters = np.stack(spreads)[:, None] * radial
    # Summed over pixels, the squared sum of the scales' kernels is how much energy noise of power 1 leaves.
    kernels = fft.ifft2(filters).real.sum(axis=1) * math.sqrt(height * width)
    finest = (filters[:, 0] ** 2).sum(axis=(1, 2))
    noise_gain = (kernels**2).sum(axis=(1, 2)) / finest / math.log(2)
    return _FilterBank(filters.astype(np.float32), noise_gain.astype(np.float32))


def frequencies(length: int) -> NDArray[np.float64]:
    """Return the frequencies of a discrete Fourier transform, zero first, scaled as Kovesi does.

    For odd lengths the last is exactly one half, where the discrete transform's own falls short of it.
    """
    steps: NDArray[np.float64] = np.fft.ifftshift(np.arange(length) - length // 2)
    return steps / (length - length % 2)


def log_gabor(radius: NDArray[np.float64], centre: float, bandwidth: float) -> NDArray[Any]:
    """Return the radial part exp(-ln(radius / centre)^2 / (2 bandwidth^2)) of a log-Gabor filter; 0 at frequency 0."""
    logarithm = np.log(np.where(radius == 0, 1, radius) / centre)
    return np.where(radius == 0, 0, np.exp(-(logarithm**2) / (2 * bandwidth**2)))
