"""The full-reference metrics against independent implementations, and the ensemble of their quantile ranks."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from iqa_runtime.errors import UsageError
from iqa_training.metrics import METRICS, fsim, gmsd, haarpsi, mdsi, ms_ssim, psnr, ssim, vif, vsi
from iqa_training.metrics.ensemble import TEACHERS, QuantileScale, label, measure
from iqa_training.metrics.phase_congruency import phase_congruency
from iqa_training.metrics.planes import block_mean
from iqa_training.metrics.saliency import saliency

Image = NDArray[np.uint8]

# float32 planes against float64 ones: a relative 6e-8 of sums up to about 1e3, divided by constants of about 1e2.
SINGLE_PRECISION = 2e-6
# The same under MDSI's fourth root, whose slope at the smallest deviation here, 9.6e-4, is 46.
SINGLE_PRECISION_UNDER_ROOT = 46 * SINGLE_PRECISION
# VIF's guard against division by zero, 1e-10 beside variances of 1 and more.
IDENTITY = 1e-9

# By PIQ 0.8.0 in double precision on the pair that `pattern` and `degrade` make, called as (reference, distorted), MDSI
# as (distorted, reference), which is its order; with the chrominance constants of the papers of FSIM and HaarPSI, which
# PIQ gives one more digit; VIF by sewar 0.4.10, on the same luma.
KNOWN = {
    "quantised": {
        "ssim": 0.8619879,
        "ms_ssim": 0.9833207,
        "gmsd": 0.0292571,
        "vif": 0.5677173,
        "fsim": 0.9214586,
        "vsi": 0.9694456,
        "mdsi": 0.3249858,
        "haarpsi": 0.9531837,
    },
    "blurred": {
        "ssim": 0.9870966,
        "ms_ssim": 0.9977515,
        "gmsd": 0.0084570,
        "vif": 0.8581662,
        "fsim": 0.9860766,
        "vsi": 0.9953654,
        "mdsi": 0.2277498,
        "haarpsi": 0.9869370,
    },
}
# By PIQ on the top left 251 x 243 pixels: filters of odd sides.
KNOWN_ODD_FSIM = {"quantised": 0.9168083, "blurred": 0.9871586}
# By PIQ, given the 2 x 2 block means of both images.
KNOWN_HALVED = {
    "quantised": {"ssim": 0.9704637, "fsim": 0.9880168, "mdsi": 0.2275698},
    "blurred": {"ssim": 0.9956168, "fsim": 0.9939925, "mdsi": 0.1762161},
}
SYMMETRIC = ("psnr", "ssim", "ms_ssim", "gmsd", "fsim", "vsi", "haarpsi")


def pattern(side: int = 256) -> Image:
    """Chirps of another direction in each channel, by integer arithmetic, so that every machine makes the same."""
    y, x = np.mgrid[:side, :side]
    waves = [3 * x + 2 * y + x * y // 50, ((x - 90) ** 2 + (y - 60) ** 2) // 40, 5 * y - x + (x * x) // 300]
    return np.stack([np.abs(wave % 256 - 128) * 255 // 128 for wave in waves], axis=2).astype(np.uint8)


def degrade(image: Image, how: str) -> Image:
    if how == "quantised":
        return image // 32 * 32 + 16
    height, width = image.shape[:2]
    padded = np.pad(image.astype(int), ((2, 2), (2, 2), (0, 0)), mode="edge")
    shifted = [padded[y : y + height, x : x + width] for y in range(5) for x in range(5)]
    return (np.sum(shifted, axis=0) // 25).astype(np.uint8)


def flat(level: int, side: int = 200) -> Image:
    return np.full((side, side, 3), level, dtype=np.uint8)


def noisy(image: Image, sigma: float) -> Image:
    noise = np.random.default_rng(3).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def tolerance(name: str) -> float:
    return SINGLE_PRECISION_UNDER_ROOT if name == "mdsi" else SINGLE_PRECISION


def better(name: str, first: float, second: float) -> bool:
    return first > second if METRICS[name].higher_is_better else first < second


@pytest.mark.parametrize("how", KNOWN)
@pytest.mark.parametrize("name", KNOWN["blurred"])
def test_agrees_with_an_independent_implementation(name: str, how: str) -> None:
    reference = pattern()
    value = METRICS[name].function(reference, degrade(reference, how))
    assert value == pytest.approx(KNOWN[how][name], abs=tolerance(name))


@pytest.mark.parametrize("how", KNOWN_HALVED)
@pytest.mark.parametrize(("name", "function"), [("ssim", ssim), ("fsim", fsim), ("mdsi", mdsi)])
def test_agrees_when_halved(name: str, function: Any, how: str) -> None:
    reference = pattern()
    value = function(reference, degrade(reference, how), downsample=2)
    assert value == pytest.approx(KNOWN_HALVED[how][name], abs=tolerance(name))


@pytest.mark.parametrize("how", KNOWN_ODD_FSIM)
def test_fsim_agrees_at_odd_sizes(how: str) -> None:
    reference = pattern()[:251, :243]
    value = fsim(reference, degrade(reference, how))
    assert value == pytest.approx(KNOWN_ODD_FSIM[how], abs=SINGLE_PRECISION)


def test_psnr_by_hand() -> None:
    # A difference of 10 everywhere: 10 log10(255^2 / 10^2).
    assert psnr(flat(100), flat(110)) == pytest.approx(28.1308, abs=1e-4)


def test_psnr_weighs_the_channels_as_luma() -> None:
    changed = flat(100)
    changed[:, :, 1] += 10
    assert psnr(flat(100), changed) == pytest.approx(28.1308 - 20 * math.log10(0.587), abs=1e-4)


def test_ssim_by_hand() -> None:
    # No variance anywhere, so that the luminance term is left: (2 100 110 + C1) / (100^2 + 110^2 + C1), C1 = 2.55^2.
    assert ssim(flat(100), flat(110)) == pytest.approx(22006.5025 / 22106.5025, abs=1e-9)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("image", [pattern(180), flat(77), np.repeat(pattern(181)[:, :, :1], 3, axis=2)])
def test_identical_images_have_the_best_value(name: str, image: Image) -> None:
    metric = METRICS[name]
    assert metric.function(image, image.copy()) == pytest.approx(metric.identical, abs=IDENTITY)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric_metrics_do_not_care_for_the_order(name: str) -> None:
    first = pattern(192)
    second = noisy(first, 20)
    function = METRICS[name].function
    # The order of a sum of two floats is all that changes.
    assert function(first, second) == pytest.approx(function(second, first), abs=1e-7)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("distortion", ["blur", "noise"])
def test_more_distortion_is_worse(name: str, distortion: str) -> None:
    # Band-limited noise: texture at every scale, as photographs have, that blur takes away.
    grain = np.random.default_rng(5).normal(128, 60, (192, 208, 3)).astype(np.float32)
    grain += 4 * cv2.GaussianBlur(grain - 128, (0, 0), 4)
    reference = np.clip(grain, 0, 255).astype(np.uint8)
    ladder = [reference]
    for strength in (1, 2, 4):
        worse = (
            noisy(reference, 12.0 * strength) if distortion == "noise" else cv2.blur(reference, (2 * strength + 1,) * 2)
        )
        ladder.append(np.asarray(worse))
    values = [METRICS[name].function(reference, image) for image in ladder]
    assert all(better(name, first, second) for first, second in pairwise(values)), values


@pytest.mark.parametrize("name", METRICS)
def test_odd_sizes_and_views_are_fine(name: str) -> None:
    reference = pattern(183)[:, 4:181]
    distorted = noisy(reference, 10)
    value = METRICS[name].function(reference, distorted)
    assert better(name, METRICS[name].identical, value)
    assert value == METRICS[name].function(np.ascontiguousarray(reference), distorted)


@pytest.mark.parametrize("name", METRICS)
def test_black_against_white_is_finite(name: str) -> None:
    assert math.isfinite(METRICS[name].function(flat(0), flat(255)))


@pytest.mark.parametrize(
    "name", [name for name, metric in METRICS.items() if metric.takes_downsample and name != "ssim"]
)
@pytest.mark.parametrize(("side", "factor"), [(383, 1), (384, 2), (640, 3)])
def test_default_factor_follows_the_shorter_side(name: str, side: int, factor: int) -> None:
    reference = np.ascontiguousarray(np.tile(pattern(), (3, 3, 1))[:side, :650])
    distorted = degrade(reference, "quantised")
    function = METRICS[name].function
    assert function(reference, distorted) == function(reference, distorted, downsample=factor)
    assert function(reference, distorted) != function(reference, distorted, downsample=factor + 1)


def test_ssim_is_not_downsampled_unless_asked() -> None:
    reference = np.ascontiguousarray(np.tile(pattern(), (2, 2, 1)))
    distorted = degrade(reference, "quantised")
    assert ssim(reference, distorted) == ssim(reference, distorted, downsample=1)
    assert ssim(reference, distorted, downsample=None) == ssim(reference, distorted, downsample=2)


def test_block_mean_leaves_out_what_fills_no_block() -> None:
    image = np.arange(5 * 7, dtype=np.uint8).reshape(5, 7)
    expected = image[:4, :6].reshape(2, 2, 3, 2).mean(axis=(1, 3))
    np.testing.assert_array_equal(block_mean(image, 2), expected)


@pytest.mark.parametrize("function", [psnr, ssim, ms_ssim, gmsd, vif, fsim, vsi, mdsi, haarpsi])
@pytest.mark.parametrize(
    ("reference", "distorted", "message"),
    [
        (flat(0), flat(0)[:, :-1], "differ in shape"),
        (flat(0).astype(np.float32), flat(0), "reference: an array of float32"),
        (flat(0), flat(0)[:, :, 0], r"distorted: an array of uint8 \(200, 200\)"),
        (flat(0), np.repeat(flat(0), 2, axis=2)[:, :, :4], r"distorted: an array of uint8 \(200, 200, 4\)"),
        (flat(0)[:31], flat(0)[:31], "200 x 31 pixels"),
        ("a.png", flat(0), "reference: of type str"),
    ],
)
def test_what_cannot_be_compared_is_refused(function: Any, reference: Any, distorted: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        function(reference, distorted)


def test_ms_ssim_needs_room_for_its_window_at_the_coarsest_scale() -> None:
    assert ms_ssim(flat(9, 176), flat(9, 176)) == 1
    with pytest.raises(UsageError, match="175 x 175 pixels; this metric needs 176"):
        ms_ssim(flat(9, 175), flat(9, 175))


@pytest.mark.parametrize("downsample", [0, -2, 13, 2.0])
@pytest.mark.parametrize("function", [ssim, fsim, vsi, mdsi])
def test_unfit_factors_are_refused(function: Any, downsample: Any) -> None:
    with pytest.raises(UsageError, match=f"downsample={downsample}"):
        function(flat(0), flat(0), downsample=downsample)


def test_phase_congruency_ignores_brightness_and_contrast() -> None:
    plane = pattern(128)[:, :, 1].astype(np.float32)
    # Invariant by definition; the guards against division by zero, about 1e-4 beside responses of 1, are not.
    np.testing.assert_allclose(phase_congruency(plane), phase_congruency(plane / 2 + 60), atol=1e-3)


def test_phase_congruency_is_highest_on_an_edge() -> None:
    plane = np.zeros((96, 96), dtype=np.float32)
    plane[:, 48:] = 200
    middle = phase_congruency(plane)[48, 24:72]  # the image repeats, so that its border is an edge as well
    assert middle.argmax() in (23, 24)
    assert middle.max() > 10 * middle[12]  # midway between the two edges


def test_saliency_prefers_what_stands_out() -> None:
    image = flat(90)
    image[80:110, 120:150] = (220, 60, 30)
    salient = saliency(image)
    assert salient.shape == (200, 200)
    assert (salient.min(), salient.max()) == (0, 1)
    y, x = np.unravel_index(salient.argmax(), salient.shape)
    assert 80 <= y < 110
    assert 120 <= x < 150


def test_saliency_of_a_flat_image_is_zero() -> None:
    np.testing.assert_array_equal(saliency(flat(140)), np.zeros((200, 200)))


def test_measure_passes_the_factor_to_those_that_take_it() -> None:
    reference = pattern()
    distorted = degrade(reference, "quantised")
    assert measure(reference, distorted, ("gmsd", "fsim")) == {
        "gmsd": gmsd(reference, distorted),
        "fsim": fsim(reference, distorted, downsample=2),
    }
    assert list(measure(reference, distorted)) == list(TEACHERS)
    assert measure(reference, distorted, ["vsi"], downsample=None) == {"vsi": vsi(reference, distorted)}


def test_measure_refuses_unknown_names() -> None:
    with pytest.raises(UsageError, match="metric lpips: there is psnr, ssim"):
        measure(flat(0), flat(0), ["ssim", "lpips"])


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_ranks_are_spread_evenly(higher_is_better: bool) -> None:
    values = np.random.default_rng(1).lognormal(size=5000)
    scale = QuantileScale.fit(values, higher_is_better)
    ranks = scale.transform(values)
    positions = values.argsort().argsort() / (values.size - 1)
    # Between knots, 1/511 apart, ranks are interpolated.
    np.testing.assert_allclose(ranks, positions if higher_is_better else 1 - positions, atol=1 / 511)


def test_scale_is_monotone_and_stays_within_0_and_1() -> None:
    scale = QuantileScale.fit(np.array([0.1, 0.2, 0.2, 0.7, 0.9]), higher_is_better=True)
    ranks = scale.transform(np.linspace(-1, 2, 301))
    assert (np.diff(ranks) >= 0).all()
    assert (ranks[0], ranks[-1]) == (0, 1)
    assert scale.transform(np.array([math.inf]))[0] == 1


def test_ties_get_the_middle_of_their_ranks() -> None:
    scale = QuantileScale.fit(np.array([0.0, 5.0, 5.0, 5.0, 9.0]), higher_is_better=True, knots=5)
    np.testing.assert_allclose(scale.transform(np.array([0.0, 5.0, 9.0])), [0, 0.5, 1])


def test_scale_survives_json() -> None:
    scale = QuantileScale.fit(np.random.default_rng(2).normal(size=100), higher_is_better=False, knots=16)
    assert QuantileScale.from_dict(json.loads(json.dumps(scale.to_dict()))) == scale


@pytest.mark.parametrize(
    "fields",
    [
        {"knots": [0.0, 1.0]},
        {"knots": [0.0, 1.0], "ranks": ["a", "b"]},
        {"knots": [0.0, 1.0], "ranks": [0.0, 0.5, 1.0]},
        {"knots": [1.0, 0.0], "ranks": [0.0, 1.0]},
        {"knots": [0.0, 1.0, 2.0], "ranks": [0.0, 1.0, 0.5]},
        {"knots": [0.0], "ranks": [0.0]},
    ],
)
def test_broken_scales_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="quantile scale"):
        QuantileScale.from_dict(fields)


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0], [1.0, math.inf], [1.0, math.nan], [[1.0, 2.0]]])
def test_samples_that_say_nothing_are_refused(values: list[float]) -> None:
    with pytest.raises(UsageError, match="values: an array of shape"):
        QuantileScale.fit(np.array(values), higher_is_better=True)


def test_a_scale_needs_two_knots() -> None:
    with pytest.raises(UsageError, match="knots=1"):
        QuantileScale.fit(np.arange(5.0), higher_is_better=True, knots=1)


def test_nan_has_no_rank() -> None:
    scale = QuantileScale.fit(np.arange(5.0), higher_is_better=True)
    with pytest.raises(UsageError, match="NaN"):
        scale.transform(np.array([1.0, math.nan]))


def test_label_is_the_mean_rank() -> None:
    table = {"fsim": np.array([0.2, 0.6, 1.0]), "mdsi": np.array([0.0, 0.1, 0.4])}
    scales = {name: QuantileScale.fit(values, METRICS[name].higher_is_better) for name, values in table.items()}
    # FSIM ranks 0, 1/2, 1; MDSI, where lower is better, 1, 1/2, 0; the two cancel.
    np.testing.assert_allclose(label(table, scales), [0.5, 0.5, 0.5])
    np.testing.assert_allclose(label({"fsim": table["fsim"]}, scales), [0, 0.5, 1])


def test_labels_need_a_scale_for_each_metric_and_one_value_a_pair() -> None:
    scales = {"fsim": QuantileScale.fit(np.arange(3.0), higher_is_better=True)}
    with pytest.raises(UsageError, match="none for vsi"):
        label({"fsim": np.zeros(2), "vsi": np.zeros(2)}, scales)
    with pytest.raises(UsageError, match="differ in shape"):
        label({"fsim": np.zeros(2), "vsi": np.zeros(3)}, scales | {"vsi": scales["fsim"]})
    with pytest.raises(UsageError, match="no metric"):
        label({}, scales)
