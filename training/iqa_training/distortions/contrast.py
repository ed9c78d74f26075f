"""Sharpness and contrast: too much of an unsharp mask, and curves that steepen or flatten the middle tones."""

from __future__ import annotations

import cv2
import numpy as np

from .pixels import Image, apply_curve, from_lab, to_lab

_SHARPEN_SIGMA = 3
"""Standard deviation of the unsharp mask in pixels: the radius of KADID-10k, as MATLAB's imsharpen understands it."""
NEUTRAL_CONTRAST = -0.2
"""The amount at which `contrast_change` is the identity: 0.25 - amount / 4 is then 0.3."""


def high_sharpen(image: Image, amount: float) -> Image:
    """Add `amount` times the difference between L of CIE L*a*b* and its Gaussian blur to L."""
    lab = to_lab(image)
    size = 4 * _SHARPEN_SIGMA + 1
    lightness = lab[..., 0]
    blurred = cv2.GaussianBlur(lightness, (size, size), _SHARPEN_SIGMA, borderType=cv2.BORDER_REPLICATE)
    lab[..., 0] = np.clip(lightness + amount * (lightness - np.asarray(blurred)), 0, 100)
    return from_lab(lab)


def contrast_change(image: Image, amount: float) -> Image:
    """Bend the tones by the cubic spline through (0.3, 0.25 - `amount` / 4), (0.7, 0.75 + `amount` / 4) and 0, 0.5, 1.

    Above -0.2 the contrast of the middle tones grows, below it shrinks. The knots are symmetric about (0.5, 0.5), so
    the spline with not-a-knot ends, which KADID-10k uses, is one odd cubic about this point, `b u + d u**3`.
    """
    u = np.arange(256) / 255 - 0.5
    d = -(0.25 + 1.25 * amount) / 0.21
    b = 1 - 0.25 * d
    return apply_curve(image, 0.5 + b * u + d * u**3)


def contrast_scaling(image: Image, octaves: float) -> Image:
    """Scale the distance of every channel value to the picture's mean by 2 ** `octaves`."""
    mean = float(image.mean()) / 255
    return apply_curve(image, mean + (np.arange(256) / 255 - mean) * 2**octaves)
