"""8-bit graphs of a few nodes that OpenVINO computes wrongly as they are, and rightly through the backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from iqa_runtime.artefacts.opening import open_graph
from iqa_runtime.backends import GraphSpec, TensorSpec
from iqa_runtime.backends.openvino import OpenVinoBackend, _import_openvino
from iqa_runtime.backends.openvino_rewrites import sidestep_errors

pytestmark = pytest.mark.openvino

FLOAT32_SUM = 1e-5
"""NumPy and the library add the same products in another order; scores here are of order one."""

SPEC = GraphSpec((TensorSpec("image", (3, 32, 32), "float32"),), (TensorSpec("score", ()),))
STEP = 1 / 8
CHANNELS = 6


def weights(seed: int, groups: int = 1) -> NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-127, 128, (CHANNELS, CHANNELS // groups, 1, 1)).astype(np.int8)


def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to steps of an integer type of 8 bits around zero."""
    return STEP * np.clip(np.rint(values / STEP), -128, 127)


class Nodes:
    """A graph whose inputs of convolutions are rounded to 8 bits."""

    def __init__(self, integers: type[np.integer[Any]]) -> None:
        zero = 0 if integers is np.int8 else 128
        self.nodes: list[Any] = []
        self.constants = [
            numpy_helper.from_array(np.float32(STEP), "step"),
            numpy_helper.from_array(np.array(zero, integers), "zero"),
            numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"),
        ]

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def convolution(self, source: str, output: str, integers: NDArray[np.int8], *, bias: bool = False) -> str:
        """Add a convolution with weights of integers / 128, and with a bias of 1 if there is one."""
        self.add("QuantizeLinear", [source, "step", "zero"], f"{output}/integers")
        self.add("DequantizeLinear", [f"{output}/integers", "step", "zero"], f"{output}/rounded")
        self.constants += [
            numpy_helper.from_array(integers, f"{output}/weight_int8"),
            numpy_helper.from_array(np.full(CHANNELS, 1 / 128, np.float32), f"{output}/weight_scale"),
            numpy_helper.from_array(np.zeros(CHANNELS, np.int8), f"{output}/weight_zero"),
            numpy_helper.from_array(np.ones(CHANNELS, np.float32), f"{output}/bias"),
        ]
        parts = [f"{output}/weight_{part}" for part in ("int8", "scale", "zero")]
        self.add("DequantizeLinear", parts, f"{output}/weight", axis=0)
        inputs = [f"{output}/rounded", f"{output}/weight", f"{output}/bias"]
        if not bias:
            del inputs[2], self.constants[-1]
        return self.add("Conv", inputs, output, group=CHANNELS // integers.shape[1])

    def write(self, artefacts: Any, result: str) -> Path:
        self.add("ReduceMean", [result, "axes"], "score", keepdims=0)
        contract = artefacts.contract(precision="int8", target="tensorrt")
        path: Path = artefacts.write("rewritten", self.nodes, self.constants, contract)
        return path


def infer(path: Path, image: NDArray[np.float64]) -> NDArray[np.float32]:
    with OpenVinoBackend(open_graph(path), SPEC, device="cpu", threads=1) as backend:
        return backend.infer({"image": image.astype(np.float32)}, ["score"])["score"]


def images() -> NDArray[np.float64]:
    """Four images a quarter of a step off the steps, so that no library has to decide between two neighbours."""
    return rounded(np.random.default_rng(0).standard_normal((4, 3, 32, 32))) + STEP / 4


def convolved(values: NDArray[np.float64], integers: NDArray[np.int8]) -> NDArray[np.float64]:
    matrix = integers[:, :, 0, 0] / 128
    if matrix.shape[1] == 1:
        matrix = np.diag(matrix[:, 0])
    return np.einsum("oc,nchw->nohw", matrix, rounded(values))


def both_signs(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([values, -values], axis=1)


def add_both_signs(graph: Nodes) -> str:
    return graph.add("Concat", ["image", graph.add("Neg", ["image"], "negative")], "both", axis=1)


@pytest.mark.parametrize("integers", [np.int8, np.uint8])
def test_rounding_behind_a_concat(artefacts: Any, integers: type[np.integer[Any]]) -> None:
    graph = Nodes(integers)
    path = graph.write(artefacts, graph.convolution(add_both_signs(graph), "convolved", weights(1)))
    expected = convolved(both_signs(images()), weights(1)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(infer(path, images()), expected, rtol=0, atol=FLOAT32_SUM)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, CHANNELS])
@pytest.mark.parametrize("joined", ["Add", "Mul", "Concat"])
def test_a_convolution_that_several_read(artefacts: Any, joined: str, groups: int, bias: bool) -> None:
    graph = Nodes(np.int8)
    first = graph.convolution(add_both_signs(graph), "first", weights(1, groups), bias=bias)
    positive = graph.add("Relu", [first], "positive")
    attributes = {"axis": 1} if joined == "Concat" else {}
    path = graph.write(artefacts, graph.add(joined, [first, positive], "joined", **attributes))
    values = convolved(both_signs(images()), weights(1, groups)) + bias
    branch = np.maximum(values, 0)
    together = {"Add": values + branch, "Mul": values * branch, "Concat": np.concatenate([values, branch], axis=1)}
    expected = together[joined].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(infer(path, images()), expected, rtol=0, atol=FLOAT32_SUM)


def test_int8_weights_of_float_convolutions_are_multiplied_out(artefacts: Any) -> None:
    """What goes wrong with them in MFE-Net and DRI-IQA no graph of a few nodes was found to show."""
    graph = Nodes(np.int8)
    positive = graph.add("Relu", [add_both_signs(graph)], "positive")
    graph.constants += [numpy_helper.from_array(np.array([at], np.int64), f"at_{at}") for at in (0, 3, 6)]
    graph.constants.append(numpy_helper.from_array(np.array([1], np.int64), "channels"))
    graph.add("Slice", [positive, "at_0", "at_3", "channels", "channels"], "left")
    graph.add("Slice", [positive, "at_3", "at_6", "channels", "channels"], "right")
    integers = weights(1)[:, :3]
    graph.constants += [
        numpy_helper.from_array(integers, "weight_int8"),
        numpy_helper.from_array(np.full(CHANNELS, 1 / 128, np.float32), "weight_scale"),
    ]
    graph.add("DequantizeLinear", ["weight_int8", "weight_scale"], "weight", axis=0)
    parts = [graph.add("Conv", [side, "weight"], f"{side}/convolved") for side in ("left", "right")]
    path = graph.write(artefacts, graph.add("Mul", parts, "product"))
    openvino = _import_openvino()
    model = openvino.Core().read_model(str(path))
    sidestep_errors(openvino, model)
    assert openvino.Type.i8 not in {node.get_output_element_type(0) for node in model.get_ordered_ops()}
    left, right = (
        np.einsum("oc,nchw->nohw", integers[:, :, 0, 0] / 128, np.maximum(sign * images(), 0)) for sign in (1, -1)
    )
    np.testing.assert_allclose(infer(path, images()), (left * right).mean(axis=(1, 2, 3)), rtol=0, atol=FLOAT32_SUM)


def test_float_graphs_stay_as_they_are(artefacts: Any) -> None:
    openvino = _import_openvino()
    model = openvino.Core().read_model(str(artefacts.deep()))
    before = [node.get_friendly_name() for node in model.get_ordered_ops()]
    sidestep_errors(openvino, model)
    assert [node.get_friendly_name() for node in model.get_ordered_ops()] == before
