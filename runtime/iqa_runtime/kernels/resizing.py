"""An 8-bit picture at another size, as Pillow makes it, bit for bit.

See `iqa_runtime.kernels.resizing_numpy` for the twin, which defines it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import UsageError
from iqa_runtime.kernels import resizing_numpy
from iqa_runtime.kernels.arrays import check_image, described, described_shape
from iqa_runtime.kernels.resizing_numpy import FILTERS, Side, nearest, rows_come_first
from iqa_runtime.kernels.selection import instruction_set

MAX_RESIZED_SIDE = 2**20
"""Longest side of a picture that is resized, and of what it becomes, in pixels."""

_BLOCK = 64
"""Output rows."""

_KEPT_WEIGHTS = 1 << 16
"""Inputs or outputs of a side up to which weights are kept for the next picture: a few megabytes."""

Region = tuple[int, int, int, int]
"""Top, left, height and width of a part of the resized picture."""


def resize(
    image: NDArray[np.uint8],
    size: tuple[int, int],
    resampling: str = "bicubic",
    *,
    region: Region | None = None,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Resize a picture with antialiasing: ``Image.resize`` of Pillow, without its copies and several times as quick.

    Every filter gives the bytes that Pillow gives. Work and memory are those of the pixels that `region` needs. Other
    Python threads run meanwhile.

    Parameters
    ----------
    image
        (H, W, 3) uint8, strides as in `iqa_runtime.kernels.extract_patches`; sides up to `MAX_RESIZED_SIDE`.
    size
        Height and width of the whole resized picture, 1 to `MAX_RESIZED_SIDE` pixels. Equal to the image's: its pixels.
    resampling
        ``nearest``, ``box``, ``bilinear``, ``hamming``, ``bicubic`` or ``lanczos``.
    region
        Top, left, height and width of the part of the resized picture that is wanted; None for all of it.
    out
        C-contiguous uint8 array of the result's shape to write to, apart from `image`; by default a new one.

    Returns
    -------
    numpy.ndarray
        (h, w, 3) uint8, C-contiguous: `out`, if it was given.

    Raises
    ------
    UsageError
        If an argument is none of the above.
    MemoryError
        If there is not enough memory.
    """
    chosen = instruction_set()
    check_image(image)
    height, width = _checked_size(size)
    if max(image.shape[:2]) > MAX_RESIZED_SIDE:
        raise UsageError(f"image is {described(image)}; sides of up to {MAX_RESIZED_SIDE} pixels can be resized")
    if resampling != "nearest" and resampling not in FILTERS:
        raise UsageError(f"resampling is {resampling!r}; use nearest, {', '.join(FILTERS)}")
    top, left, rows, columns = _checked_region(region, height, width)
    if out is None:
        out = np.empty((rows, columns, 3), np.uint8)
    else:
        _check_out(out, (rows, columns, 3), image)

    down, across = slice(top, top + rows), slice(left, left + columns)
    if resampling == "nearest":
        out[...] = image[nearest(image.shape[0], height)[down, np.newaxis], nearest(image.shape[1], width)[across]]
        return out
    weights_down, weights_across = None, None
    by_rows_first = rows_come_first(image.shape[:2], (height, width))
    if height == image.shape[0]:
        image = image[down]
    else:
        weights_down = _part(_weights(image.shape[0], height, resampling), down)
    if width == image.shape[1]:
        image = image[:, across]
    else:
        weights_across = _part(_weights(image.shape[1], width, resampling), across)
    if weights_down is not None and len(out) > image.shape[0]:
        # Enlarged, every row is part of many: some outputs at a time, so that their sums take little memory.
        for begin in range(0, len(out), _BLOCK):
            block = slice(begin, begin + _BLOCK)
            _run(chosen, image, _part(weights_down, block), weights_across, out[block])
    elif by_rows_first or weights_down is None or weights_across is None:
        _run(chosen, image, weights_down, weights_across, out)
    else:
        lower = np.empty((rows, image.shape[1], 3), np.uint8)
        _run(chosen, image, weights_down, None, lower)
        _run(chosen, lower, None, weights_across, out)
    return out


def _run(chosen: str, image: NDArray[np.uint8], down: Side | None, across: Side | None, out: NDArray[np.uint8]) -> None:
    if chosen == "numpy":
        resizing_numpy.resize(image, down, across, out)
    else:
        from iqa_runtime import _kernels

        _kernels.resize(image, down, across, out, chosen)


def _weights(inputs: int, outputs: int, resampling: str) -> Side:
    weigh = _kept_weights if max(inputs, outputs) <= _KEPT_WEIGHTS else resizing_numpy.weigh
    return weigh(inputs, outputs, resampling)


_kept_weights = lru_cache(maxsize=16)(resizing_numpy.weigh)


def _part(side: Side, part: slice) -> Side:
    return Side(*(array[part] for array in side))


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    try:
        height, width = (side.__index__() for side in size)
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"size is {size!r}; use (height, width) in pixels") from error
    if not (1 <= height <= MAX_RESIZED_SIDE and 1 <= width <= MAX_RESIZED_SIDE):
        raise UsageError(f"size is {size}; its sides must be 1 to {MAX_RESIZED_SIDE} pixels")
    return height, width


def _checked_region(region: Region | None, height: int, width: int) -> Region:
    if region is None:
        return 0, 0, height, width
    try:
        top, left, rows, columns = (number.__index__() for number in region)
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"region is {region!r}; use (top, left, height, width) in pixels") from error
    if not (0 <= top < top + rows <= height and 0 <= left < left + columns <= width):
        raise UsageError(f"region is {region}; it must lie within the {height} x {width} pixels of the resized picture")
    return top, left, rows, columns


def _check_out(out: NDArray[np.uint8], shape: tuple[int, ...], image: NDArray[np.uint8]) -> None:
    if not isinstance(out, np.ndarray) or out.dtype != np.uint8 or out.shape != shape or not out.flags.carray:
        raise UsageError(
            f"out is {described(out)}; it must be {described_shape(shape, np.dtype(np.uint8))}, C-contiguous and "
            "writeable"
        )
    if np.may_share_memory(out, image):
        raise UsageError("out overlaps the image in memory; use an array of its own")
