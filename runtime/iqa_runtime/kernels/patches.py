"""Crops of an image as the normalised float planes a network takes, in one pass.

See `iqa_runtime.kernels.patches_numpy` for the twin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from iqa_runtime.errors import UsageError
from iqa_runtime.kernels import patches_numpy
from iqa_runtime.kernels.arrays import aligned_empty, check_image, described, described_shape
from iqa_runtime.kernels.selection import instruction_set

MAX_SIDE = 65_536
"""Longest side of a crop, in pixels."""

MAX_POSITION = 2**31 - 1
"""Farthest a crop may start from the image's corner, in pixels, in any direction."""

MAX_THREADS = 64
"""Most threads one call may use."""

_DTYPES = (np.dtype(np.float32), np.dtype(np.float16))


def extract_patches(
    image: NDArray[np.uint8],
    positions: NDArray[np.int64],
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    *,
    swap_channels: bool = False,
    dtype: DTypeLike = np.float32,
    out: NDArray[Any] | None = None,
    threads: int = 1,
) -> NDArray[Any]:
    """Cut crops out of an image and normalise them: ``(pixel / 255 - mean) / std``, channels first.

    Every value is that of double-precision arithmetic rounded once to `dtype`, whatever the instruction set and the
    number of threads. Other Python threads run meanwhile.

    Parameters
    ----------
    image
        (H, W, 3) uint8, 0 to 255. The three bytes of a pixel and the pixels of a row lie side by side; rows may be any
        distance apart, also backwards.
    positions
        (N, 2) int64: top and left of every crop, in pixels, -`MAX_POSITION` to `MAX_POSITION`. What lies outside the
        image is reflected about the edge pixel, which is not repeated (OpenCV's ``BORDER_REFLECT_101``), as often as
        needed; a side of one pixel repeats it.
    size
        Height and width (h, w) of the crops, 1 to `MAX_SIDE` pixels.
    mean, std
        3 values each, in the channel order of the output, for pixels scaled to 0..1; std > 0.
    swap_channels
        Reverse the channel order on the way, RGB to BGR or back.
    dtype
        float32 or float16.
    out
        C-contiguous (N, 3, h, w) array of `dtype` to write to, apart from `image`; by default a new one.
    threads
        1 to `MAX_THREADS`. More than 1 pays for many large crops only: threads are started anew in every call.

    Returns
    -------
    numpy.ndarray
        (N, 3, h, w) of `dtype`: `out`, if it was given.

    Raises
    ------
    UsageError
        If an argument is none of the above, or `mean` and `std` lead to values that `dtype` can't hold.
    """
    chosen = instruction_set()
    dtype = _checked_dtype(dtype)
    check_image(image)
    _check_positions(positions)
    height, width = _checked_size(size)
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MAX_THREADS:
        raise UsageError(f"threads is {threads!r}; use 1 to {MAX_THREADS}")
    means, stds = _three_floats("mean", mean), _three_floats("std", std)
    table = _table(means, stds, dtype)

    shape = (len(positions), 3, height, width)
    if out is None:
        out = _allocate(shape, dtype)
    else:
        _check_out(out, shape, dtype, image, positions)

    if chosen == "numpy":
        patches_numpy.extract_patches(image, positions, means, stds, swap_channels, out)
    else:
        from iqa_runtime import _kernels

        _kernels.extract_patches(
            image,
            np.ascontiguousarray(positions),
            table,
            means,
            stds,
            swap_channels,
            out,
            threads,
            chosen,
        )
    return out


@lru_cache(maxsize=64)
def _table(mean: tuple[float, ...], std: tuple[float, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the (3, 256) outputs for every pixel value, in the channel order of the output."""
    if not all(map(math.isfinite, mean)):
        raise UsageError(f"mean is {mean}; use finite numbers")
    if not all(math.isfinite(value) and value > 0 for value in std):
        raise UsageError(f"std is {std}; use finite numbers above 0")
    grays = np.repeat(np.arange(256, dtype=np.uint8)[:, np.newaxis], 3, axis=1)
    with np.errstate(over="ignore"):
        table = np.ascontiguousarray(patches_numpy.normalise(grays, mean, std).astype(dtype).T)
    if not np.isfinite(table).all():
        raise UsageError(f"mean {mean} and std {std} lead to values beyond the range of {dtype}")
    table.flags.writeable = False  # it is shared by all later calls
    return table


def _checked_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        checked = np.dtype(dtype)
    except TypeError as error:
        raise UsageError(f"dtype is {dtype!r}; use float32 or float16") from error
    if checked not in _DTYPES:
        raise UsageError(f"dtype is {checked}; use float32 or float16")
    return checked


def _three_floats(name: str, values: Sequence[float]) -> tuple[float, ...]:
    try:
        floats = tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} is {values!r}; use 3 numbers") from error
    if len(floats) != 3:
        raise UsageError(f"{name} has {len(floats)} values; use 3, one a channel")
    return floats


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    try:
        height, width = (side.__index__() for side in size)
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"size is {size!r}; use (height, width) in pixels") from error
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise UsageError(f"size is {size}; its sides must be 1 to {MAX_SIDE} pixels")
    return height, width


def _check_positions(positions: NDArray[np.int64]) -> None:
    if not isinstance(positions, np.ndarray) or positions.dtype != np.int64 or positions.shape[1:] != (2,):
        raise UsageError(f"positions are {described(positions)}; use an N x 2 array of int64: top, left")
    if positions.size and not -MAX_POSITION <= positions.min() <= positions.max() <= MAX_POSITION:
        raise UsageError(f"positions reach from {positions.min()} to {positions.max()}; stay within ±{MAX_POSITION}")


def _check_out(
    out: NDArray[Any],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    image: NDArray[np.uint8],
    positions: NDArray[np.int64],
) -> None:
    if not isinstance(out, np.ndarray) or out.dtype != dtype or out.shape != shape:
        raise UsageError(f"out is {described(out)}; it must be {described_shape(shape, dtype)}")
    if not out.flags.carray:
        raise UsageError("out must be C-contiguous, aligned and writeable")
    # Bounds suffice: whoever weaves the output into the gaps of the image's rows is better told to stop.
    if np.may_share_memory(out, image) or np.may_share_memory(out, positions):
        raise UsageError("out overlaps the image or the positions in memory; use an array of its own")


def _allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        return aligned_empty(shape, dtype)
    except (ValueError, MemoryError) as error:
        size = math.prod(shape) * dtype.itemsize / 2**30
        raise UsageError(
            f"crops of {described_shape(shape, dtype)} take {size:.1f} GiB, more than there is; extract fewer a call"
        ) from error
