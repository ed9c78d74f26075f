"""Random crops and flips for training, the same for a picture and its reference."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import UsageError

Picture = NDArray[np.uint8]


def random_crop(pictures: list[Picture], size: int, rng: np.random.Generator, *, flip: bool = True) -> list[Picture]:
    """Cut the same place out of pictures of equal size, and flip all or none of them left to right.

    Parameters
    ----------
    pictures
        uint8, H x W x 3.
    size
        Side of the crop, pixels.
    rng
        Draws the place, uniform over the picture, and the flip, with probability 1/2.
    flip
        Whether to flip at all.

    Returns
    -------
    list of numpy.ndarray
        uint8, 3 x size x size, C-contiguous.

    Raises
    ------
    UsageError
        If a picture is smaller than the crop.
    """
    height, width = pictures[0].shape[:2]
    _check(height, width, size)
    top = int(rng.integers(height - size, endpoint=True))
    left = int(rng.integers(width - size, endpoint=True))
    mirrored = flip and bool(rng.random() < 0.5)
    return [_cut(picture, top, left, size, mirrored) for picture in pictures]


def center_crop(pictures: list[Picture], size: int) -> list[Picture]:
    """Cut the middle out of pictures of equal size: uint8, H x W x 3 to 3 x size x size.

    Raises
    ------
    UsageError
        If a picture is smaller than the crop.
    """
    height, width = pictures[0].shape[:2]
    _check(height, width, size)
    return [_cut(picture, (height - size) // 2, (width - size) // 2, size, False) for picture in pictures]


def _cut(picture: Picture, top: int, left: int, size: int, mirrored: bool) -> Picture:
    crop = picture[top : top + size, left : left + size]
    if mirrored:
        crop = crop[:, ::-1]
    return np.ascontiguousarray(crop.transpose(2, 0, 1))


def _check(height: int, width: int, size: int) -> None:
    if min(height, width) < size:
        raise UsageError(
            f"a training picture of {width} x {height} pixels is smaller than the crop of {size}; leave it out"
        )
