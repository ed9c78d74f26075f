"""Colours of an image turned into sRGB in one pass, in place: linearised by table, 3 x 3, encoded by table.

See `iqa_runtime.kernels.color_numpy` for the twin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import UsageError
from iqa_runtime.kernels import color_numpy
from iqa_runtime.kernels.arrays import check_image, described
from iqa_runtime.kernels.color_numpy import FULL
from iqa_runtime.kernels.selection import instruction_set

_LARGEST = 32_767  # sum of the magnitudes of a row of the matrix, and half a unit: sums of light then fit into 32 bits
_SHIFTS = range(8, 15)
_NEUTRAL = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class ColorTables:
    """A conversion to sRGB in integers; see ``csrc/color.h``.

    Attributes
    ----------
    linear
        uint16, (3, 256): linear light of every value of red, green and blue; 65535 is full.
    matrix
        int16, (3, 3): from that light to sRGB's, in units of 2^-shift.
    shift
        8 to 14.
    """

    linear: NDArray[np.uint16]
    matrix: NDArray[np.int16]
    shift: int


def color_tables(curves: NDArray[np.float64], matrix: NDArray[np.float64]) -> ColorTables:
    """Round a conversion to the integers of the kernel.

    Parameters
    ----------
    curves
        (3, 256): linear light, 0 to 1, of every value of red, green and blue.
    matrix
        (3, 3): from red, green and blue light to that of sRGB. Where a row sums to 1 within 0.001, its integers sum to
        exactly 1: neutral colours stay neutral.

    Raises
    ------
    UsageError
        If the arguments are none of these, or the matrix has magnitudes above 127 in a row.
    """
    if curves.shape != (3, 256) or matrix.shape != (3, 3):
        raise UsageError(f"curves are {described(curves)}, matrix is {described(matrix)}; use 3 x 256 and 3 x 3")
    if not np.isfinite(matrix).all() or not (curves >= 0).all() or not (curves <= 1).all():
        raise UsageError("curves must be numbers of 0 to 1, and those of the matrix finite")
    for shift in reversed(_SHIFTS):
        scaled = np.rint(np.clip(matrix * 2.0**shift, -_LARGEST - 1, _LARGEST + 1)).astype(np.int64)
        short = (1 << shift) - scaled.sum(axis=1)
        neutral = np.abs(matrix.sum(axis=1) - 1) < _NEUTRAL
        scaled[np.arange(3), np.abs(matrix).argmax(axis=1)] += np.where(neutral, short, 0)
        if np.abs(scaled).sum(axis=1).max() <= _LARGEST - (1 << shift - 1):
            linear = np.rint(curves * FULL).astype(np.uint16)
            return ColorTables(np.ascontiguousarray(linear), np.ascontiguousarray(scaled.astype(np.int16)), shift)
    raise UsageError(f"the matrix has magnitudes of {np.abs(matrix).sum(axis=1).max():g} in a row; use at most 127")


def to_srgb(image: NDArray[np.uint8], tables: ColorTables) -> None:
    """Turn the colours of an image into sRGB, in place.

    Every value is the same, whatever the instruction set: the definition is in integers. Other Python threads run
    meanwhile.

    Parameters
    ----------
    image
        (H, W, 3) uint8, RGB, 0 to 255, writeable. The three bytes of a pixel and the pixels of a row lie side by side;
        rows may be any distance apart.
    tables
        Of `color_tables`.

    Raises
    ------
    UsageError
        If `image` is none of these.
    """
    chosen = instruction_set()
    check_image(image)
    if not image.flags.writeable:
        raise UsageError("image cannot be written to; pass a copy of it")
    if chosen == "numpy":
        color_numpy.to_srgb(image, tables.linear, tables.matrix, tables.shift)
        return
    from iqa_runtime import _kernels

    _kernels.to_srgb(
        image,
        tables.linear,
        tables.matrix,
        tables.shift,
        color_numpy.encoding_lines(),
        color_numpy.encoding(),
        chosen,
    )
