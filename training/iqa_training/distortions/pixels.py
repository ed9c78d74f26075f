"""What the distortions share: the array type, and the way from 8 bits to unit floats and back."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""A picture: uint8, H x W x 3, RGB."""


def to_unit(image: Image) -> NDArray[np.float32]:
    """Convert 0..255 to float32 in [0, 1]."""
    return np.asarray(image, np.float32) / np.float32(255)


def to_image(values: NDArray[Any]) -> Image:
    """Convert unit floats to uint8: clipped to [0, 1], then rounded to the nearest level."""
    return np.asarray(np.rint(np.clip(values, 0, 1) * 255), np.uint8)


def apply_curve(image: Image, curve: NDArray[np.floating]) -> Image:
    """Replace every channel value by a tone curve's.

    Parameters
    ----------
    image
        uint8, H x W x 3.
    curve
        The output for each of the 256 inputs, in [0, 1] before clipping.
    """
    return np.asarray(cv2.LUT(image, to_image(curve)), np.uint8)


def to_lab(image: Image) -> NDArray[np.float32]:
    """Convert to CIE L*a*b* (D65, sRGB primaries and gamma): L in 0..100, a and b about -127..127."""
    return np.asarray(cv2.cvtColor(to_unit(image), cv2.COLOR_RGB2Lab), np.float32)


def from_lab(lab: NDArray[np.float32]) -> Image:
    """Convert CIE L*a*b* to RGB, colours outside the gamut clipped."""
    return to_image(np.asarray(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB), np.float32))
