"""Artefacts that take whole pictures: calibrated, judged and compared at the sizes of the pictures."""

from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest

from iqa_calibration.comparing.layers import compare_layers
from iqa_calibration.comparing.scores import compare_scores
from iqa_calibration.graphs.finishing import count_macs, embed_contract, save
from iqa_calibration.graphs.reading_back import check_artefact
from iqa_calibration.graphs.structure import NOMINAL_SIDE, Structure
from iqa_calibration.images.sets import CalibrationSet, read_images
from iqa_calibration.jobs.forms import Form
from iqa_calibration.jobs.job import Request, calibrate
from iqa_runtime.artefacts.opening import open_artefact, read_contract
from iqa_runtime.contract import PatchPlan, Resize
from iqa_runtime.errors import ImageError
from iqa_runtime.scorer import Scorer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*calibration images.*ranges are surer:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*was made for tensorrt and runs on onnxruntime:UserWarning"),
]

ROUNDING = 1e-5
"""Of a float32 score taken twice, in two graphs of the same numbers."""


def resized(path, sizes=("height", "width")):
    """Return the graph of an artefact of crops for pictures of any size, or another one."""
    model = onnx.load(path)
    for dimension, size in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], sizes, strict=True):
        dimension.Clear()
        if isinstance(size, str):
            dimension.dim_param = size
        else:
            dimension.dim_value = size
    return model


@pytest.fixture
def whole(artefact, tmp_path):
    """Return a function that writes an artefact of pictures at their own size, or at a fixed one."""

    def write(plan=None, size=None, name="whole", model=None):
        contract, shape = read_contract(artefact), size or ("height", "width")
        how = None if size is None else Resize(to="exact", size=size, filter="bilinear")
        inputs = (replace(contract.inputs[0], shape=("batch", 3, *shape), resize=how),)
        model = model or resized(artefact, shape)
        embed_contract(model, replace(contract, inputs=inputs, patch_plan=plan or PatchPlan(kind="whole")))
        save(model, tmp_path / f"{name}.onnx")
        return tmp_path / f"{name}.onnx"

    return write


@pytest.fixture
def textures(tmp_path):
    """Six textures of six sizes that differ in how busy they are."""
    folder = tmp_path / "textures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index, size in enumerate([(40, 50), (33, 47), (60, 24), (41, 41), (28, 90), (55, 36)]):
        walk = np.cumsum(random.normal(0, 2 + 5 * index, (*size, 3)), axis=1) + 128
        cv2.imwrite(str(folder / f"texture{index}.png"), np.clip(walk, 0, 255).astype(np.uint8))
    return folder


@pytest.mark.parametrize("size", [None, (24, 40)])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_every_precision_becomes_an_artefact_that_scores(whole, textures, tmp_path, size, precision):
    path, output = whole(size=size), tmp_path / "less.onnx"
    images = tuple(read_images(textures))
    report = calibrate(Request(artefact=path, form=Form.choose(precision), images=images, output=output))
    assert report.passed, report.gate.reasons
    assert read_contract(output).has_own_size == (size is None)
    check_artefact(open_artefact(output))
    with Scorer(path) as fp32, Scorer(output) as scorer:
        found = compare_scores(fp32, scorer, [str(image) for image in images])
    assert found.largest <= report.gate.limits.largest * report.gate.spread


def test_items_are_the_pictures_at_their_sizes(whole, textures):
    contract = read_contract(whole(PatchPlan(kind="whole", multiple=8, fit="reflect")))
    chosen = CalibrationSet.build(contract, read_images(textures))
    shapes = {feed["image"].shape[2:] for feed in chosen.feeds()}
    assert shapes == {(40, 56), (40, 48), (64, 24), (48, 48), (32, 96), (56, 40)}
    assert len(list(chosen.feeds_and_extremes())) == len(list(chosen.feeds())) + 4


def test_a_picture_too_small_to_calibrate_is_named(whole, textures):
    contract = read_contract(whole(PatchPlan(kind="whole", smallest=30)))
    with pytest.raises(ImageError, match="too small for this network, which takes 30 x 30 and more"):
        CalibrationSet.build(contract, read_images(textures))


def test_layers_are_compared_at_the_sizes_of_the_pictures(whole, artefact, textures):
    model = resized(artefact)
    for tensor in model.graph.initializer:
        if tensor.name == "hidden.weight":
            tensor.raw_data = (np.frombuffer(tensor.raw_data, np.float32) * np.float32(1.25)).tobytes()
    sides = open_artefact(whole()), open_artefact(whole(name="other", model=model))
    rows, apart = compare_layers(*sides, [str(each) for each in read_images(textures)])
    assert apart == 0
    relative = {row.tensor: row.relative for row in rows}
    assert relative["magnitudes"] == 0
    assert relative["hidden"] == pytest.approx(0.25, rel=ROUNDING)
    shapes = {row.tensor: row.shape for row in rows}
    assert shapes["differences"] == (1, 8, 39, 39), "of the last of four pictures"


def test_work_is_counted_where_there_is_one_size_alone(artefact):
    assert count_macs(resized(artefact)) is None
    assert count_macs(resized(artefact, (24, 40))) == 22 * 38 * 8 * 27 + 8 * 128 + 128
    shapes = Structure(resized(artefact)).item_shapes
    assert shapes["magnitudes"] == (1, 8, NOMINAL_SIDE - 2, NOMINAL_SIDE - 2)
