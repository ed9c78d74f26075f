"""Quality maps: the maps of single crops put together into one over the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class MapAccumulator:
    """Mean of overlapping crop maps, pixel by pixel.

    A crop's map is enlarged to the crop bilinearly (cell centres kept, edge cells repeated outwards) and counts with
    the crop's weights, enlarged alike, or with 1. What of a crop hangs over the edge of a small image is left out.

    Parameters
    ----------
    height, width
        Of the image, in pixels.
    side
        Of the square crops, in pixels.
    """

    def __init__(self, height: int, width: int, side: int) -> None:
        self._side = side
        self._sum = np.zeros((height, width), dtype=np.float32)
        self._weight = np.zeros((height, width), dtype=np.float32)

    def add(self, top: int, left: int, quality: NDArray[np.float32], weight: NDArray[np.float32] | None) -> None:
        """Add the map of the crop at (top, left).

        Parameters
        ----------
        top, left
            Position of the crop; may lie outside the image.
        quality
            Shape (rows, columns).
        weight
            Shape (rows, columns), not negative; None to count all cells alike.
        """
        height, width = self._sum.shape
        rows = slice(max(top, 0), min(top + self._side, height))
        columns = slice(max(left, 0), min(left + self._side, width))
        inside = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
        if weight is None:
            self._sum[rows, columns] += self._enlarged(quality)[inside]
            self._weight[rows, columns] += 1
        else:
            weights = self._enlarged(weight)[inside]
            self._sum[rows, columns] += self._enlarged(quality)[inside] * weights
            self._weight[rows, columns] += weights

    def result(self) -> NDArray[np.float32]:
        """Return the map, height x width, NaN where no crop lies (or all that do have weight 0)."""
        empty = np.full_like(self._sum, np.nan)
        return np.divide(self._sum, self._weight, out=empty, where=self._weight > 0)

    def _enlarged(self, cells: NDArray[np.float32]) -> NDArray[np.float32]:
        import cv2

        enlarged = cv2.resize(cells, (self._side, self._side), interpolation=cv2.INTER_LINEAR)
        return np.asarray(enlarged, dtype=np.float32)
