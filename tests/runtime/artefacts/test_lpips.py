"""LPIPS as it comes with the package: distances of the formula, and of the authors' implementation."""

import csv
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from iqa_runtime import ImageError, Scorer, UsageError, read_contract
from iqa_runtime.artefacts.bundled import find_artefact

ROOT = Path(__file__).parents[3]
PHOTOGRAPHS = ROOT / "examples" / "photographs"
OFFICIAL = ROOT.parent / "shared" / "reference" / "fr_pairs"
LADDERS = {"brushes": "blur", "mountains": "noise", "stream": "jpeg"}
SAME = 2e-6
"""Absolute: float32 convolutions of two libraries, some thirty times the rounding of one number near one half."""
FOUR_DIGITS = 0.5e-4
"""What official values are given to, and so half of the last digit."""
SMALLEST = 31

BACKENDS = ["onnxruntime", pytest.param("openvino", marks=pytest.mark.openvino)]


def pixels(path):
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture[:, :, ::-1]


def steps(name):
    """Return the damaged copies of a photograph, the damage growing."""
    return [PHOTOGRAPHS / f"{name}_{LADDERS[name]}_{step}.jpg" for step in (1, 2, 3)]


@pytest.fixture(scope="module")
def weights():
    """Those in the artefact: of the convolutions, in their order, and of the linear layers, by number of channels."""
    graph = onnx.load(find_artefact("lpips")).graph
    values = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    convolutions = [[values[name] for name in node.input[1:]] for node in nodes if len(node.input) == 3]
    linear = [values[node.input[1]].ravel() for node in nodes if len(node.input) == 2]
    assert [len(bias) for _, bias in convolutions] == [len(line) for line in linear] == [64, 192, 384, 256, 256]
    return convolutions, linear


def features(convolutions, picture):
    """Yield the rectified maps of AlexNet for the picture as x / 127.5 - 1, minus the shift, divided by the scale."""
    torch = pytest.importorskip("torch")
    x = (picture / 127.5 - 1 - np.array([-0.030, -0.088, -0.188])) / np.array([0.458, 0.448, 0.450])
    x = torch.from_numpy(x.transpose(2, 0, 1)[None].astype(np.float32))
    for index, (weight, bias) in enumerate(convolutions):
        if index in (1, 2):
            x = torch.nn.functional.max_pool2d(x, 3, 2)
        stride, padding = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))[index]
        weight, bias = torch.from_numpy(weight), torch.from_numpy(bias)
        x = torch.relu(torch.nn.functional.conv2d(x, weight, bias, stride, padding))
        yield x[0].numpy().astype(np.float64)


def formula(weights, image, reference):
    convolutions, linear = weights
    total = 0.0
    pairs = zip(features(convolutions, image), features(convolutions, reference), linear, strict=True)
    for own, other, line in pairs:
        own, other = (maps / (np.sqrt((maps**2).sum(0)) + 1e-10) for maps in (own, other))
        total += np.einsum("c,chw->hw", line, (own - other) ** 2).mean()
    return total


def test_its_contract_says_what_it_is():
    contract = read_contract("lpips")
    assert (contract.model, contract.variant, contract.task, contract.precision) == ("lpips", "alex", "fr", "fp32")
    assert contract.score.range == (0.0, None)
    assert contract.score.direction == "lower"
    assert contract.patch_plan.kind == "whole"
    assert "BSD-2-Clause" in contract.weights.licence
    assert "BSD-3-Clause" in contract.weights.licence
    licences = (find_artefact("lpips").parent / "LICENCES.md").read_text(encoding="utf-8")
    assert "Redistributions in binary form" in licences


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", LADDERS)
def test_distances_are_those_of_the_formula(weights, name, backend):
    reference = PHOTOGRAPHS / f"{name}.jpg"
    with Scorer("lpips", backend=backend, threads=1) as scorer:
        damaged = [scorer.score(path, reference).value for path in steps(name)]
        assert scorer.score(reference, reference).value == 0
    expected = [formula(weights, pixels(path), pixels(reference)) for path in steps(name)]
    np.testing.assert_allclose(damaged, expected, rtol=0, atol=SAME)
    assert all(less < more for less, more in pairwise(damaged))


@pytest.mark.parametrize("size", [(31, 31), (32, 45), (97, 31), (63, 130)])
def test_any_size_is_taken_whole(weights, size):
    random = np.random.default_rng(4)
    image, reference = random.integers(0, 256, (2, *size, 3), dtype=np.uint8)
    with Scorer("lpips", threads=1) as scorer:
        value = scorer.score(image, reference).value
    np.testing.assert_allclose(value, formula(weights, image, reference), rtol=0, atol=SAME)


@pytest.mark.parametrize("backend", BACKENDS)
def test_distances_are_the_official_ones(backend):
    if not OFFICIAL.is_dir():
        pytest.skip("the pairs with official values are not beside the repository")
    with (OFFICIAL / "values.csv").open(encoding="utf-8", newline="") as file:
        official = next(row for row in csv.DictReader(file) if row["metric"] == "lpips-alex")
    names = [name for name in official if (OFFICIAL / f"ref_{name}.png").is_file()]
    assert names
    with Scorer("lpips", backend=backend, threads=1) as scorer:
        for name in names:
            result = scorer.score(OFFICIAL / f"dist_{name}.png", OFFICIAL / f"ref_{name}.png")
            assert result.value == pytest.approx(float(official[name]), abs=FOUR_DIGITS)


@pytest.mark.parametrize("size", [(SMALLEST - 1, 64), (64, SMALLEST - 1), (1, 1)])
def test_a_picture_too_small_for_its_pooling_is_told_and_costs_no_other(size):
    small, fine = np.zeros((*size, 3), np.uint8), np.zeros((SMALLEST, SMALLEST, 3), np.uint8)
    with Scorer("lpips", threads=1) as scorer:
        first, second = scorer.score_many([small, fine], [small, fine])
        assert isinstance(first.error, ImageError)
        assert f"{SMALLEST}" in str(first.error)
        assert second.value == 0


def test_a_pair_of_two_sizes_and_a_missing_reference_are_told():
    with Scorer("lpips", threads=1) as scorer:
        with pytest.raises(UsageError, match="image is 680 x 453, its reference 680 x 510"):
            scorer.score(PHOTOGRAPHS / "stream.jpg", PHOTOGRAPHS / "mountains.jpg")
        with pytest.raises(UsageError, match="reference"):
            scorer.score(PHOTOGRAPHS / "stream.jpg")
