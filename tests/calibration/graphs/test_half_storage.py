"""Weights stored as float16: the graph computes the same with rounded weights, and the way back is there."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from iqa_calibration.graphs.half_storage import store_in_half, widen
from iqa_calibration.graphs.runner import Runner

MANY, FEW = (64, 64), (64,)
HALF = 2.0**-11
"""Relative: what rounding to float16 moves a number by at most."""


def model_of(**weights: np.ndarray) -> onnx.ModelProto:
    """Return ``score = image @ first @ second + bias``, whose last may be missing."""
    nodes = [
        helper.make_node("MatMul", ["image", "first"], ["between"]),
        helper.make_node("MatMul", ["between", "second"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", MANY[0]])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", MANY[1]])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


@pytest.fixture
def weights():
    generator = np.random.default_rng(0)
    exact = generator.normal(size=MANY).astype(np.float16).astype(np.float32)
    return {
        "first": exact,
        "second": generator.normal(size=MANY).astype(np.float32),
        "bias": generator.normal(size=FEW).astype(np.float32),
    }


def types(model):
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def scores(model):
    image = np.random.default_rng(1).normal(size=(2, MANY[0])).astype(np.float32)
    return Runner(model).run({"image": image})["score"]


def test_what_float16_holds_keeps_its_bits(weights):
    weights["second"] = weights["second"].astype(np.float16).astype(np.float32)
    model, plain = model_of(**weights), model_of(**weights)
    store_in_half(model)
    onnx.checker.check_model(model, full_check=True)
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    assert types(model) == {"first.float16": half, "second.float16": half, "bias": single}
    assert scores(model).tobytes() == scores(plain).tobytes()


def test_the_rest_is_rounded(weights):
    model = model_of(**weights)
    store_in_half(model)
    widen(model)
    back = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert back.keys() == weights.keys()
    for name, values in weights.items():
        assert back[name].dtype == np.float32
        np.testing.assert_allclose(back[name], values, rtol=HALF, atol=0)
    assert (back["second"] != weights["second"]).any()


@pytest.mark.parametrize("value", [None, 70_000.0])
def test_what_float16_does_not_hold_can_stay(weights, value):
    if value is not None:
        weights["second"][3, 5] = value
    model, plain = model_of(**weights), model_of(**weights)
    store_in_half(model, exact=True)
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    assert types(model) == {"first.float16": half, "second": single, "bias": single}
    assert scores(model).tobytes() == scores(plain).tobytes()


@pytest.mark.parametrize("value", [70_000.0, -70_000.0])
def test_beyond_the_range_stays_float32(weights, value):
    weights["second"][3, 5] = value
    model = model_of(**weights)
    store_in_half(model)
    assert types(model)["second"] == TensorProto.FLOAT


def test_widening_brings_the_graph_back(weights):
    weights["second"] = weights["second"].astype(np.float16).astype(np.float32)
    model, plain = model_of(**weights), model_of(**weights)
    store_in_half(model)
    widen(model)
    assert list(model.graph.node) == list(plain.graph.node)
    assert sorted(types(model).items()) == sorted(types(plain).items())
    assert scores(model).tobytes() == scores(plain).tobytes()


def test_a_half_that_others_read_too_stays(weights):
    model = model_of(**weights)
    store_in_half(model)
    model.graph.node.append(helper.make_node("Identity", ["first.float16"], ["also"]))
    model.graph.output.append(helper.make_tensor_value_info("also", TensorProto.FLOAT16, MANY))
    widen(model)
    assert {"first", "first.float16"} <= types(model).keys()
    np.testing.assert_array_equal(
        Runner(model, extra_outputs=()).run({"image": np.zeros((1, 64), np.float32)})["also"], weights["first"]
    )


def test_a_graph_without_halves_is_left_alone(weights):
    model = model_of(**weights)
    widen(model)
    assert model == model_of(**weights)
