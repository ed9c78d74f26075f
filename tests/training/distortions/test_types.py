"""Each type of distortion, by what its name promises, beside other libraries and numbers worked out by hand."""

import io
from collections import Counter
from math import pi

import cv2
import numpy as np
import PIL.Image
import pytest
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter, map_coordinates

from flat_pictures import flat, mean_square, ramp, seeded
from iqa_training.distortions import distort

ONE_LEVEL = 1
"""Rounding to 8 bits after other float32 arithmetic may fall on either side of a half."""
SAMPLING_SHARE = 0.03
"""Five standard errors of a variance estimated from 3 * 256 * 256 Gaussian samples are 1.6 %; rounding adds 1/12."""


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
