"""benchmarks/distortion_names.py: what it counts, and which pictures."""

import distortion_names
import numpy as np
import pytest
from distortion_names import judge

from iqa_export.models.mfe import DISTORTIONS
from iqa_runtime import ImageError, Score
from iqa_training.datasets.items import Item
from iqa_training.distortions import Step

PIXELS = np.zeros((32, 32, 3), np.uint8)
DONE = {
    "blur": (Step("lens_blur", 4.0),),
    "faint": (Step("jpeg", 1.5),),
    "noise": (Step("white_noise", 2.0),),
    "both": (Step("jpeg", 3.0), Step("darken", 3.0)),
    "none": (),
}
RIGHT = {
    "blur": ["blur"],
    "faint": ["compression"],
    "noise": ["noise"],
    "both": ["compression", "exposure"],
    "none": ["none"],
}


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(distortion_names, "RESAMPLES", 10)


class Saying:
    """Stands for a scorer that says these names of the pictures, one after the other."""

    def __init__(self, *names):
        self.names = names

    def score_many(self, images):
        for _, names in zip(images, self.names, strict=True):
            yield Score(
                path=None,
                value=0.5,
                range=(0, 1),
                higher_is_better=True,
                trained=True,
                distortions={name: float(name in names) for name in DISTORTIONS},
            )


def items():
    kinds = {"none": None, "both": "composed"}
    return [
        Item(PIXELS, None, 0.5, name, kinds.get(name, steps[0].name if steps else None), steps)
        for name, steps in DONE.items()
    ]


def test_one_that_is_right_of_all():
    measures = judge(Saying(*RIGHT.values()), items())
    assert (measures["pictures"], measures["single"], measures["top_1"]) == (5, 2, 1.0)
    assert measures["top_1_by_type"] == {"lens_blur": 1.0, "white_noise": 1.0}
    assert measures["macro_average_precision"] == 1.0
    assert measures["mean_calibration_error"] == 0.0
    assert measures["intervals"]["top_1"] == [1.0, 1.0]
    assert measures["confusion"]["blur"] == [0, 1, 0, 0, 0, 0, 0, 0]
    assert measures["confusion"]["compression"] == [0] * 8


def test_one_that_takes_noise_for_blur():
    measures = judge(Saying(*(RIGHT | {"noise": ["blur"]}).values()), items())
    assert measures["top_1"] == 0.5
    assert measures["intervals"]["top_1"] == [0.5, 0.5], "all are of one photograph"
    assert measures["confusion"]["noise"] == [0, 1, 0, 0, 0, 0, 0, 0]
    # One of the two that are called blurred is; of the name that nothing got, all five pictures come at once.
    assert measures["average_precision"]["blur"] == 0.5
    assert measures["average_precision"]["noise"] == pytest.approx(1 / 5)
    assert measures["calibration_error"]["blur"] == pytest.approx(1 / 5)


def test_a_picture_without_names_ends_it():
    class Failing:
        def score_many(self, images):
            for _ in images:
                yield Score(
                    path="a", value=None, range=(0, 1), higher_is_better=True, trained=True, error=ImageError("cut off")
                )

    with pytest.raises(SystemExit, match="cut off"):
        judge(Failing(), items())
