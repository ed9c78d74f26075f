"""What the metrics share: their inputs, colour planes, block means, gradients and similarity maps."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import UsageError

Plane = NDArray[np.float32]
"""One channel of an image, or a map over it: float32, H x W."""

SMALLEST_SIDE = 32
"""Pixels; our choice: the widest filter of any single-scale metric here spans 17."""

_COMMON_SIDE = 256
"""Pixels of the shorter side at which the authors' viewing distance needs no downsampling (Wang et al., SSIM)."""

_LUMA = (0.299, 0.587, 0.114)
_YIQ = np.array([_LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)], dtype=np.float32)
# The Gaussian colour model with its constants rounded as MDSI and VSI print them.
_LMN = np.array([(0.06, 0.63, 0.27), (0.30, 0.04, -0.35), (0.34, -0.60, 0.17)], dtype=np.float32)


def check_pair(reference: NDArray[Any], distorted: NDArray[Any], smallest_side: int = SMALLEST_SIDE) -> None:
    """Check that two images can be compared.

    Parameters
    ----------
    reference, distorted
        uint8 RGB, H x W x 3, of one shape.
    smallest_side
        Fewest pixels of the shorter side.

    Raises
    ------
    UsageError
        If an image is of another type or shape, the shapes differ, or a side is too short.
    """
    for name, image in (("reference", reference), ("distorted", distorted)):
        if not isinstance(image, np.ndarray):
            raise UsageError(f"{name}: of type {type(image).__name__}; give a uint8 H x W x 3 RGB array")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UsageError(f"{name}: an array of {image.dtype} {image.shape}; give a uint8 H x W x 3 RGB array")
    if reference.shape != distorted.shape:
        raise UsageError(
            f"reference {reference.shape} and distorted {distorted.shape} differ in shape; a full-reference metric "
            "compares pixel by pixel: crop or resize one of them first"
        )
    if min(reference.shape[:2]) < smallest_side:
        height, width = reference.shape[:2]
        raise UsageError(
            f"reference and distorted: {width} x {height} pixels; this metric needs {smallest_side} on each side"
        )


def downsampling_factor(image: NDArray[np.uint8], downsample: int | None) -> int:
    """Return the factor by which a pair is reduced before it is compared.

    Parameters
    ----------
    image
        H x W x 3.
    downsample
        The factor itself, or None for the rule that SSIM's authors brought in and FSIM, VSI and MDSI follow:
        max(1, round(min(H, W) / 256)), halves upwards.

    Raises
    ------
    UsageError
        If the factor is not whole, below 1, or leaves fewer than 16 pixels on a side.
    """
    shorter = min(image.shape[:2])
    if downsample is None:
        return max(1, int(shorter / _COMMON_SIDE + 0.5))
    if not isinstance(downsample, int) or downsample < 1 or shorter // downsample < SMALLEST_SIDE // 2:
        raise UsageError(
            f"downsample={downsample}: give a whole factor of at least 1 that leaves {SMALLEST_SIDE // 2} pixels of "
            f"the shorter side of {shorter}, or None for the metric's own rule"
        )
    return downsample


def block_mean(image: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Average over blocks of `factor` x `factor` pixels: H x W (x C) to float32 H // factor x W // factor (x C).

    The authors filter with a box and keep every `factor`-th pixel, which for the factor of 2 is the same; rows and
    columns beyond the last whole block are left out, where the authors average them with zeros.
    """
    plane = image.astype(np.float32)
    if factor == 1:
        return plane
    height, width = plane.shape[0] // factor, plane.shape[1] // factor
    whole = plane[: height * factor, : width * factor]
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), dtype=np.float32)


def gray(image: NDArray[Any]) -> Plane:
    """Return the BT.601 luma of RGB, 0 to 255, not rounded."""
    return np.asarray(cv2.transform(image.astype(np.float32), np.array([_LUMA], dtype=np.float32)), dtype=np.float32)


def yiq(image: NDArray[Any]) -> tuple[Plane, Plane, Plane]:
    """Return luma and the two chrominances of NTSC, of RGB 0 to 255."""
    return _planes(image, _YIQ)


def lmn(image: NDArray[Any]) -> tuple[Plane, Plane, Plane]:
    """Return luminance and the two opponent colours of the Gaussian colour model, of RGB 0 to 255."""
    return _planes(image, _LMN)


def _planes(image: NDArray[Any], matrix: NDArray[np.float32]) -> tuple[Plane, Plane, Plane]:
    first, second, third = cv2.split(cv2.transform(image.astype(np.float32), matrix))
    return np.asarray(first), np.asarray(second), np.asarray(third)


def prewitt(plane: Plane) -> Plane:
    """Return the gradient magnitude by Prewitt's operator over 3; zeros lie beyond the border."""
    return _gradient(plane, np.full(3, 1 / 3))


def scharr(plane: Plane) -> Plane:
    """Return the gradient magnitude by Scharr's operator over 16; zeros lie beyond the border."""
    return _gradient(plane, np.array([3, 10, 3]) / 16)


def _gradient(plane: Plane, smoothing: NDArray[np.float64]) -> Plane:
    difference = np.array([-1.0, 0.0, 1.0])
    across, down = (
        np.asarray(cv2.sepFilter2D(plane, cv2.CV_32F, x, y, borderType=cv2.BORDER_CONSTANT), dtype=np.float32)
        for x, y in ((difference, smoothing), (smoothing, difference))
    )
    # Not cv2.magnitude: its last bit depends on where the memory lies, and MDSI's fourth root makes that visible.
    magnitude: Plane = np.sqrt(across * across + down * down)
    return magnitude


def similarity(first: Plane, second: Plane, constant: float) -> Plane:
    """Return (2 a b + C) / (a^2 + b^2 + C) pixel by pixel: 1 where both agree."""
    result = (2 * first * second + constant) / (first * first + second * second + constant)
    return np.asarray(result, dtype=np.float32)


def weighted_mean(values: NDArray[Any], weights: NDArray[np.float32]) -> float:
    """Return the weighted mean, or the plain one where every weight is zero, as they are for two flat images."""
    total = float(weights.sum(dtype=np.float64))
    if total == 0:
        return float(values.mean(dtype=np.float64))
    return float((values * weights).sum(dtype=np.float64) / total)
