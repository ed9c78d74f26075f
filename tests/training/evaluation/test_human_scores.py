"""benchmarks/human_scores.py: distortions as other libraries make them, and a table that iqa-eval reads."""

import importlib.util
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from command_line import invoke
from iqa_runtime.images.loading import load_image
from iqa_training.datasets import read_dataset
from iqa_training.datasets.referenced import _TID2013_TYPES

ROOT = Path(__file__).parents[3]
PSNR_STEP = 0.05
"""dB: the codec cuts its data after whole coding passes, so that no rate comes nearer on a small picture."""


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("human_scores", ROOT / "benchmarks/human_scores.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def photograph():
    """512 x 384 pixels."""
    return np.ascontiguousarray(load_image(ROOT / "examples/photographs/mountains.jpg")[:384, :512])


def test_jpeg_is_libjpegs_where_no_step_exceeds_255(script, photograph):
    file = io.BytesIO()
    Image.fromarray(photograph).save(file, "JPEG", quality=60, subsampling="4:2:0")
    np.testing.assert_array_equal(script.jpeg(photograph, 1), np.asarray(Image.open(file)))


def test_blur_is_opencvs_with_black_beyond_the_border(script, photograph):
    padded = cv2.copyMakeBorder(photograph, 5, 5, 5, 5, cv2.BORDER_CONSTANT, value=0).astype(np.float64)
    expected = cv2.GaussianBlur(padded, (11, 11), 1.7)[5:-5, 5:-5]
    np.testing.assert_array_equal(script.gaussian_blur(photograph, 3), np.round(expected).astype(np.uint8))


def test_jpeg2000_has_the_wanted_psnr(script, photograph):
    picture = photograph[:256, :256]
    assert cv2.PSNR(script.jpeg2000(picture, 2), picture) == pytest.approx(27, abs=PSNR_STEP)


def test_noise_has_the_wanted_variance_and_is_the_same_again(script):
    gray = np.full((384, 512, 3), 128, np.uint8)
    noisy = script.distort(gray, 3, 1, 2)
    # Rounding to whole values adds a twelfth; three standard errors of a variance over 589824 values are 0.6 %.
    assert noisy.astype(float).var() == pytest.approx(65 + 1 / 12, rel=0.006)
    np.testing.assert_array_equal(noisy, script.distort(gray, 3, 1, 2))
    assert (noisy != script.distort(gray, 5, 1, 2)).any()


def test_point_operations_by_hand(script):
    picture = np.array([[[0, 100, 200], [10, 100, 190]]], np.uint8)  # the mean is 100
    np.testing.assert_array_equal(script.mean_shift(picture, 4), [[[0, 60, 160], [0, 60, 150]]])
    np.testing.assert_array_equal(script.contrast_change(picture, 4), [[[50, 100, 150], [55, 100, 145]]])
    np.testing.assert_array_equal(script.quantization_noise(picture, 2), [[[0, 117, 195], [0, 117, 195]]])


def test_types_have_the_names_of_the_reader_of_tid2013(script):
    assert {number: _TID2013_TYPES[number - 1] for number in script.TYPES} == {
        number: name for number, (name, _) in script.TYPES.items()
    }


def test_the_set_can_be_read_as_a_table(script, tmp_path):
    random = np.random.default_rng(0)
    kodak = tmp_path / "kodak"
    kodak.mkdir()
    wide = random.integers(0, 256, (512, 768, 3), dtype=np.uint8)
    Image.fromarray(wide).save(kodak / "kodim01.png")
    scores = tmp_path / "scores.csv"
    scores.write_text("distorted,reference,type,level,mos,exact\nx,ref/i01.png,16,2,5.5,1\ny,I01.BMP,7,5,2.25,1\n")
    arguments = ("--photographs", kodak, "--scores", scores, "--output", tmp_path / "set")
    assert invoke(script.main, *arguments).exit_code == 0
    dataset = read_dataset("csv", tmp_path / "set")
    first, second = dataset.samples
    assert (first.distorted.name, first.distortion, first.raw) == ("i01_16_2.png", "mean_shift", 5.5)
    assert (second.distorted.name, second.distortion, second.raw) == ("i01_07_5.png", "quantization_noise", 2.25)
    left, top = script.LEFT_TOP[1]
    np.testing.assert_array_equal(load_image(first.reference), wide[top : top + 384, left : left + 512])
    assert load_image(first.distorted).shape == (384, 512, 3)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ("reference,type,level,mos\ni01.png,16,2,5.5\n", "kodim01.png: cannot be read"),
        ("reference,type,level,mos\ni01.png,16,6,5.5\n", "that can be made"),
        ("reference,type,level,mos\ni01.png,5,2,5.5\n", "that can be made"),
        ("reference,type,level,mos\nphoto.png,16,2,5.5\n", "that can be made"),
        ("reference,type,level\ni01.png,16,2\n", "no table with reference, type, level and mos"),
        ("reference,type,level,mos\ni01.png,16,2\n", "no table with reference, type, level and mos"),
    ],
)
def test_bad_tables_and_missing_photographs_are_one_message(script, tmp_path, scores, message):
    (tmp_path / "scores.csv").write_text(scores)
    arguments = ("--photographs", tmp_path, "--scores", tmp_path / "scores.csv", "--output", tmp_path / "set")
    code, _, err = invoke(script.main, *arguments)
    assert (code, err.count("\n")) == (1, 1)
    assert message in err
    assert not (tmp_path / "set").exists()
