"""What happens to decoded samples whatever the format: transparency over white, printed inks, orientation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

WHITE = 255
_FLIP_CODES = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # of cv2.flip by EXIF orientation; 5 to 8 are transposed first


_BAND_VALUES = 1 << 20  # made at a time: what they take on the way to 8 bits stays small beside the image


def bands(height: int, width: int) -> Iterator[slice]:
    """Divide so many rows of so many values, be they pixels or samples, into bands."""
    rows = max(_BAND_VALUES // width, 1)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def in_bands(make: Callable[[slice], NDArray[Any]], height: int, width: int) -> NDArray[np.uint8]:
    """Make an RGB image some rows at a time; `make` gives those of a slice as H x W x 3, or x 1 for gray."""
    image = np.empty((height, width, 3), np.uint8)
    for band in bands(height, width):
        image[band] = make(band)
    return image


def over_white(color: NDArray[Any], alpha: NDArray[Any], *, premultiplied: bool) -> NDArray[np.uint8]:
    """Lay 8-bit colours (H x W x C) over white by their alpha (H x W), in sRGB values, rounded to nearest.

    255 is odd: there are no ties.
    """
    background = WHITE - alpha[..., None].astype(np.uint16)
    if premultiplied:
        mixed: NDArray[np.uint16] = np.minimum(color.astype(np.uint16) + background, WHITE)
    else:
        mixed = (color.astype(np.uint16) * alpha[..., None] + WHITE * background + 127) // 255  # at most 65152
    return mixed.astype(np.uint8)


def spread(samples: NDArray[Any], most: int) -> NDArray[np.uint8]:
    """Spread samples of 0 to `most`, which is below 2 to the power of 16, over 0 to 255, rounded to nearest."""
    return ((samples.astype(np.uint32) * (2 * WHITE) + most) // (2 * most)).astype(np.uint8)


def on_white(image: NDArray[np.uint8], left: int, top: int, height: int, width: int) -> NDArray[np.uint8]:
    """Lay an RGB image on a white canvas, which it may be as large as but not leave."""
    if image.shape[:2] == (height, width):
        return image
    canvas = np.full((height, width, 3), WHITE, np.uint8)
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def mix_inks(inks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn cyan, magenta, yellow and black (H x W x 4, 255 is full ink) into RGB, without a profile.

    ``(255 - ink)(255 - black) / 255``, rounded down, as libtiff mixes them.
    """
    paper = (WHITE - inks).astype(np.uint16)
    return (paper[..., :3] * paper[..., 3:] // WHITE).astype(np.uint8)


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply an EXIF orientation, 1 to 8; OpenCV copies a turned image several times faster than NumPy."""
    if orientation == 1:
        return pixels
    import cv2

    turned: NDArray[Any] = cv2.transpose(pixels) if orientation >= 5 else pixels
    if orientation in _FLIP_CODES:
        turned = cv2.flip(turned, _FLIP_CODES[orientation])
    return turned.astype(np.uint8, copy=False)
