"""Quality maps put together from the maps of crops."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from iqa_runtime.scoring.maps import MapAccumulator, RestoredAccumulator

# float32 sums of a few terms around 1.
ROUNDING = 1e-6


def cells(*rows: list[float]) -> NDArray[np.float32]:
    return np.array(rows, dtype=np.float32)


def test_pixels_without_a_crop_are_nan() -> None:
    area = MapAccumulator(4, 6, size=(2, 2))
    area.add(1, 3, cells([0.5]), None)
    expected = np.full((4, 6), np.nan, dtype=np.float32)
    expected[1:3, 3:5] = 0.5
    np.testing.assert_array_equal(area.result(), expected)


def test_overlap_is_the_mean() -> None:
    area = MapAccumulator(2, 3, size=(2, 2))
    area.add(0, 0, cells([1.0]), None)
    area.add(0, 1, cells([3.0]), None)
    np.testing.assert_array_equal(area.result(), [[1, 2, 3]] * 2)


def test_overlap_is_weighted() -> None:
    area = MapAccumulator(2, 3, size=(2, 2))
    area.add(0, 0, cells([1.0]), cells([0.25]))
    area.add(0, 1, cells([3.0]), cells([0.75]))
    np.testing.assert_allclose(area.result(), [[1, 2.5, 3]] * 2, rtol=ROUNDING)


def test_cells_are_enlarged_bilinearly_between_their_centres() -> None:
    area = MapAccumulator(4, 4, size=(4, 4))
    area.add(0, 0, cells([0.0, 1.0], [0.0, 1.0]), None)
    np.testing.assert_allclose(area.result(), [[0, 0.25, 0.75, 1]] * 4, atol=ROUNDING)


def test_what_hangs_over_the_edge_is_left_out() -> None:
    area = MapAccumulator(2, 2, size=(4, 4))
    quality = np.arange(4, dtype=np.float32).reshape(2, 2)
    area.add(-1, -1, quality, None)
    np.testing.assert_allclose(area.result(), cv2.resize(quality, (4, 4))[1:3, 1:3], rtol=ROUNDING)


def test_weight_zero_counts_for_nothing() -> None:
    area = MapAccumulator(1, 2, size=(1, 1))
    area.add(0, 0, cells([1.0]), cells([0.0]))
    area.add(0, 1, cells([1.0]), cells([2.0]))
    assert np.isnan(area.result()[0, 0])
    assert area.result()[0, 1] == pytest.approx(1)


def test_restored_crops_are_averaged_clipped_and_laid_over_the_image() -> None:
    image = np.full((2, 5, 3), 9, dtype=np.uint8)
    picture = RestoredAccumulator(image, size=(2, 2))
    for left, values in ((0, (0.0, 0.5, 2.0)), (1, (-1.0, 0.2, 1.0))):
        picture.add(0, left, np.tile(np.array(values, dtype=np.float32)[:, None, None], (1, 2, 2)))
    result = picture.result()
    assert result.dtype == np.uint8
    # 0.5 of 255 is 127.5, rounded to even; the mean of 0.5 and 0.2 is 89.25.
    assert result[0].tolist() == [[0, 128, 255], [0, 89, 255], [0, 51, 255], [9, 9, 9], [9, 9, 9]]


def test_restored_crop_over_the_edge_of_a_small_image() -> None:
    picture = RestoredAccumulator(np.zeros((1, 1, 3), dtype=np.uint8), size=(3, 3))
    crop = np.zeros((3, 3, 3), dtype=np.float32)
    crop[:, 1, 1] = (0.2, 0.4, 0.6)
    picture.add(-1, -1, crop)
    assert picture.result().tolist() == [[[51, 102, 153]]]
