import numpy as np

from iqa_calibration.images.extremes import EXTREMES, extreme_items, extreme_shape
from iqa_runtime.contract import BakedReference, PatchPlan, TensorInput
from tiny_contract import tiny_contract

SIDE = 8


def test_each_picture_is_what_its_name_says():
    contract = tiny_contract(SIDE, mean=0.0, std=1.0)
    pictures = dict(zip(EXTREMES, (item["image"][0] for item in extreme_items(contract)), strict=True))
    flat = {name: picture[:, 0, 0].tolist() for name, picture in pictures.items()}
    assert flat == {
        "a black picture": [0, 0, 0],
        "a white picture": [1, 1, 1],
        "a gray picture": [np.float32(128 / 255)] * 3,
        "a red picture": [1, 0, 0],
        "a green picture": [0, 1, 0],
        "a blue picture": [0, 0, 1],
        "a single white pixel on black": [0, 0, 0],
    }
    for name in EXTREMES[:-1]:
        assert len(np.unique(pictures[name].reshape(3, -1), axis=1).T) == 1
    assert np.argwhere(pictures[EXTREMES[-1]]).tolist() == [[channel, 4, 4] for channel in range(3)]


def test_the_white_pixel_is_in_the_item_wherever_the_crop_lies():
    crops = TensorInput(
        name="image", shape=("batch", 3, 3, SIDE, SIDE), layout="NPCHW", mean=(0.0,) * 3, std=(1.0,) * 3
    )
    plan = PatchPlan(kind="random", size=SIDE, count=6, seed=5)
    contract = tiny_contract(SIDE, inputs=(crops,), patch_plan=plan)
    item = extreme_items(contract)[-1]["image"]
    assert item.shape == (1, 3, 3, SIDE, SIDE)
    assert item[0, 0].sum() == 3


def test_references_are_the_pictures_themselves():
    for task in ("fr", "nar"):
        for item in extreme_items(tiny_contract(SIDE, task)):
            np.testing.assert_array_equal(item["image"], item["reference"])


def test_size_is_that_of_a_baked_reference():
    assert extreme_shape(tiny_contract(SIDE)) == (16, 16, 3)
    baked = BakedReference(file="r.png", sha256="", width=30, height=20)
    inputs = tiny_contract(SIDE).inputs
    assert extreme_shape(tiny_contract(SIDE, "fr", inputs=inputs, baked_reference=baked)) == (20, 30, 3)
