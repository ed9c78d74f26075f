"""The NumPy twin of the resize kernel: the definition of what it computes, and the fallback where it isn't compiled.

What is computed is what ``Image.resize`` of Pillow computes for 8-bit pictures, bit for bit: pipelines that train
networks use that. A filter is stretched by the scale, so that shrinking averages; its weights are normalised in double
precision, then rounded to `WEIGHT_BITS` fractional bits; the first of both passes is rounded to 8 bits, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WEIGHT_BITS = 22
"""Fractional bits of a weight: 32, but for the 8 of a pixel, a sign and one to spare."""

TAPS = 4
"""The weights of an output are padded with zeros to a multiple of so many."""

_CHUNK = 1 << 20
"""Weights that are worked out at a time, for memory's sake."""

_Values = NDArray[np.float64]


def _each(function: Callable[[float], float], x: _Values) -> _Values:
    """Apply sine or cosine of the C library: NumPy's own differ from it in a last place, by processor."""
    try:
        from iqa_runtime import _kernels
    except ImportError:
        return np.asarray(np.frompyfunc(function, 1, 1)(x), np.float64)
    result = np.empty_like(x)
    compiled = _kernels.sines if function is math.sin else _kernels.cosines
    compiled(np.ascontiguousarray(x).reshape(-1), result.reshape(-1))
    return result


def _sinc(x: _Values) -> _Values:
    angle = np.where(x == 0, 1.0, x * math.pi)
    return np.where(x == 0, 1.0, _each(math.sin, angle) / angle)


def _box(x: _Values) -> _Values:
    return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)


def _bilinear(x: _Values) -> _Values:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _hamming(x: _Values) -> _Values:
    x = np.abs(x)
    # Pillow has these constants in single precision.
    window = float(np.float32(0.54)) + float(np.float32(0.46)) * _each(math.cos, x * math.pi)
    return np.where(x >= 1, 0.0, _sinc(x) * np.where(x == 0, 1.0, window))


def _bicubic(x: _Values) -> _Values:
    # Keys (1981), equation 4, with a = -0.5.
    a = -0.5
    x = np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _lanczos(x: _Values) -> _Values:
    return np.where((x >= -3) & (x < 3), _sinc(x) * _sinc(x / 3), 0.0)


FILTERS: dict[str, tuple[Callable[[_Values], _Values], float]] = {
    "box": (_box, 0.5),
    "bilinear": (_bilinear, 1.0),
    "hamming": (_hamming, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}
"""Each with how far it reaches, in pixels of the smaller of both pictures."""


class Side(NamedTuple):
    """What the outputs along one side are sums of: output i of ``weights[i, t] * input[begins[i] + t]``.

    Attributes
    ----------
    begins, counts
        int32, (size,): the first input, and how many.
    weights
        int32, (size, taps), zero from `counts` on; taps is a multiple of `TAPS`.
    """

    begins: NDArray[np.int32]
    counts: NDArray[np.int32]
    weights: NDArray[np.int32]


def weigh(inputs: int, outputs: int, name: str) -> Side:
    """Return the weights that make so many outputs of so many inputs, by the filter of that name."""
    function, reach = FILTERS[name]
    scale = inputs / outputs
    stretch = max(scale, 1.0)
    support = reach * stretch
    centre = (np.arange(outputs) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    count = np.minimum((centre + support + 0.5).astype(np.int64), inputs) - first
    taps = -(-int(count.max()) // TAPS) * TAPS
    weights = np.empty((outputs, taps), np.int32)
    tap = np.arange(taps)
    chunk = max(_CHUNK // taps, 1)
    for begin in range(0, outputs, chunk):
        part = slice(begin, begin + chunk)
        values = function((tap + first[part, np.newaxis] - centre[part, np.newaxis] + 0.5) * (1.0 / stretch))
        values = np.where(tap < count[part, np.newaxis], values, 0.0)
        # Added up one by one, because the order of a sum decides its last bit.
        total = np.add.accumulate(values, axis=1)[:, -1:]
        np.divide(values, total, out=values, where=total != 0)
        values *= 1 << WEIGHT_BITS
        weights[part] = np.where(values < 0, values - 0.5, values + 0.5).astype(np.int32)
    return Side(first.astype(np.int32), count.astype(np.int32), weights)


def rows_come_first(size: tuple[int, int], resized: tuple[int, int]) -> bool:
    """Return whether rows are resized before columns: unless far more rows than columns are lost (Pillow 13.0)."""
    lost_rows, lost_columns = size[0] - resized[0], size[1] - resized[1]
    return not lost_rows > max(0, 2 * lost_columns)


def nearest(inputs: int, outputs: int) -> NDArray[np.int64]:
    """Return which input each output shows: the one at its centre. Centres are summed up, as Pillow does."""
    step = inputs / outputs
    centres = np.add.accumulate(np.concatenate([[step * 0.5], np.full(outputs - 1, step)]))
    return np.minimum(centres.astype(np.int64), inputs - 1)


def resize(image: NDArray[np.uint8], rows: Side | None, columns: Side | None, out: NDArray[np.uint8]) -> None:
    """Fill `out` (h, w, 3); a side without weights stays as it is."""
    across = image if columns is None else _weighted(image, columns).swapaxes(0, 1)
    if rows is None:
        out[...] = across
        return
    out[...] = _weighted(across.swapaxes(0, 1), rows)


def _weighted(image: NDArray[np.uint8], side: Side) -> NDArray[np.uint8]:
    """Return the weighted sums along axis 1 of an image, as its axis 0."""
    result = np.empty((len(side.begins), image.shape[0], 3), np.uint8)
    for index, (first, count) in enumerate(zip(side.begins.tolist(), side.counts.tolist(), strict=True)):
        pixels = image[:, first : first + count].astype(np.int32)
        sums = np.einsum("ytc,t->yc", pixels, side.weights[index, :count]) + (1 << (WEIGHT_BITS - 1))
        result[index] = np.clip(sums >> WEIGHT_BITS, 0, 255)
    return result
