"""Which parts of a picture its crops need: rows of one that is decoded, a region of one that is resized."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.images.header import Band
from iqa_runtime.kernels.resizing import Region

_MOST_ROWS = 0.75
"""Of a picture, that are decoded without the others: leaving out fewer gains too little."""


def bands_of(placed: NDArray[np.int64], side: int, height: int) -> list[Band] | None:
    """Return the rows that crops are in, from the top down; None where one hangs over an edge, or most are wanted.

    Parameters
    ----------
    placed
        Top left corners, shape (items, crops per item, 2).
    side, height
        Of a crop, and of the picture, in pixels.
    """
    tops = np.unique(placed[..., 0])
    bottoms = tops + side
    if tops[0] < 0 or bottoms[-1] > height:
        return None
    begins = np.concatenate([[True], tops[1:] > bottoms[:-1]])
    ends = np.concatenate([begins[1:], [True]])
    bands = list(zip(tops[begins].tolist(), bottoms[ends].tolist(), strict=True))
    return bands if sum(bottom - top for top, bottom in bands) <= _MOST_ROWS * height else None


def within_bands(bands: Sequence[Band], placed: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where crops at `placed` lie in the bands that they are in, one below the other."""
    rows = np.array(bands, np.int64)
    left_out = rows[:, 0] - np.concatenate([[0], np.cumsum(rows[:-1, 1] - rows[:-1, 0])])
    cuts = placed.copy()
    cuts[..., 0] -= left_out[np.searchsorted(rows[:, 0], placed[..., 0], side="right") - 1]
    return cuts


def region_of(placed: NDArray[np.int64], item_size: tuple[int, int], size: tuple[int, int]) -> Region:
    """Return the part of a picture of a size that all its crops are in: all of a side over whose end a crop hangs."""
    corners = placed.reshape(-1, 2)
    begins, ends = corners.min(axis=0), corners.max(axis=0) + item_size
    inside = (begins >= 0) & (ends <= size)
    top, left = np.where(inside, begins, 0).tolist()
    bottom, right = np.where(inside, ends, size).tolist()
    return top, left, bottom - top, right - left
