"""Outputs of single crops, or of a whole picture, put together over the image: quality maps, restored pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class CropMean:
    """Weighted mean of overlapping crops, pixel by pixel.

    What of a crop hangs over the edge of a small image is left out.

    Parameters
    ----------
    shape
        Of the result: (height, width), or (height, width, channels).
    size
        Height and width of the crops, in pixels.
    """

    def __init__(self, shape: tuple[int, ...], size: tuple[int, int]) -> None:
        self._size = size
        self._sum = np.zeros(shape, dtype=np.float32)
        self._weight = np.zeros(shape[:2] + (1,) * (len(shape) - 2), dtype=np.float32)

    def add(self, top: int, left: int, values: NDArray[np.float32], weight: NDArray[np.float32] | float) -> None:
        """Add the crop at (top, left), which may lie outside the image.

        Parameters
        ----------
        top, left
            Position of the crop.
        values
            (h, w), or (h, w, channels), of the crop's size.
        weight
            (h, w), not negative; or one number for all.
        """
        height, width = self._sum.shape[:2]
        rows = slice(max(top, 0), min(top + self._size[0], height))
        columns = slice(max(left, 0), min(left + self._size[1], width))
        inside = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
        if isinstance(weight, float):
            self._sum[rows, columns] += values[inside] * weight
            self._weight[rows, columns] += weight
            return
        import cv2

        # Each in one pass; NumPy, which writes the products out first, takes three times as long.
        cv2.accumulateProduct(values[inside], weight[inside], self._sum[rows, columns])
        cv2.accumulate(weight[inside], self._weight[rows, columns])

    def result(self) -> NDArray[np.float32]:
        """Return the mean, NaN where no crop lies (or all that do have weight 0)."""
        empty = np.full_like(self._sum, np.nan)
        return np.divide(self._sum, self._weight, out=empty, where=self._weight > 0)


class MapAccumulator:
    """Mean of overlapping crop maps.

    A crop's map is enlarged to the crop bilinearly (cell centres kept, edge cells repeated outwards) and counts with
    the crop's weights, enlarged alike, or with 1.

    Parameters
    ----------
    height, width
        Of the image, in pixels.
    size
        Height and width of the crops, in pixels.
    """

    def __init__(self, height: int, width: int, size: tuple[int, int]) -> None:
        self._size = size
        self._mean = CropMean((height, width), size)

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
        self._mean.add(top, left, self._enlarged(quality), 1.0 if weight is None else self._enlarged(weight))

    def result(self) -> NDArray[np.float32]:
        """Return the map, height x width, NaN where no crop lies (or all that do have weight 0)."""
        return self._mean.result()

    def _enlarged(self, cells: NDArray[np.float32]) -> NDArray[np.float32]:
        import cv2

        enlarged = cv2.resize(cells, self._size[::-1], interpolation=cv2.INTER_LINEAR)
        return np.asarray(enlarged, dtype=np.float32)


class RestoredAccumulator:
    """Restored crops as one picture: their mean where they overlap, the image itself where no crop lies.

    Parameters
    ----------
    image
        uint8, H x W x 3, RGB.
    size
        Height and width of the crops, in pixels.
    """

    def __init__(self, image: NDArray[np.uint8], size: tuple[int, int]) -> None:
        self._image = image
        self._mean = CropMean(image.shape, size)

    def add(self, top: int, left: int, crop: NDArray[np.float32]) -> None:
        """Add the crop at (top, left): (3, h, w), RGB, x / 255; values outside 0 to 1 are clipped."""
        self._mean.add(top, left, np.moveaxis(np.clip(crop, 0, 1), 0, -1) * np.float32(255), 1.0)

    def result(self) -> NDArray[np.uint8]:
        """Return the picture, uint8, H x W x 3, RGB, rounded to nearest."""
        mean = self._mean.result()
        return np.where(np.isnan(mean), self._image, np.rint(mean)).astype(np.uint8)
