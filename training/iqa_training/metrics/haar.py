"""HaarPSI: similarity of Haar wavelet coefficients (Reisenhofer, Bosse, Kutyniok and Wiegand, 2018)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from iqa_training.metrics.planes import Plane, block_mean, check_pair, similarity, weighted_mean, yiq

_CONSTANT, _STEEPNESS = 30.0, 4.2
_FACTOR = 2
_COMPARED, _WEIGHING = (2, 4), 8
"""Sides, in pixels, of the wavelets whose coefficients are compared, and of the one that says where it matters."""


def haarpsi(reference: NDArray[np.uint8], distorted: NDArray[np.uint8]) -> float:
    """Return HaarPSI, the Haar wavelet-based perceptual similarity index, with colour.

    Both images are reduced by 2 first, as the authors do at any size (R. Reisenhofer et al., "A Haar wavelet-based
    perceptual similarity index for image quality assessment", Signal Processing: Image Communication 61, 2018).

    Parameters
    ----------
    reference, distorted
        uint8 RGB, H x W x 3, at least 32 pixels a side.

    Returns
    -------
    float
        0 to 1, higher is better; 1 for identical images.

    Raises
    ------
    UsageError
        If the images cannot be compared.
    """
    check_pair(reference, distorted)
    y1, i1, q1 = yiq(block_mean(reference, _FACTOR))
    y2, i2, q2 = yiq(block_mean(distorted, _FACTOR))
    similarities, weights = [], []
    for vertical in (False, True):
        pairs = [(_haar(y1, side, vertical), _haar(y2, side, vertical)) for side in _COMPARED]
        similarities.append(sum(similarity(a, b, _CONSTANT) for a, b in pairs) / len(pairs))
        weights.append(np.maximum(_haar(y1, _WEIGHING, vertical), _haar(y2, _WEIGHING, vertical)))
    colours = [(_mean(i1), _mean(i2)), (_mean(q1), _mean(q2))]
    similarities.append(sum(similarity(a, b, _CONSTANT) for a, b in colours) / len(colours))
    weights.append((weights[0] + weights[1]) / 2)
    squashed = 1 / (1 + np.exp(-_STEEPNESS * np.stack(similarities, dtype=np.float64)))
    pooled = weighted_mean(squashed, np.stack(weights))
    return float((np.log(pooled / (1 - pooled)) / _STEEPNESS) ** 2)


def _haar(plane: Plane, side: int, vertical: bool) -> Plane:
    step = np.repeat([1.0, -1.0], side // 2)
    mean = np.full(side, 1 / side)
    across, down = (mean, step) if vertical else (step, mean)
    return _filter(plane, across, down)


def _mean(plane: Plane) -> Plane:
    half = np.full(2, 0.5)
    return _filter(plane, half, half)


def _filter(plane: Plane, across: NDArray[np.float64], down: NDArray[np.float64]) -> Plane:
    # Where even kernels lie, and zeros beyond the border, as in the authors' two-dimensional convolution.
    anchor = (across.size // 2 - 1, down.size // 2 - 1)
    filtered = cv2.sepFilter2D(plane, cv2.CV_32F, across, down, anchor=anchor, borderType=cv2.BORDER_CONSTANT)
    return np.abs(np.asarray(filtered, dtype=np.float32))
