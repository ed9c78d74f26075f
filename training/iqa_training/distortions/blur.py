"""Blur: Gaussian, out of focus, and by motion. Beyond the border the outermost pixels are repeated."""

from __future__ import annotations

from math import ceil, cos, pi, sin

import cv2
import numpy as np
from numpy.typing import NDArray

from .pixels import Image, to_image, to_unit

_SUBPIXELS = 15
"""Samples along each side of a pixel for the share of it that a disk covers; odd, so that one is the centre."""


def gaussian_blur(image: Image, sigma: float) -> Image:
    """Blur with a Gaussian of standard deviation `sigma` in pixels, cut at two deviations as KADID-10k does."""
    size = 2 * ceil(2 * sigma) + 1
    blurred = cv2.GaussianBlur(to_unit(image), (size, size), sigma, borderType=cv2.BORDER_REPLICATE)
    return to_image(blurred)


def lens_blur(image: Image, radius: float) -> Image:
    """Blur with a uniform disk of `radius` pixels, the circle of confusion of a lens out of focus."""
    return _filter(image, _disk(radius))


def motion_blur(image: Image, length: float, rng: np.random.Generator) -> Image:
    """Blur along a line `length` pixels long whose angle is drawn from [0, 180) degrees."""
    return _filter(image, _line(length, rng.uniform(0, pi)))


def _filter(image: Image, kernel: NDArray[np.float64]) -> Image:
    return to_image(cv2.filter2D(to_unit(image), -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE))


def _disk(radius: float) -> NDArray[np.float64]:
    """Weigh each pixel by the share of it that the disk covers."""
    reach = ceil(radius - 0.5)
    size = 2 * reach + 1
    offsets = (np.arange(size * _SUBPIXELS) + 0.5) / _SUBPIXELS - size / 2
    inside = np.hypot(offsets[:, None], offsets) <= radius
    return np.asarray(inside.reshape(size, _SUBPIXELS, size, _SUBPIXELS).mean(axis=(1, 3)), np.float64)


def _line(length: float, angle: float) -> NDArray[np.float64]:
    """Weigh each pixel by one less its distance from the segment, down to zero: a line one pixel wide, smooth."""
    half = (length - 1) / 2
    reach = ceil(half)
    x, y = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    along = np.clip(x * cos(angle) + y * sin(angle), -half, half)
    distance = np.hypot(x - along * cos(angle), y - along * sin(angle))
    return np.maximum(0.0, 1.0 - distance)
