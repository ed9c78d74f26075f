"""Random crops, flips and turns for training, the first two the same for a picture and its reference."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import UsageError

Picture = NDArray[np.uint8]


def random_crop(
    pictures: list[Picture], size: int, rng: np.random.Generator, *, flip: bool = True, vertical_flip: bool = False
) -> list[Picture]:
    """Cut the same place out of pictures of equal size, and flip all or none of them.

    Parameters
    ----------
    pictures
        uint8, H x W x 3.
    size
        Side of the crop, pixels.
    rng
        Draws the place, uniform over the picture, and each flip, with probability 1/2.
    flip, vertical_flip
        Whether to flip left to right, and top to bottom, at all.

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
    columns = -1 if flip and rng.random() < 0.5 else 1
    rows = -1 if vertical_flip and rng.random() < 0.5 else 1
    return [_cut(picture, top, left, size, rows, columns) for picture in pictures]


def center_crop(pictures: list[Picture], size: int) -> list[Picture]:
    """Cut the middle out of pictures of equal size: uint8, H x W x 3 to 3 x size x size.

    Raises
    ------
    UsageError
        If a picture is smaller than the crop.
    """
    height, width = pictures[0].shape[:2]
    _check(height, width, size)
    return [_cut(picture, (height - size) // 2, (width - size) // 2, size) for picture in pictures]


def turned(crop: Picture, degrees: float) -> Picture:
    """Turn a crop, uint8 3 x size x size, counter-clockwise about its middle, to the nearest pixel.

    What the turn brings in from beyond the crop is black: at 45 degrees, 17 % of it.
    """
    middle = (crop.shape[2] - 1) / 2, (crop.shape[1] - 1) / 2
    matrix = cv2.getRotationMatrix2D(middle, degrees, 1.0)
    picture = np.ascontiguousarray(crop.transpose(1, 2, 0))
    turned_picture = cv2.warpAffine(
        picture, matrix, picture.shape[1::-1], flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )
    return np.ascontiguousarray(np.asarray(turned_picture, np.uint8).transpose(2, 0, 1))


def _cut(picture: Picture, top: int, left: int, size: int, rows: int = 1, columns: int = 1) -> Picture:
    """Cut, in steps of 1 or, flipped, -1 along each axis."""
    crop = picture[top : top + size, left : left + size][::rows, ::columns]
    return np.ascontiguousarray(crop.transpose(2, 0, 1))


def _check(height: int, width: int, size: int) -> None:
    if min(height, width) < size:
        raise UsageError(
            f"a training picture of {width} x {height} pixels is smaller than the crop of {size}; leave it out"
        )
