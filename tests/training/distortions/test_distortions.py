import io
from collections import Counter
from itertools import pairwise
from math import pi
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter, map_coordinates

from iqa_runtime.errors import ImageError, UsageError
from iqa_training.distortions import (
    DISTORTIONS,
    GROUPS,
    KADID_NUMBER,
    LEVELS,
    MAX_STEPS,
    MIN_SIDE,
    OWN_TYPES,
    TYPES,
    Step,
    compose,
    distort,
    draw,
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

ONE_LEVEL = 1
"""Rounding to 8 bits after other float32 arithmetic may fall on either side of a half."""
SAMPLING_SHARE = 0.03
"""Five standard errors of a variance estimated from 3 * 256 * 256 Gaussian samples are 1.6 %; rounding adds 1/12."""


@pytest.fixture(scope="module", params=["meadow.jpg", "dogs.jpg"])
def photograph(request):
    folder = Path(__file__).parents[3] / "calibration" / "iqa_calibration" / "photographs"
    image = cv2.imread(str(folder / request.param), cv2.IMREAD_COLOR_RGB)
    return np.ascontiguousarray(image[:256, :256])


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def flat(value: int, size: int = 256) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def mean_square(image, other) -> float:
    return float(np.mean((image.astype(float) - other) ** 2))


def ramp(height: int = MIN_SIDE) -> np.ndarray:
    """Every grey, in every row."""
    return np.repeat(np.tile(np.arange(256, dtype=np.uint8), (height, 1))[..., None], 3, axis=2)


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


def test_gaussian_blur_is_that_of_scipy(photograph):
    expected = gaussian_filter(photograph.astype(float), (2, 2, 0), truncate=2, mode="nearest")
    assert np.abs(distort(photograph, "gaussian_blur", 4, seeded()) - expected).max() <= ONE_LEVEL


def point() -> np.ndarray:
    image = flat(0, 65)
    image[32, 32] = 255
    return image


def test_lens_blur_spreads_a_point_over_a_disk():
    spread = distort(point(), "lens_blur", 2, seeded())[..., 0]
    area = pi * 2**2
    assert abs(float(spread[32, 32]) - 255 / area) <= ONE_LEVEL
    # Pixel (1.5, 1.5) away lies on the rim at 2.12 and (2, 2) away beyond it.
    assert spread[34, 34] == 0
    assert 0 < spread[34, 32] < spread[32, 32]
    assert np.array_equal(spread, spread.T)


def test_motion_blur_spreads_a_point_along_a_line_of_its_length():
    orientations = set()
    for seed in range(8):
        spread = distort(point(), "motion_blur", 5, seeded(seed))[..., 0].astype(float)
        rows, columns = np.mgrid[-32:33, -32:33]
        weights = spread.ravel() / spread.sum()
        covariance = np.cov(columns.ravel(), rows.ravel(), aweights=weights, ddof=0)
        across, along = np.linalg.eigvalsh(covariance)
        # A uniform line of length l has the variance l**2 / 12; the line is one to two pixels wide.
        assert 9 <= np.sqrt(12 * along) <= 11
        assert np.sqrt(12 * across) <= 2
        orientations.add((bool(covariance[0, 1] > 0), bool(covariance[0, 0] > covariance[1, 1])))
    assert len(orientations) == 4


def test_color_diffusion_is_the_blurred_and_scaled_chroma(photograph):
    muted = distort(photograph, "color_saturation_1", 2, seeded())
    lab, diffused = (
        cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
        for image in (muted, distort(muted, "color_diffusion", 2, seeded()))
    )
    # Amount 3: sigma 6.5, cut at two deviations.
    lab[..., 1:] = 3 * gaussian_filter(lab[..., 1:], (6.5, 6.5, 0), truncate=2, mode="nearest")
    # One of 256 levels is at most 0.4 of the 100 of L; a and b after scaling are 1.6 and more on average.
    rounding = 0.4
    assert np.abs(lab - diffused).mean() < rounding


def test_color_shift_moves_green_at_edges_only():
    image = flat(20)
    image[:, 128:] = 220
    shifted = distort(image, "color_shift", 3, seeded())
    assert np.array_equal(shifted[..., [0, 2]], image[..., [0, 2]])
    assert np.array_equal(shifted[:, :100], image[:, :100])
    assert np.array_equal(shifted[:, 156:], image[:, 156:])
    assert not np.array_equal(shifted[..., 1], image[..., 1])


@pytest.mark.parametrize(("level", "colors"), [(1, 64), (2, 48), (3, 32), (4, 16), (5, 8)])
def test_color_quantization_leaves_so_many_colors(photograph, level, colors):
    quantized = distort(photograph, "color_quantization", level, seeded())
    found = len(np.unique(quantized.reshape(-1, 3), axis=0))
    # Median cut stops short where a box holds one colour only.
    assert 0.9 * colors <= found <= colors


@pytest.mark.parametrize(("level", "factor"), [(1, 0.4), (2, 0.2), (3, 0.1), (4, 0)])
def test_color_saturation_1_scales_the_saturation_of_hsv(photograph, level, factor):
    hsv = cv2.cvtColor(photograph.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 1] *= factor
    expected = 255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    assert np.abs(distort(photograph, "color_saturation_1", level, seeded()) - expected).max() <= ONE_LEVEL


def test_color_saturation_2_scales_the_chroma(photograph):
    muted = distort(photograph, "color_saturation_1", 3, seeded())
    chroma = [
        np.hypot(*np.moveaxis(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[..., 1:], -1, 0)).sum()
        for image in (muted, distort(muted, "color_saturation_2", 3, seeded()))
    ]
    share_lost_to_rounding_and_gamut = 0.05
    assert chroma[1] / chroma[0] == pytest.approx(3, rel=share_lost_to_rounding_and_gamut)


@pytest.mark.parametrize(("severity", "ratio"), [(1, 16), (3, 45), (4, 120), (5, 170), (4.5, (120 * 170) ** 0.5)])
def test_jpeg2000_reaches_its_ratio(photograph, monkeypatch, severity, ratio):
    sizes = []
    opened = PIL.Image.open

    def measured(file: io.BytesIO):
        sizes.append(len(file.getvalue()))
        return opened(file)

    monkeypatch.setattr(PIL.Image, "open", measured)
    distort(photograph, "jpeg2000", severity, seeded())
    cut_at_a_coding_pass = 0.05
    assert photograph.size / sizes[0] == pytest.approx(ratio, rel=cut_at_a_coding_pass)


@pytest.mark.parametrize(("level", "quality"), [(1, 43), (2, 36), (3, 24), (4, 7), (5, 4)])
def test_jpeg_is_that_of_pillow(photograph, level, quality):
    file = io.BytesIO()
    PIL.Image.fromarray(photograph).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    expected = np.asarray(PIL.Image.open(file))
    distorted = distort(photograph, "jpeg", level, seeded())
    # Both call libjpeg-turbo, whose DCT and colour conversion differ between builds by a few levels in a few pixels.
    share_of_the_damage = 0.01
    assert mean_square(distorted, expected) <= share_of_the_damage * mean_square(photograph, expected)


@pytest.mark.parametrize(("level", "variance"), [(1, 0.001), (3, 0.003), (5, 0.01)])
def test_white_noise_has_its_variance(level, variance):
    noisy = distort(flat(128), "white_noise", level, seeded()) / 255
    assert noisy.var() == pytest.approx(variance, rel=SAMPLING_SHARE)


@pytest.mark.parametrize(("level", "variance"), [(2, 0.0005), (5, 0.003)])
def test_color_component_noise_has_its_variance_in_each_component(level, variance):
    noisy = distort(flat(128), "color_component_noise", level, seeded()).astype(np.float32) / 255
    components = cv2.cvtColor(noisy, cv2.COLOR_RGB2YCrCb).reshape(-1, 3)
    assert components.var(axis=0) == pytest.approx([variance] * 3, rel=SAMPLING_SHARE)


@pytest.mark.parametrize(("level", "variance"), [(1, 0.001), (5, 0.05)])
def test_multiplicative_noise_grows_with_the_value(level, variance):
    for value in (60, 120):
        noisy = distort(flat(value), "multiplicative_noise", level, seeded())
        assert noisy.var() == pytest.approx(variance * value**2 + 1 / 12, rel=SAMPLING_SHARE)


@pytest.mark.parametrize(("level", "density"), [(1, 0.001), (5, 0.03)])
def test_impulse_noise_has_its_density(level, density):
    noisy = distort(flat(100), "impulse_noise", level, seeded())
    counts = Counter(noisy.ravel().tolist())
    assert set(counts) == {0, 100, 255}
    expected = noisy.size * density / 2
    assert counts[0] == pytest.approx(expected, abs=5 * expected**0.5)
    assert counts[255] == pytest.approx(expected, abs=5 * expected**0.5)


def test_denoise_removes_most_of_the_noise_it_adds():
    cleaned = distort(flat(128), "denoise", 1, seeded()) / 255
    assert 0 < cleaned.var() < 0.01 / 5


@pytest.mark.parametrize(("level", "amount"), [(1, 0.05), (2, 0.1), (3, 0.2), (4, 0.4), (5, 0.8)])
def test_darken_follows_the_parabola_through_its_middle(level, amount):
    parabola = np.polynomial.Polynomial.fit([0, 0.5, 1], [0, 0.5 - amount / 2, 1], 2)
    expected = 255 * np.clip(parabola(ramp() / 255), 0, 1)
    assert np.abs(distort(ramp(), "darken", level, seeded()) - expected).max() <= ONE_LEVEL


@pytest.mark.parametrize(("level", "amount"), [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.7), (5, 1.1)])
def test_brighten_mixes_the_parabola_on_rgb_and_on_lightness(level, amount):
    parabola = np.polynomial.Polynomial.fit([0, 0.5, 1], [0, 0.5 + amount / 2, 1], 2)
    lab = cv2.cvtColor(ramp().astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    lab[..., 0] = 100 * np.clip(parabola(lab[..., 0] / 100), 0, 1)
    lightness = cv2.cvtColor(lab, cv2.COLOR_Lab2RGB)
    expected = 255 * (2 * np.clip(parabola(ramp() / 255), 0, 1) + lightness) / 3
    assert np.abs(distort(ramp(), "brighten", level, seeded()) - expected).max() <= ONE_LEVEL


@pytest.mark.parametrize(("level", "offset"), [(1, 0), (2, 0.08), (3, -0.08), (4, 0.15), (5, -0.15)])
def test_mean_shift_adds_its_offset(level, offset):
    expected = np.clip(ramp() + 255 * offset, 0, 255)
    assert np.abs(distort(ramp(), "mean_shift", level, seeded()) - expected).max() <= ONE_LEVEL


def test_jitter_moves_pixels_five_times():
    assert np.array_equal(distort(flat(90), "jitter", 5, seeded()), flat(90))
    slope = np.tile(np.arange(256.0), (256, 1))
    rng = seeded(1)
    expected = slope
    for _ in range(5):
        positions = np.mgrid[:256, :256] + rng.standard_normal((2, 256, 256))
        expected = map_coordinates(expected, positions, order=1, mode="nearest")
    moves = (distort(ramp(256), "jitter", 5, seeded()) - slope[..., None])[:, 20:-20]
    # Four moves instead of five would lose 5 % of the variance; the estimates agree to 1 %, rounding adds 1/12.
    assert moves.var() == pytest.approx((expected - slope)[:, 20:-20].var() + 1 / 12, rel=0.02)
    # Five Gaussian moves of deviation 1 have the deviation 2.24 together; 15 pixels are nearly seven of these.
    assert np.abs(moves).max() < 15


def test_patches_come_from_nearby():
    image = flat(0)
    image[..., 0] = np.arange(256)
    image[..., 1] = np.arange(256)[:, None]
    patched = distort(image, "non_eccentricity_patch", 5, seeded()).astype(int)
    move = np.abs(patched - image)
    assert move.max() == 8
    changed = (move > 0).any(axis=2).sum()
    assert 0 < changed <= 100 * 16**2


@pytest.mark.parametrize(("level", "strength"), [(1, 0.01), (2, 0.05), (3, 0.1), (4, 0.2), (5, 0.5)])
def test_pixelate_keeps_so_many_columns(level, strength):
    pixelated = distort(ramp(), "pixelate", level, seeded())
    assert len(np.unique(pixelated)) == round(256 * (0.95 - strength**0.6))


@pytest.mark.parametrize("severity", [0.5, 2, 5])
def test_pixelate_does_not_shift_the_picture(severity):
    drift = distort(ramp(), "pixelate", severity, seeded()).mean() - ramp().mean()
    assert abs(drift) < 0.1


@pytest.mark.parametrize(("level", "values"), [(1, 20), (2, 16), (3, 13), (4, 10), (5, 7)])
def test_quantization_leaves_so_many_equally_spaced_values(level, values):
    found = np.unique(distort(ramp(), "quantization", level, seeded()))
    assert np.abs(found - np.linspace(0, 255, values)).max() <= ONE_LEVEL


@pytest.mark.parametrize(("level", "blocks"), [(1, 2), (5, 10)])
def test_color_blocks_are_uniform_and_counted(level, blocks):
    image = flat(128, 1024)
    colors, counts = np.unique(
        distort(image, "color_block", level, seeded()).reshape(-1, 3), axis=0, return_counts=True
    )
    painted = counts[(colors != 128).any(axis=1)]
    assert len(painted) == blocks
    assert painted.max() == 32**2


def test_high_sharpen_overshoots_at_edges_only():
    assert np.abs(distort(flat(90), "high_sharpen", 5, seeded()).astype(int) - 90).max() <= ONE_LEVEL
    image = flat(100)
    image[:, 128:] = 150
    sharpened = distort(image, "high_sharpen", 1, seeded())[128, :, 0].astype(int)
    assert sharpened[127] < 90
    assert sharpened[128] > 160
    assert np.abs(sharpened[:120] - 100).max() <= ONE_LEVEL


def test_contrast_scaling_keeps_the_mean_and_scales_the_rest():
    halves = np.concatenate([flat(100), flat(140)])
    for level, octaves in enumerate((0.15, -0.25, 0.4, -0.6, -1.2), 1):
        low, high = distort(halves, "contrast_scaling", level, seeded())[[0, -1], 0, 0].tolist()
        assert abs(high - (120 + 20 * 2**octaves)) <= ONE_LEVEL
        assert abs(low - (120 - 20 * 2**octaves)) <= ONE_LEVEL


@pytest.mark.parametrize(("level", "amount"), [(1, 0), (2, 0.15), (3, -0.4), (4, 0.3), (5, -0.6)])
def test_contrast_change_is_the_spline_through_its_knots(level, amount):
    spline = CubicSpline([0, 0.3, 0.5, 0.7, 1], [0, 0.25 - amount / 4, 0.5, 0.75 + amount / 4, 1])
    expected = 255 * np.clip(spline(ramp() / 255), 0, 1)
    assert np.abs(distort(ramp(), "contrast_change", level, seeded()) - expected).max() <= ONE_LEVEL


def test_a_composition_is_its_steps_in_order(photograph):
    steps = (Step("gaussian_blur", 4), Step("white_noise", 3.5), Step("jpeg", 4))
    rng = seeded(5)
    expected = photograph
    for step in steps:
        expected = distort(expected, step.name, step.severity, rng)
    assert np.array_equal(compose(photograph, steps, seeded(5)), expected)
    assert not np.array_equal(compose(photograph, steps[::-1], seeded(5)), expected)


@pytest.mark.parametrize("count", [0, 5])
def test_a_composition_has_one_to_four_steps(photograph, count):
    steps = [Step(names[0], 1) for names in GROUPS.values()][:count]
    with pytest.raises(UsageError, match=f"{count} steps: a composition has 1 to {MAX_STEPS}"):
        compose(photograph, steps, seeded())


def test_a_composition_takes_one_type_of_a_group(photograph):
    with pytest.raises(UsageError, match="jpeg2000 and jpeg are both of group compression: keep one"):
        compose(photograph, [Step("jpeg2000", 1), Step("brighten", 1), Step("jpeg", 2)], seeded())


def test_a_draw_is_repeatable_and_composes(photograph):
    assert draw(seeded(3)) == draw(seeded(3))
    assert compose(photograph, draw(seeded(3)), seeded(4)).shape == photograph.shape


def test_draws_follow_the_distribution():
    rng = seeded(11)
    draws = [draw(rng) for _ in range(3000)]
    group_of = {name: group for group, names in GROUPS.items() for name in names}
    assert all(len({group_of[step.name] for step in steps}) == len(steps) for steps in draws)
    assert {step.name for steps in draws for step in steps} == set(TYPES)

    lengths = Counter(len(steps) for steps in draws)
    five_deviations = 5 * (3000 * 0.25 * 0.75) ** 0.5
    assert sorted(lengths) == [1, 2, 3, 4]
    assert all(abs(number - 750) < five_deviations for number in lengths.values())

    levels = Counter(step.severity for steps in draws for step in steps)
    # exp(-l**2 / 12.5) for l = 0..4, by their sum.
    probabilities = {1: 0.2929, 2: 0.2704, 3: 0.2127, 4: 0.1426, 5: 0.0814}
    for level, probability in probabilities.items():
        deviation = (levels.total() * probability * (1 - probability)) ** 0.5
        assert abs(levels[level] - levels.total() * probability) < 5 * deviation


@pytest.mark.parametrize("count", range(1, MAX_STEPS + 1))
def test_a_draw_has_the_wanted_number_of_steps(count):
    assert len(draw(seeded(), count)) == count


@pytest.mark.parametrize("count", [0, -1, 5])
def test_a_draw_of_another_number_is_refused(count):
    with pytest.raises(UsageError, match=f"count is {count}: a composition has 1 to 4 steps"):
        draw(seeded(), count)


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
