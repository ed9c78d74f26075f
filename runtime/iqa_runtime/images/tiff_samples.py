"""Turn the rows of a TIFF strip or tile into 8-bit samples (TIFF 6.0, sections 14 and 21; Technical Note 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import DAMAGED
from iqa_runtime.images.pixels import WHITE, bands, in_bands

_HORIZONTAL, _FLOATING = 2, 3  # predictors; 1 is none
# As libtiff computes them, in 16.16 fixed point (tif_color.c): the parts of R, G, G, B that chrominance makes up.
_HALF, _ONE = 1 << 15, 1 << 16
BT601 = _RED, _GREEN, _BLUE = 0.299, 0.587, 0.114
_CHROMA = np.arange(-128, 128, dtype=np.int32)
_RED_OF_CR = (int((2 - 2 * _RED) * _ONE + 0.5) * _CHROMA + _HALF) >> 16
_GREEN_OF_CR = -int(_RED * (2 - 2 * _RED) / _GREEN * _ONE + 0.5) * _CHROMA
_GREEN_OF_CB = -int(_BLUE * (2 - 2 * _BLUE) / _GREEN * _ONE + 0.5) * _CHROMA + _HALF
_BLUE_OF_CB = (int((2 - 2 * _BLUE) * _ONE + 0.5) * _CHROMA + _HALF) >> 16


@dataclass(frozen=True, slots=True)
class Samples:
    """How samples are stored: struct byte order, bits of each, and whether they are floats or indices of a palette."""

    order: str
    bits: int
    is_float: bool
    is_index: bool


def unpack(rows: NDArray[np.uint8], layout: Samples, width: int, channels: int, predictor: int) -> NDArray[np.uint8]:
    """Turn rows of bytes into samples of 8 bits.

    Parameters
    ----------
    rows
        Height x bytes of a row.
    layout
        Of a sample.
    width, channels
        Of the rows.
    predictor
        1, 2 or 3.

    Returns
    -------
    numpy.ndarray
        uint8, height x width x channels. 1, 2 and 4 bits are spread over 0 to 255, of more the upper 8 are kept,
        floats of 0 to 1 are multiplied by 255 and rounded to nearest; indices stay as they are.

    Raises
    ------
    ImageError
        If floats are outside 0 to 1 or no numbers, or the predictor has no meaning for this layout.
    """
    if layout.bits == 8 and predictor == 1:
        return rows.reshape(-1, width, channels)
    samples = np.empty((len(rows), width, channels), np.uint8)
    # Some rows at a time: what they take on the way to 8 bits stays small beside them.
    for band in bands(len(rows), width * channels):
        samples[band] = _unpack_band(rows[band], layout, width, channels, predictor)
    return samples


def _unpack_band(
    rows: NDArray[np.uint8], layout: Samples, width: int, channels: int, predictor: int
) -> NDArray[np.uint8]:
    if layout.bits not in (8, 16, 32, 64):
        if predictor != 1:
            raise ImageError(f"a TIFF of {layout.bits} bits with a predictor; save it with another compression")
        return _unpack_bits(rows, layout, width * channels).reshape(-1, width, channels)
    values: NDArray[Any]
    size = layout.bits // 8
    if predictor == _FLOATING and layout.is_float:
        # Bytes of equal weight lie together, the highest first, each as its difference from the one before.
        bytes_ = np.cumsum(rows.reshape(-1, width * size, channels), axis=1, dtype=np.uint8)
        planes = bytes_.reshape(-1, size, width * channels).transpose(0, 2, 1)
        values = np.ascontiguousarray(planes).view(f">f{size}").reshape(-1, width, channels)
    elif predictor in (1, _HORIZONTAL):
        values = rows.view(f"{layout.order}u{size}").reshape(-1, width, channels)
        if predictor == _HORIZONTAL:
            values = np.cumsum(values, axis=1, dtype=f"u{size}")
        if layout.is_float:
            values = values.view(values.dtype.str.replace("u", "f"))
    else:
        raise ImageError(f"a TIFF with predictor {predictor}, which does not fit its samples; {DAMAGED}")
    if layout.is_float:
        return _from_unit_range(values)
    return (values >> 8).astype(np.uint8) if layout.bits == 16 else values.astype(np.uint8, copy=False)


def _unpack_bits(rows: NDArray[np.uint8], layout: Samples, count: int) -> NDArray[np.uint8]:
    """Take so many samples of a row apart; the highest bits come first, whatever the byte order."""
    if layout.bits in (2, 4):
        shifts = np.arange(8 - layout.bits, -1, -layout.bits, dtype=np.uint8)
        values = (rows[..., None] >> shifts).reshape(len(rows), -1)[:, :count] & np.uint8((1 << layout.bits) - 1)
    elif layout.bits > 8:
        starts = np.arange(count) * layout.bits
        pairs = rows[:, starts >> 3].astype(np.uint16) << 8 | rows[:, (starts >> 3) + 1]
        return (pairs >> 8 - (starts & 7)).astype(np.uint8)
    else:
        values = np.unpackbits(rows, axis=1, count=count)
    return values if layout.is_index else values * np.uint8(WHITE // ((1 << layout.bits) - 1))


def _from_unit_range(values: NDArray[Any]) -> NDArray[np.uint8]:
    if not ((values >= 0) & (values <= 1)).all():
        raise ImageError("a TIFF of floating-point samples outside 0 to 1; scale it, or save it with 8 or 16 bits")
    return np.rint(values.astype(np.float64) * WHITE).astype(np.uint8)


def rgb_of_units(rows: NDArray[np.uint8], across: int, down: int) -> NDArray[np.uint8]:
    """Turn units of YCbCr into RGB: `across` x `down` luminances, then their two chrominances.

    Returns
    -------
    numpy.ndarray
        uint8, height x width x 3, both rounded up to whole units.
    """
    units = rows.reshape(len(rows), -1, across * down + 2)
    height, width = len(rows) * down, units.shape[1] * across
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[..., 0] = units[..., :-2].reshape(len(rows), -1, down, across).transpose(0, 2, 1, 3).reshape(height, width)
    for index in (1, 2):
        pixels[..., index] = units[..., across * down + index - 1].repeat(down, axis=0).repeat(across, axis=1)
    return rgb_of_ycbcr(pixels)


def rgb_of_ycbcr(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn YCbCr of the full range (ITU-R BT.601, as in JPEG) into RGB, uint8 height x width x 3."""
    return in_bands(lambda band: _band_of_ycbcr(pixels[band]), *pixels.shape[:2])


def _band_of_ycbcr(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    luminance, blue, red = (pixels[..., channel] for channel in range(3))
    green = (_GREEN_OF_CR[red] + _GREEN_OF_CB[blue]) >> 16
    mixed = np.stack([luminance + _RED_OF_CR[red], luminance + green, luminance + _BLUE_OF_CB[blue]], axis=2)
    return mixed.clip(0, WHITE).astype(np.uint8)
