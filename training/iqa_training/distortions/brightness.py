"""Brightness: curves that lift or lower the middle tones, and a constant offset."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .pixels import Image, apply_curve, from_lab, to_lab

_TONES = np.arange(256) / 255


def brighten(image: Image, amount: float) -> Image:
    """Lift the middle tone from 0.5 to 0.5 + `amount` / 2.

    Two thirds of the result come from the curve on R, G and B, one third from the curve on L of CIE L*a*b*, which keeps
    the hue; as in KADID-10k.
    """
    middle = 0.5 + amount / 2
    lab = to_lab(image)
    lab[..., 0] = 100 * np.clip(_parabola(lab[..., 0] / 100, middle), 0, 1)
    curved = apply_curve(image, _parabola(_TONES, middle))
    return np.rint((2 * curved.astype(np.float32) + from_lab(lab)) / 3).astype(np.uint8)


def darken(image: Image, amount: float) -> Image:
    """Lower the middle tone from 0.5 to 0.5 - `amount` / 2 by the curve on R, G and B."""
    return apply_curve(image, _parabola(_TONES, 0.5 - amount / 2))


def mean_shift(image: Image, offset: float) -> Image:
    """Add `offset`, in units of the full range, to every channel value."""
    return apply_curve(image, _TONES + offset)


def _parabola(tones: NDArray[np.floating], middle: float) -> NDArray[np.floating]:
    """Evaluate the parabola through (0, 0), (0.5, middle) and (1, 1)."""
    return (4 * middle - 1) * tones + (2 - 4 * middle) * tones**2
