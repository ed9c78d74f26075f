"""Measures: each formula on pictures whose answer is known, thresholds, and what a scorer does with them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from iqa_runtime import Score, Scorer, read_contract
from iqa_runtime.images.loading import load_image
from iqa_runtime.measuring import MEASURED, SIDE, mean_of, measure
from iqa_runtime.scoring.preparation import Preparer
from undistorted import UNDISTORTED

PHOTOGRAPHS = Path(__file__).parents[2] / "examples/photographs"
OF_ESTIMATE = 0.15
"""Share by which Gaussian noise may be missed: the 10th percentile of tiles lies 1.3 deviations below their mean,
means of 256 pixels differ by 6 percent or more, as neighbours share pixels of the mask, and rounding to 8 bits adds."""


def gray(values: Any) -> NDArray[np.uint8]:
    return np.repeat(np.clip(np.rint(values), 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def stripes(width: int) -> NDArray[np.uint8]:
    """Steps of 100 levels, each over so many pixels, both ways."""
    period = (np.arange(256) % 64)[:, None]
    ramp = 60 + 100 * np.clip((period - 16) / width, 0, 1) * (period < 48)
    return gray(np.maximum(ramp, ramp.T))


def encoded(pixels: NDArray[np.uint8], **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, **options)
    return file.getvalue()


def test_sharpness_is_the_share_of_an_edge_that_is_one_step() -> None:
    assert measure(stripes(1)).sharpness == 1.0
    assert measure(stripes(2)).sharpness == pytest.approx(1.0, abs=0.5)
    widths = [measure(stripes(width)).sharpness for width in (1, 2, 3, 4, 8)]
    assert widths == sorted(widths, reverse=True)  # type: ignore[type-var]
    ramp = measure(gray(np.add.outer(2 * np.arange(128), np.zeros(128)))).sharpness
    assert ramp == pytest.approx(1 / 6)


def test_contrast_cancels_and_one_blurred_direction_is_enough() -> None:
    sharp = stripes(3)
    softer = (sharp.astype(float) - 110) / 2 + 110
    assert measure(gray(softer[..., 0])).sharpness == pytest.approx(measure(sharp).sharpness, abs=0.02)
    moved = [measure(np.asarray(cv2.blur(sharp, size))).sharpness for size in ((9, 1), (1, 9))]
    assert moved[0] == moved[1]
    assert 1 / 6 < moved[0] < 0.7 * measure(sharp).sharpness  # type: ignore[operator]


def test_a_picture_without_edges_or_too_small_has_no_sharpness() -> None:
    for pixels in (gray(np.full((64, 64), 90)), gray(np.full((1, 1), 90)), gray(np.zeros((5, 300)))):
        assert measure(pixels).sharpness is None


@pytest.mark.parametrize("deviation", [2.0, 5.0, 12.0])
def test_noise_is_the_deviation_that_was_added(deviation: float) -> None:
    rng = np.random.default_rng(0)
    slope = np.add.outer(np.linspace(40, 120, 400), np.linspace(0, 80, 400))
    noisy = gray(slope + deviation * rng.standard_normal((400, 400)))
    assert measure(noisy).noise == pytest.approx(deviation, rel=OF_ESTIMATE)


def test_noise_is_that_of_the_quiet_part_where_nothing_is_clipped() -> None:
    assert measure(gray(np.add.outer(np.arange(200) / 2, np.zeros(200)) + 20)).noise == pytest.approx(0, abs=0.5)
    half = np.random.default_rng(0).integers(60, 200, (256, 256)).astype(float)
    half[:128] = 128
    assert measure(gray(half)).noise == 0.0
    half[:128] = 255
    assert measure(gray(half)).noise > 20  # type: ignore[operator]
    assert measure(gray(np.full((256, 256), 255))).noise is None


@pytest.mark.parametrize("shift", [0, 3])
def test_blockiness_is_the_step_between_blocks_wherever_the_grid_begins(shift: int) -> None:
    blocks = np.kron(np.arange(256).reshape(16, 16) * 7 % 20, np.ones((8, 8))) + 100
    between = (np.abs(np.diff(blocks[::8, ::8], axis=1)).mean(), np.abs(np.diff(blocks[::8, ::8], axis=0)).mean())
    found = measure(gray(blocks[shift:, shift:])).blockiness
    assert found == pytest.approx(min(between), rel=0.1)
    assert measure(gray(np.random.default_rng(0).normal(128, 10, (256, 256)))).blockiness < 1  # type: ignore[operator]
    assert measure(gray(np.full((31, 200), 9))).blockiness is None


@pytest.mark.parametrize("band", [1 << 9, 1 << 20])
def test_blockiness_is_the_same_in_bands_of_any_height(band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = load_image(encoded(load_image(PHOTOGRAPHS / "stream.jpg"), format="JPEG", quality=30))
    whole = measure(pixels).blockiness
    monkeypatch.setattr("iqa_runtime.measuring._BAND", band)
    assert measure(pixels).blockiness == whole
    assert whole is not None
    assert whole > 1


def test_the_quality_of_a_jpeg_is_read_from_its_tables() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    for quality in (1, 2, 3, 10, 25, 49, 50, 51, 75, 90, 95, 99, 100):
        for options in ({}, {"progressive": True}, {"subsampling": 0}):
            assert measure(encoded(pixels, format="JPEG", quality=quality, **options)).jpeg_quality == quality
        grey = encoded(np.asarray(pixels[..., 0]), format="JPEG", quality=quality)
        assert measure(grey).jpeg_quality == quality
    assert measure(encoded(pixels, format="PNG")).jpeg_quality is None
    assert measure(pixels).jpeg_quality is None


def test_tables_of_other_makers_have_the_nearest_quality() -> None:
    flat = [[12] * 64, [12] * 64]
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    file = encoded(pixels, format="JPEG", qtables=flat)
    # By hand: of the standard's 64 steps, whose mean is 57.6, a fifth comes near 12 in least squares: quality 88 to 92.
    assert 85 <= measure(file).jpeg_quality <= 93  # type: ignore[operator]


def test_exposure_is_the_share_of_white_and_of_black() -> None:
    values = np.full((100, 100), 128)
    values[:20], values[20:50] = 253, 2
    found = measure(gray(values))
    assert (found.overexposed, found.underexposed) == (0.2, 0.3)
    assert (found.width, found.height) == (100, 100)


def test_what_is_measured_of_a_panorama_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr("iqa_runtime.measuring.sharpness", lambda luma: sizes.append(luma.shape))
    for shape in ((600, 900), (20, 9000), (1, 5000), (300, 400)):
        measure(np.zeros((*shape, 3), np.uint8))
    assert sizes == [(512, 768), (9, 4096), (1, 4096), (300, 400)]


def test_a_large_picture_and_its_copy_agree() -> None:
    rng = np.random.default_rng(0)
    drawn = cv2.resize(load_image(PHOTOGRAPHS / "drum.jpg"), (2000, 1400), interpolation=cv2.INTER_CUBIC)
    grain = 20 * rng.standard_normal((1400, 2000, 1), np.float32)
    large = np.clip(np.asarray(drawn) + grain, 0, 255).astype(np.uint8)
    copy = np.asarray(cv2.resize(large, (1000, 700), interpolation=cv2.INTER_AREA))
    assert min(copy.shape[:2]) > SIDE
    one, other = measure(large), measure(copy)
    assert one.sharpness == pytest.approx(other.sharpness, abs=0.05)
    assert one.noise == pytest.approx(other.noise, rel=0.25)
    assert one.overexposed == pytest.approx(other.overexposed, abs=0.005)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sharpness": 0.3}, "blur"),
        ({"noise": 8.0}, "noise"),
        ({"blockiness": 2.0}, "compression"),
        ({"jpeg_quality": 20}, "compression"),
        ({"overexposed": 0.3}, "overexposed"),
        ({"underexposed": 0.3}, "underexposed"),
        ({"height": 100}, "small"),
    ],
)
def test_what_is_beyond_its_threshold_is_a_reason(change: dict[str, Any], reason: str) -> None:
    assert UNDISTORTED.reasons == ()
    assert replace(UNDISTORTED, **change).reasons == (reason,)
    assert replace(UNDISTORTED, sharpness=None, noise=None, blockiness=None).reasons == ()


def test_photographs_and_what_was_done_to_them() -> None:
    good = load_image(PHOTOGRAPHS / "drum.jpg")
    noisy = np.clip(good + np.random.default_rng(0).normal(0, 12, good.shape), 0, 255).astype(np.uint8)
    assert measure(good).reasons == ()
    assert measure(np.asarray(cv2.GaussianBlur(good, (0, 0), 3))).reasons == ("blur",)
    assert measure(noisy).reasons == ("noise",)
    assert measure(load_image(encoded(good, format="JPEG", quality=15))).reasons == ("compression",)


def test_reasons_of_measures_stand_behind_those_of_the_artefact_each_once() -> None:
    named = Score(path="a", value=0.5, range=(0, 1), higher_is_better=True, trained=True, distortions={"noise": 0.9})
    measured = replace(named, measures=replace(UNDISTORTED, sharpness=0.2, noise=9.0))
    assert measured.reasons == ("noise", "blur")
    assert replace(measured, distortions=None).reasons == ("blur", "noise")
    assert replace(measured, distortions=None, measures=UNDISTORTED).reasons == ()
    row = measured.row()
    assert row["reasons"] == ["noise", "blur"]
    assert tuple(row["measures"]) == MEASURED
    assert row["measures"]["noise"] == 9.0


def test_the_mean_over_frames() -> None:
    frames = [
        UNDISTORTED,
        replace(UNDISTORTED, sharpness=None, noise=3.0, height=400),
        replace(UNDISTORTED, sharpness=0.6, noise=2.0),
    ]
    found = mean_of(frames)
    assert found is not None
    assert (found.sharpness, found.noise, found.height) == (pytest.approx(0.7), 2.0, 400)
    assert mean_of([]) is None


@pytest.mark.parametrize("change", [{}, {"resize": "shorter:64:bicubic:shrink:draft"}, {"crops": "center"}])
def test_measuring_changes_no_score_and_no_way_of_decoding_changes_a_measure(artefacts: Any, change: Any) -> None:
    path = PHOTOGRAPHS / "stream.jpg"
    with Scorer(artefacts.mean(), **change) as plain, Scorer(artefacts.mean(), measure=True, **change) as measuring:
        expected = plain.score(path)
        assert expected.measures is None
        for found in (measuring.score(path), *measuring.score_many([path, path])):
            assert (found.value, found.patch_scores) == (expected.value, expected.patch_scores)
            assert found.measures == measure(path)


def test_colours_that_the_artefact_wants_as_they_are_are_measured_in_srgb(artefacts: Any, tmp_path: Path) -> None:
    path = tmp_path / "linear.png"
    linear_light = PngInfo()
    linear_light.add(b"gAMA", (100_000).to_bytes(4, "big"))
    Image.fromarray(gray(np.tile(np.arange(16), (256, 16)))).save(path, pnginfo=linear_light)
    contract = read_contract(artefacts.mean())
    stored = replace(contract, inputs=tuple(replace(each, color_space="stored") for each in contract.inputs))
    prepared = Preparer(stored, contract.patch_plan, pixel_limit=10**6, measure=True).prepare(path, None)
    assert (prepared.color, prepared.measures) == ("stored", measure(path))
    assert measure(path).underexposed < measure(load_image(path, color_space="stored")).underexposed


def test_what_cannot_be_decoded_has_no_measures_and_what_cannot_be_scored_has(artefacts: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with Scorer(artefacts.difference(), measure=True) as scorer:
        results = list(scorer.score_many([tmp_path / "broken.png", stripes(1)], [stripes(1), stripes(1)[:100]]))
    assert [result.value for result in results] == [None, None]
    assert results[0].measures is None
    assert results[1].measures == measure(stripes(1))
