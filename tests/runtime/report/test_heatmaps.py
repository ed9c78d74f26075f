"""Heat maps: names that never meet, colours that follow the score's direction, a legend with true values."""

import cv2
import numpy as np
import pytest

from iqa_runtime.report.heatmaps import NARROWEST_SCALE, colour_scale, render_heatmap

NOMINAL = (0.0, 1.0)
HEIGHT, WIDTH = 60, 320


@pytest.fixture
def image():
    return np.full((HEIGHT, WIDTH, 3), 128, np.uint8)


@pytest.fixture
def ramp():
    """Quality rising from 0.2 on the left to 0.8 on the right."""
    return np.tile(np.linspace(0.2, 0.8, WIDTH, dtype=np.float32), (HEIGHT, 1))


def lightness(picture):
    return cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(int)


def test_light_end_is_the_better_one_in_both_directions(image, ramp):
    rising = lightness(render_heatmap(image, ramp, NOMINAL, higher_is_better=True))[HEIGHT // 2, :WIDTH]
    falling = lightness(render_heatmap(image, ramp, NOMINAL, higher_is_better=False))[HEIGHT // 2, :WIDTH]
    assert rising[-1] > rising[WIDTH // 2] > rising[0]
    assert falling[0] > falling[WIDTH // 2] > falling[-1]


def test_picture_is_the_image_with_a_strip_below(image, ramp):
    picture = render_heatmap(image, ramp, NOMINAL, higher_is_better=True)
    assert picture.dtype == np.uint8
    assert picture.shape[0] > HEIGHT
    assert picture.shape[1:] == (WIDTH, 3)
    strip = lightness(picture)[HEIGHT + 2]
    assert strip[-1] > strip[WIDTH // 2] > strip[0]


def test_small_image_leaves_room_for_the_legend():
    picture = render_heatmap(
        np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.float32), NOMINAL, higher_is_better=True
    )
    assert picture.shape[1] >= 200


def test_grey_image_shows_where_no_crop_lies(image, ramp):
    ramp[:, : WIDTH // 2] = np.nan
    picture = render_heatmap(image, ramp, NOMINAL, higher_is_better=True)
    assert (picture[:HEIGHT, : WIDTH // 2] == 128).all()
    assert (np.ptp(picture[:HEIGHT, WIDTH // 2 :], axis=2) > 0).all()


def test_scale_is_the_maps_own_range(ramp):
    ramp[0, 0] = np.nan
    assert colour_scale(ramp, NOMINAL) == pytest.approx((0.2, 0.8))


@pytest.mark.parametrize("spread", [0, 1e-6])
def test_nearly_constant_map_is_not_blown_up(spread):
    values = np.array([[50, 50 + spread]], np.float32)
    low, high = colour_scale(values, (0, 100))
    assert high - low == pytest.approx(NARROWEST_SCALE * 100)
    assert low < 50 < high


def test_map_without_values_is_the_grey_image(image):
    values = np.full((HEIGHT, WIDTH), np.nan, np.float32)
    assert colour_scale(values, NOMINAL) == NOMINAL
    assert (render_heatmap(image, values, NOMINAL, higher_is_better=True)[:HEIGHT, :WIDTH] == 128).all()
