from itertools import pairwise

import cv2
import numpy as np
import pytest

from iqa_calibration.images.degradations import KINDS, LEVELS, degrade
from iqa_runtime.errors import UsageError

HEIGHT, WIDTH = 90, 121

NOISE_TOLERANCE = 0.03
"""Of the standard deviation, estimated from 32670 samples (0.4 % by chance) after rounding to whole steps (0.2 %)."""


@pytest.fixture(scope="module")
def photograph():
    """Blobs of all sizes, as pictures have them, away from black and white."""
    random = np.random.default_rng(3)
    grids = [random.normal(0, 20, (size, size, 3)) for size in (4, 8, 16, 32, 64)]
    layers = [cv2.resize(grid, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for grid in grids]
    return np.clip(sum(layers) + 128, 60, 195).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_every_level_is_further_from_the_image(photograph, kind):
    errors = [
        np.square(degrade(photograph, kind, level, seed=1).astype(float) - photograph).mean()
        for level in range(LEVELS + 1)
    ]
    assert errors[0] == 0
    assert all(worse > better for better, worse in pairwise(errors))


@pytest.mark.parametrize("kind", KINDS)
def test_shape_and_type_stay_and_the_image_is_not_touched(photograph, kind):
    before = photograph.copy()
    degraded = degrade(photograph, kind, LEVELS, seed=1)
    assert degraded.shape == photograph.shape
    assert degraded.dtype == np.uint8
    np.testing.assert_array_equal(photograph, before)


@pytest.mark.parametrize("kind", KINDS)
def test_same_arguments_same_pixels(photograph, kind):
    np.testing.assert_array_equal(degrade(photograph, kind, 2, seed=5), degrade(photograph, kind, 2, seed=5))


def test_noise_has_the_deviation_of_its_level_and_its_seed(photograph):
    noise = degrade(photograph, "noise", 2, seed=1).astype(float) - photograph
    assert noise.std() == pytest.approx(10, rel=NOISE_TOLERANCE)
    assert abs(noise.mean()) < 10 * NOISE_TOLERANCE
    assert not np.array_equal(degrade(photograph, "noise", 2, seed=2).astype(float) - photograph, noise)


def test_blur_of_a_bright_pixel_is_a_gaussian():
    image = np.zeros((61, 61, 3), np.uint8)
    image[30, 30] = 255
    blurred = degrade(image, "blur", 2, seed=0)
    # Centre of a two-dimensional Gaussian of sigma 1.4: 255 / (2 pi sigma^2).
    assert blurred[30, 30, 0] == pytest.approx(255 / (2 * np.pi * 1.4**2), abs=1)


def test_jpeg_keeps_red_red():
    image = np.zeros((32, 32, 3), np.uint8)
    image[..., 0] = 200
    red, green, blue = degrade(image, "jpeg", 1, seed=0).reshape(-1, 3).mean(0)
    assert red > 190
    assert green < 10
    assert blue < 10


@pytest.mark.parametrize("kind", KINDS)
def test_single_pixel(kind):
    assert degrade(np.full((1, 1, 3), 7, np.uint8), kind, LEVELS, seed=0).shape == (1, 1, 3)


@pytest.mark.parametrize(("kind", "level"), [("fog", 1), ("blur", 5), ("blur", -1)])
def test_unknown_kind_or_level_is_refused(kind, level):
    with pytest.raises(UsageError, match=kind):
        degrade(np.zeros((8, 8, 3), np.uint8), kind, level, seed=0)
