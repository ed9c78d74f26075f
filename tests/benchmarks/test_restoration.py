"""benchmarks/restoration.py: what it counts as a gain."""

import math

import numpy as np
import pytest
import restoration
from restoration import SEVERITIES, good_jpeg, judge, psnr

from iqa_runtime import Score
from iqa_training.distortions import distort


class Restoring:
    """Stands for a scorer that makes this of every picture."""

    def __init__(self, restore):
        self.restore = restore

    def score_many(self, images):
        for image in images:
            yield Score(
                path=None,
                value=0.5,
                range=(0, 1),
                higher_is_better=True,
                trained=True,
                restored=self.restore(image),
            )


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(60, 200, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)


def test_psnr(picture):
    assert psnr(picture, picture) == pytest.approx(20 * math.log10(255 / 0.5))
    assert psnr(picture + np.uint8(1), picture) == pytest.approx(20 * math.log10(255))


def test_a_restorer_that_leaves_pictures_alone_gains_nothing(picture):
    found = judge(Restoring(lambda image: image), [picture])
    assert found["mean_gain"] == 0
    assert {each["mean"] for each in found["gain"].values()} == {0}
    assert found["gain_of_jpeg_quality_95"] == {"mean": 0, "least": 0, "largest": 0, "pictures": 1, "harmed": 0}
    assert found["difference_of_pristine"] == {"mean": 0, "least": 0, "largest": 0}


def test_gains_are_against_the_pristine_picture(picture):
    """Whatever comes, one made brighter by one is returned: its PSNR is known."""
    left = 20 * math.log10(255)
    found = judge(Restoring(lambda _: picture + np.uint8(1)), [picture])
    noisy = distort(picture, "white_noise", 3, np.random.default_rng(0))
    assert found["gain"]["white_noise_3"]["mean"] == pytest.approx(left - psnr(noisy, picture))
    assert found["gain_of_jpeg_quality_95"]["mean"] == pytest.approx(left - psnr(good_jpeg(picture), picture))
    assert found["difference_of_pristine"]["mean"] == pytest.approx(1)
    assert found["mean_gain"] == pytest.approx(np.mean([each["mean"] for each in found["gain"].values()]))
    assert len(found["gain"]) == len(restoration.KINDS) * len(SEVERITIES)


def test_a_restorer_that_harms(picture):
    found = judge(Restoring(lambda image: image // 2), [picture])
    assert found["gain_of_jpeg_quality_95"]["harmed"] == 1
    assert found["mean_gain"] < 0


def test_a_flat_picture_is_not_blurred(picture):
    flat = np.full_like(picture, 128)
    found = judge(Restoring(lambda image: image), [picture, flat])
    assert {name: row["pictures"] for name, row in found["gain"].items() if "blur" in name}["gaussian_blur_3"] == 1
    assert found["gain"]["white_noise_2"]["pictures"] == 2


def test_an_artefact_that_restores_nothing(picture):
    with pytest.raises(SystemExit, match="not restored"):
        judge(Restoring(lambda _: None), [picture])
