from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from iqa_export.samples import (
    NOISE_ITEMS,
    crop_items,
    plain_inputs,
    plain_pictures,
    sample_inputs,
    sample_photographs,
)
from iqa_export.systems import find_system
from iqa_runtime.contract import PatchPlan, Resize
from iqa_runtime.errors import UsageError
from iqa_runtime.kernels import extract_patches


def test_photographs_are_found_whatever_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photographs = sample_photographs()
    assert len(photographs) >= 3
    for pixels in photographs:
        assert pixels.dtype == np.uint8
        assert min(pixels.shape[:2]) >= 224
        assert pixels.std() > 20  # a picture, not a blank


class FakeContract:
    patch_plan = PatchPlan(kind="five", size=224)

    def __init__(self, task, tensor):
        self.task, self._tensor = task, tensor

    def input(self, name):
        return self._tensor if name == "image" else None


@pytest.mark.parametrize(("system", "task"), [("yoto", "nr"), ("yoto", "fr"), ("cvrkd", "nar"), ("cvrkd", "fr")])
def test_one_item_for_each_photograph_and_noise(system, task):
    tensor = find_system(system).crop_input("image")
    samples = sample_inputs(FakeContract(task, tensor))
    count = len(sample_photographs()) + NOISE_ITEMS
    assert set(samples) == ({"image"} if task == "nr" else {"image", "reference"})
    for array in samples.values():
        assert array.shape == (count, *tensor.shape[1:])
        assert array.dtype == np.float32
        assert len({item.tobytes() for item in array}) == count


def test_reference_is_aligned_where_the_task_says_so():
    tensor = find_system("yoto").crop_input("image")
    samples = sample_inputs(FakeContract("fr", tensor))
    for image, reference in zip(samples["image"], samples["reference"], strict=True):
        assert 0.5 < np.corrcoef(image.ravel(), reference.ravel())[0, 1] < 0.9999
    unaligned = sample_inputs(FakeContract("nar", tensor))
    assert abs(np.corrcoef(unaligned["image"][0].ravel(), unaligned["reference"][0].ravel())[0, 1]) < 0.5


def test_samples_have_the_size_that_pictures_are_judged_at():
    tensor = find_system("yoto").crop_input("image")
    how = Resize(to="exact", size=(224, 224), filter="bicubic")
    resized = sample_inputs(FakeContract("nr", replace(tensor, resize=how)))["image"]
    first = np.asarray(Image.fromarray(sample_photographs()[0]).resize((224, 224), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resized[0], crop_items(first, tensor, PatchPlan(kind="center", size=224))[0])


def test_items_are_the_kernels_crops():
    tensor = find_system("cvrkd").crop_input("image")
    pixels = sample_photographs()[0]
    items = crop_items(pixels, tensor, PatchPlan(kind="random", size=224, count=20, seed=1))
    assert items.shape == (2, 10, 3, 224, 224)
    plan = PatchPlan(kind="center", size=224)
    top, left = pixels.shape[0] // 2 - 112, pixels.shape[1] // 2 - 112
    yoto = find_system("yoto").crop_input("image")
    expected = extract_patches(pixels, np.array([[top, left]]), (224, 224), yoto.mean, yoto.std)
    np.testing.assert_array_equal(crop_items(pixels, yoto, plan), expected)


def test_items_have_the_channel_order_and_the_format_of_the_input():
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[..., 0] = 255  # red
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    tensor = replace(find_system("yoto").crop_input("image"), shape=("batch", 3, 32, 32), mean=mean, std=std)
    plan = PatchPlan(kind="center", size=32)
    rgb = crop_items(pixels, tensor, plan)
    bgr = crop_items(pixels, replace(tensor, color="BGR", dtype="float16"), plan)
    assert (rgb.dtype, bgr.dtype) == (np.float32, np.float16)
    # (x - mean) / std by hand, x being 1 in red and 0 elsewhere; constants go with the place, not with the colour.
    np.testing.assert_array_equal(rgb[0, :, 0, 0], np.float32([1.8, -0.8, -0.15]))
    np.testing.assert_array_equal(bgr[0, :, 0, 0], np.float16([-0.2, -0.8, 0.35]))


def test_crops_that_make_no_whole_item_are_refused():
    tensor = find_system("cvrkd").crop_input("image")
    with pytest.raises(UsageError, match="12 crops"):
        crop_items(sample_photographs()[0], tensor, PatchPlan(kind="random", size=224, count=12, seed=1))


def test_plain_pictures():
    black, white, gray, saturated, point = plain_pictures(6, 8)
    assert (black == 0).all()
    assert (white == 255).all()
    assert (gray == gray[0, 0]).all()
    assert set(map(tuple, saturated.reshape(-1, 3).tolist())) == {(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)}
    assert point.sum() == 3 * 255


@pytest.mark.parametrize(("system", "task"), [("yoto", "nr"), ("yoto", "fr"), ("cvrkd", "nar")])
def test_plain_items(system, task):
    tensor = find_system(system).crop_input("image")
    samples = plain_inputs(FakeContract(task, tensor))
    count = 5 if task == "nr" else 10
    for array in samples.values():
        assert array.shape == (count, *tensor.shape[1:])
    if task != "nr":
        same = [np.array_equal(*pair) for pair in zip(samples["image"], samples["reference"], strict=True)]
        assert same == [True] * 5 + [False] * 5
