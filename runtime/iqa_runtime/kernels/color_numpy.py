"""The NumPy twin of the colour kernel: the definition of what it computes, and the fallback where it isn't compiled.

Arguments are those of `iqa_runtime.kernels.color.to_srgb`, which checks them; nothing is checked here.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

FULL = 65_535
"""Of linear light in 16 bits, the most."""

_FINE_BELOW = 8192  # lines are FINE numbers long below, COARSE above
_FINE, _COARSE = 64, 512
_LINES = 128  # of either length
_UNIT = 8192  # of a level, in the sums of lines
_BAND = 1 << 18  # pixels at a time


def srgb_encoded(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values of sRGB, 0 to 1, of linear light, 0 to 1 (IEC 61966-2-1)."""
    encoded: NDArray[np.float64] = np.where(
        light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055
    )
    return encoded


@lru_cache(maxsize=1)
def encoding_lines() -> NDArray[np.uint8]:
    """Return the lines that sRGB's curve is encoded by; ``csrc/color.h`` says how they are used.

    Each is the one of its slope, in whole units, that strays least from the curve: by 0.035 levels at most.

    Returns
    -------
    numpy.ndarray
        uint8, (3, 256): level, rest (-128 to 127) and slope (0 to 127) of 128 lines below 8192, and 128 above.
    """
    lines = np.zeros((3, 2 * _LINES), np.float64)
    for first, length in ((0, _FINE), (_LINES, _COARSE)):
        light = np.arange(_LINES * length).reshape(_LINES, length)
        steps = np.arange(length) * 256 // length
        curve = 255 * srgb_encoded(light / FULL) + 0.5
        slopes = np.rint((curve[:, -1] - curve[:, 0]) / steps[-1] * _UNIT)
        strays = curve - slopes[:, None] * steps / _UNIT
        begins = (strays.max(axis=1) + strays.min(axis=1)) / 2
        lines[0, first : first + _LINES] = np.floor(begins)
        lines[1, first : first + _LINES] = np.clip(np.rint((begins - np.floor(begins) - 0.5) * 256), -128, 127)
        lines[2, first : first + _LINES] = slopes
    lines[:, _LINES : _LINES + _FINE_BELOW // _COARSE] = 0  # no number is there, and slopes are beyond a byte
    return np.ascontiguousarray(lines.astype(np.int16).astype(np.uint8))


@lru_cache(maxsize=1)
def encoding() -> NDArray[np.uint8]:
    """Return sRGB's 8-bit value for each of 65536 numbers of linear light, rounded to nearest (within 0.02 levels)."""
    light = np.arange(FULL + 1)
    positions = np.where(light < _FINE_BELOW, light << 2, light >> 1 | 0x8000)
    level, rest, slope = encoding_lines()[:, positions >> 8].astype(np.int32)
    sums = 32 * rest.astype(np.int8).astype(np.int32) + (positions & 255) * slope + _UNIT // 2
    levels: NDArray[np.uint8] = (level + sums // _UNIT).astype(np.uint8)
    return levels


def to_srgb(image: NDArray[np.uint8], linear: NDArray[np.uint16], matrix: NDArray[np.int16], shift: int) -> None:
    """Convert `image` in place, some rows at a time."""
    rows = max(_BAND // image.shape[1], 1)
    encode = encoding()
    for top in range(0, image.shape[0], rows):
        band = image[top : top + rows]
        light = np.stack([linear[c].astype(np.int32)[band[..., c]] for c in range(3)], axis=-1)
        sums = light @ matrix.T.astype(np.int32) + (1 << shift - 1)
        band[...] = encode[np.clip(sums >> shift, 0, FULL)]
