import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from iqa_calibration.graphs.runner import Runner
from iqa_calibration.int8.weight_only import compress_weights, quantised
from iqa_runtime.errors import UsageError

SUM_TOLERANCE = 1e-5
"""Relative: both sides add some dozens of float32 products, in another order."""

WIDTH = 48
RANDOM = np.random.default_rng(0)
# Channels of very different size: with one scale for all, the small ones would be lost.
WEIGHTS = (RANDOM.normal(size=(WIDTH, WIDTH)) * np.logspace(-3, 1, WIDTH)).astype(np.float32)
IMAGE = RANDOM.normal(size=(1, WIDTH)).astype(np.float32)
TARGETS = ["onnxruntime", "openvino", "tensorrt"]


def model_of(nodes, constants, shape=("rows", "columns")):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("batch", WIDTH))],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def product(operator, weights, attributes=None, inputs=("image", "w")):
    return model_of([helper.make_node(operator, inputs, ["score"], **(attributes or {}))], {"w": weights})


def restored(weights, axis):
    steps, scale = quantised(weights, axis)
    return steps * np.expand_dims(scale, [index for index in range(weights.ndim) if index != axis])


def test_rounding_is_to_the_nearest_step_of_the_channel():
    weights = np.array([[1.0, -0.5, 0.1], [0.0, 0.0, 0.0], [-254.0, 127.0, 3.1]], np.float32)
    steps, scale = quantised(weights, 0)
    np.testing.assert_array_equal(steps, [[127, -64, 13], [0, 0, 0], [-127, 64, 2]])
    np.testing.assert_allclose(scale, [1 / 127, 1, 2], rtol=1e-7)
    assert steps.dtype == np.int8


@pytest.mark.parametrize("axis", [0, 1])
def test_no_weight_moves_by_more_than_half_a_step(axis):
    _, scale = quantised(WEIGHTS, axis)
    error = np.abs(restored(WEIGHTS, axis) - WEIGHTS).max(axis=1 - axis)
    # One rounding of float32 in the division comes on top of the half step.
    assert (error <= scale / 2 * (1 + 1e-5)).all()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("operator", "attributes", "axis"), [("MatMul", {}, 1), ("Gemm", {}, 1), ("Gemm", {"transB": 1}, 0)]
)
def test_products_use_the_restored_weights(operator, attributes, axis, target):
    compressed = compress_weights(product(operator, WEIGHTS, attributes), target)
    onnx.checker.check_model(compressed, full_check=True)
    weights = restored(WEIGHTS, axis)
    expected = IMAGE @ (weights.T if attributes else weights)
    options = {"rtol": SUM_TOLERANCE, "atol": SUM_TOLERANCE * np.abs(expected).max()}
    if target == "onnxruntime":
        np.testing.assert_allclose(Runner(compressed).run({"image": IMAGE})["score"], expected, **options)
    reference = ReferenceEvaluator(compressed).run(None, {"image": IMAGE})[0]
    np.testing.assert_allclose(reference, expected, **options)


@pytest.mark.parametrize(
    ("operator", "shape", "axis"), [("Conv", (24, 6, 3, 3), 0), ("ConvTranspose", (6, 24, 3, 3), 1)]
)
def test_convolutions(operator, shape, axis):
    kernel = RANDOM.normal(size=shape).astype(np.float32)
    nodes = [
        helper.make_node("Reshape", ["image", "four"], ["map"]),
        helper.make_node(operator, ["map", "w"], ["score"]),
    ]
    model = model_of(nodes, {"w": kernel, "four": np.array([-1, 6, 4, 2])}, ("batch", 24, "rows", "columns"))
    constants = {tensor.name: tensor for tensor in compress_weights(model, "tensorrt").graph.initializer}
    np.testing.assert_array_equal(numpy_helper.to_array(constants["w_int8"]), quantised(kernel, axis)[0])
    assert list(constants["w_scale"].dims) == [24]


def test_weights_on_the_left_have_their_channels_in_rows():
    model = product("MatMul", WEIGHTS, inputs=("w", "turned"))
    model.graph.node.insert(0, helper.make_node("Transpose", ["image"], ["turned"]))
    score = Runner(compress_weights(model)).run({"image": IMAGE})["score"]
    expected = restored(WEIGHTS, 0) @ IMAGE.T
    np.testing.assert_allclose(score, expected, rtol=SUM_TOLERANCE, atol=SUM_TOLERANCE * np.abs(expected).max())


def test_weights_behind_a_transpose_have_the_scale_of_what_is_read():
    nodes = [
        helper.make_node("Transpose", ["w"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["image", "turned"], ["score"]),
    ]
    score = Runner(compress_weights(model_of(nodes, {"w": WEIGHTS}))).run({"image": IMAGE})["score"]
    expected = IMAGE @ restored(WEIGHTS, 0).T
    np.testing.assert_allclose(score, expected, rtol=SUM_TOLERANCE, atol=SUM_TOLERANCE * np.abs(expected).max())


def test_weights_read_along_two_axes_stay():
    nodes = [
        helper.make_node("MatMul", ["image", "w"], ["a"]),
        helper.make_node("Gemm", ["a", "w"], ["score"], transB=1),
    ]
    with pytest.raises(UsageError, match="nothing would get smaller"):
        compress_weights(model_of(nodes, {"w": WEIGHTS}))


def test_small_weights_and_other_constants_stay():
    table = RANDOM.normal(size=(1, 2048)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["image", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "small"], ["b"]),
        helper.make_node("Add", ["b", "table"], ["score"]),
    ]
    model = model_of(nodes, {"w": WEIGHTS, "small": np.ones((WIDTH, 1), np.float32), "table": table})
    names = {tensor.name for tensor in compress_weights(model).graph.initializer}
    assert names == {"w_int8", "w_scale", "small", "table"}


@pytest.mark.parametrize("target", TARGETS)
def test_a_quarter_of_the_bytes(target):
    weights = RANDOM.normal(size=(WIDTH, 4096)).astype(np.float32)
    model = product("MatMul", weights)
    # One byte a weight, a float32 scale for 48 of them, and some names.
    assert compress_weights(model, target).ByteSize() < weights.size * (1 + 4 / WIDTH) + 500


def test_metadata_names_and_the_model_itself_stay():
    model = product("MatMul", WEIGHTS)
    model.metadata_props.add(key="iqa.contract", value="{}")
    before = model.SerializeToString()
    compressed = compress_weights(model)
    assert model.SerializeToString() == before
    assert compressed.metadata_props == model.metadata_props
    assert [entry.name for entry in compressed.graph.output] == ["score"]
