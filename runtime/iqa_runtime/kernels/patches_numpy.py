"""The NumPy twin of the patch kernel: the definition of what it computes, and the fallback where it isn't compiled.

Arguments are those of `iqa_runtime.kernels.patches.extract_patches`, which checks them; nothing is checked here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def reflect(indices: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Map any index into 0..side-1 by reflection about the edge pixel, which is not repeated, as often as needed.

    This is OpenCV's ``BORDER_REFLECT_101`` and ``numpy.pad``'s ``reflect``: for a side of 4, -2 -1 0 1 2 3 4 5 become
    2 1 0 1 2 3 2 1. A side of one pixel repeats it.
    """
    if side == 1:
        return np.zeros_like(indices)
    period = 2 * (side - 1)
    phase = indices % period
    return np.minimum(phase, period - phase)


def cut(image: NDArray[np.uint8], top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return the crop at (top, left), `height` x `width` x 3; outside the image by `reflect`, inside it a view."""
    if 0 <= top <= image.shape[0] - height and 0 <= left <= image.shape[1] - width:
        return image[top : top + height, left : left + width]
    rows = reflect(np.arange(top, top + height), image.shape[0])
    return image[rows[:, np.newaxis], reflect(np.arange(left, left + width), image.shape[1])]


def normalise(values: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float64]:
    """Return ``(values / 255 - mean) / std`` in double precision; the last axis of `values` is the channels."""
    normalised: NDArray[np.float64] = (values / np.float64(255.0) - np.array(mean)) / np.array(std)
    return normalised


def extract_patches(
    image: NDArray[np.uint8],
    positions: NDArray[np.int64],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    swap_channels: bool,
    out: NDArray[Any],
) -> None:
    """Fill `out` (N, 3, h, w), float32 or float16: computed in double precision and rounded once."""
    height, width = out.shape[2:]
    for (top, left), patch in zip(positions.tolist(), out, strict=True):
        pixels = cut(image, top, left, height, width)
        patch[...] = normalise(pixels[..., ::-1] if swap_channels else pixels, mean, std).transpose(2, 0, 1)
