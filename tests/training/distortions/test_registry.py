"""What holds for every distortion: numbers, levels, repeatability, refusals."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from flat_pictures import flat, mean_square, seeded
from iqa_runtime.errors import ImageError, UsageError
from iqa_training.distortions import (
    DISTORTIONS,
    GROUPS,
    KADID_NUMBER,
    LEVELS,
    OWN_TYPES,
    TYPES,
    Step,
    distort,
)

# The order of the names in the data set's paper, table 1.
KADID_ORDER = [
    "gaussian_blur",
    "lens_blur",
    "motion_blur",
    "color_diffusion",
    "color_shift",
    "color_quantization",
    "color_saturation_1",
    "color_saturation_2",
    "jpeg2000",
    "jpeg",
    "white_noise",
    "color_component_noise",
    "impulse_noise",
    "multiplicative_noise",
    "denoise",
    "brighten",
    "darken",
    "mean_shift",
    "jitter",
    "non_eccentricity_patch",
    "pixelate",
    "quantization",
    "color_block",
    "high_sharpen",
    "contrast_change",
]
RANDOM = {
    "motion_blur",
    "color_shift",
    "white_noise",
    "color_component_noise",
    "impulse_noise",
    "multiplicative_noise",
    "denoise",
    "jitter",
    "non_eccentricity_patch",
    "color_block",
}
# The table moves these up and down in turn, so no measure of fidelity falls from level to level.
TWO_SIDED = {
    "mean_shift": ((1, 2, 4), (3, 5)),
    "contrast_change": ((1, 2, 4), (3, 5)),
    "contrast_scaling": ((1, 3), (2, 4, 5)),
}
ALL = (*TYPES, *OWN_TYPES)
MONOTONE = [name for name in ALL if name not in TWO_SIDED]
# sigma 0.1 and length 1 fit into a pixel, factor 1 and offset 0 change nothing.
NO_EFFECT_AT_LEVEL_1 = {"gaussian_blur", "motion_blur", "color_saturation_2", "mean_shift"}


def test_the_25_types_carry_their_numbers():
    assert list(TYPES) == KADID_ORDER
    assert {name: number for number, name in enumerate(KADID_ORDER, 1)} == KADID_NUMBER
    assert list(DISTORTIONS) == [*KADID_ORDER, *OWN_TYPES]


def test_seven_groups_share_the_types_without_overlap():
    assert [len(names) for names in GROUPS.values()] == [3, 5, 2, 5, 3, 5, 2]
    assert [name for names in GROUPS.values() for name in names] == KADID_ORDER


@pytest.mark.parametrize("name", ALL)
def test_every_level_changes_a_photograph(photograph, name):
    for level in range(1, LEVELS + 1):
        distorted = distort(photograph, name, level, seeded())
        assert distorted.dtype == np.uint8
        assert distorted.shape == photograph.shape
        unchanged = np.array_equal(distorted, photograph)
        assert unchanged == (level == 1 and name in NO_EFFECT_AT_LEVEL_1)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("severity", [0.6, 3, 4.3])
def test_the_same_seed_gives_the_same_picture(photograph, name, severity):
    first, again = (distort(photograph, name, severity, seeded(7)) for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("name", ALL)
def test_only_random_types_use_the_generator(photograph, name):
    rng = seeded(1)
    state = rng.bit_generator.state
    distorted = distort(photograph, name, 4, rng)
    assert (rng.bit_generator.state != state) == (name in RANDOM)
    assert np.array_equal(distorted, distort(photograph, name, 4, seeded(2))) == (name not in RANDOM)


@pytest.mark.parametrize("name", MONOTONE)
def test_psnr_falls_from_level_to_level(photograph, name):
    psnr = [cv2.PSNR(photograph, distort(photograph, name, level, seeded())) for level in range(1, LEVELS + 1)]
    assert all(mild > strong for mild, strong in pairwise(psnr))


@pytest.mark.parametrize("name", TWO_SIDED)
def test_psnr_falls_along_each_direction(photograph, name):
    for levels in TWO_SIDED[name]:
        psnr = [cv2.PSNR(photograph, distort(photograph, name, level, seeded())) for level in levels]
        assert all(mild > strong for mild, strong in pairwise(psnr))


@pytest.mark.parametrize("name", MONOTONE)
def test_between_levels_the_damage_lies_between(photograph, name):
    two, between, three = (
        mean_square(photograph, distort(photograph, name, severity, seeded())) for severity in (2, 2.5, 3)
    )
    assert two < between < three


@pytest.mark.parametrize("name", MONOTONE)
def test_below_level_1_the_damage_is_milder(photograph, name):
    half, one = (mean_square(photograph, distort(photograph, name, severity, seeded())) for severity in (0.5, 1))
    assert half < one or one == 0


@pytest.mark.parametrize("name", TWO_SIDED)
def test_between_levels_the_direction_is_drawn(name):
    halves = np.concatenate([flat(90, 32), flat(190, 32)])
    shades = {int(distort(halves, name, 4.5, seeded(seed))[-1, 0, 0]) > 190 for seed in range(20)}
    assert shades == {True, False}


def test_between_levels_an_offset_is_interpolated_in_its_direction():
    # Upwards 0.08 at level 2 and 0.15 at level 4, downwards 0 at level 1 and -0.08 at level 3.
    up, down = round(255 * 0.0975), round(255 * -0.06)
    offsets = {int(distort(flat(100, 32), "mean_shift", 2.5, seeded(seed))[0, 0, 0]) - 100 for seed in range(20)}
    assert offsets == {up, down}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (47, 32)])
def test_small_pictures_keep_their_size(photograph, name, size):
    small = photograph[: size[0], : size[1]]
    for severity in (0.01, 1.5, 5):
        assert distort(small, name, severity, seeded()).shape == small.shape


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("severity", [0.3, 1, 4])
def test_the_picture_is_neither_changed_nor_shared(photograph, name, severity):
    kept = photograph.copy()
    distorted = distort(photograph, name, severity, seeded())
    assert np.array_equal(photograph, kept)
    assert not np.shares_memory(distorted, photograph)


@pytest.mark.parametrize("name", ALL)
def test_a_view_is_distorted_like_its_copy(photograph, name):
    view = photograph[::-1, 5:-7]
    copy = np.ascontiguousarray(view)
    assert np.array_equal(distort(view, name, 3, seeded()), distort(copy, name, 3, seeded()))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ([[0, 0, 0]], "image is a list: pass a uint8 array"),
        (np.zeros((64, 64, 3), np.float32), "image is float32 of shape"),
        (np.zeros((64, 64), np.uint8), r"of shape \(64, 64\): pass uint8 of shape \(height, width, 3\)"),
        (np.zeros((64, 64, 4), np.uint8), r"of shape \(64, 64, 4\)"),
        (np.zeros((31, 64, 3), np.uint8), "image is 64 x 31 pixels: both sides must have at least 32"),
        (np.zeros((64, 0, 3), np.uint8), "image is 0 x 64 pixels"),
    ],
)
def test_pictures_of_another_kind_are_refused(image, message):
    with pytest.raises(ImageError, match=message):
        distort(image, "jpeg", 1, seeded())


def test_an_unknown_type_names_the_closest(photograph):
    with pytest.raises(UsageError, match="no distortion is called 'gausian_blur': did you mean gaussian_blur"):
        distort(photograph, "gausian_blur", 1, seeded())
    with pytest.raises(UsageError, match="'xyz': choose one of gaussian_blur, lens_blur"):
        Step("xyz", 1)


@pytest.mark.parametrize("severity", [0, -1, 5.01, float("nan"), float("inf")])
def test_severities_out_of_range_are_refused(photograph, severity):
    with pytest.raises(UsageError, match=r"severity of jpeg is .*: it must be above 0 and at most 5"):
        distort(photograph, "jpeg", severity, seeded())
    with pytest.raises(UsageError, match="severity of jpeg is"):
        Step("jpeg", severity)
