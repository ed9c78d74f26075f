import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from iqa_calibration.graphs.runner import Runner
from iqa_calibration.half.casting import FORMATS, converted, element_types, emulated, is_half
from iqa_calibration.half.conversion import to_half
from iqa_runtime.errors import ArtefactError, UsageError

SUM_TOLERANCE = 1e-6
"""Relative: NumPy and ONNX Runtime add eight products in float32 in another order."""

FIRST, SECOND, LAST = (
    np.random.default_rng(index).normal(0, 0.4, shape).astype(np.float32)
    for index, shape in enumerate([(8, 8), (8, 8), (8, 1)])
)


def model_of(nodes, constants, *, opset=20, output_shape=("batch",)):
    graph = helper.make_graph(
        [
            helper.make_node(operator, *rest[:2], name=name, **(rest[2] if rest[2:] else {}))
            for name, operator, *rest in nodes
        ],
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("batch", 8))],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, output_shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def head(tensor):
    """Nodes that make the score out of a tensor, and their constants."""
    nodes = [
        ("last", "MatMul", [tensor, "w_last"], ["cells"]),
        ("mean", "ReduceMean", ["cells", "axis"], ["score"], {"keepdims": 0}),
    ]
    return nodes, {"w_last": LAST, "axis": np.array([1])}


def network(middle=(), constants=None):
    """Two products, nodes between them, and a head; `middle` reads ``a`` and makes ``b``."""
    nodes, more = head("c")
    between = middle or [("relu", "Relu", ["a"], ["b"])]
    first, second = ("first", "MatMul", ["image", "w1"], ["a"]), ("second", "MatMul", ["b", "w2"], ["c"])
    return model_of([first, *between, second, *nodes], {"w1": FIRST, "w2": SECOND, **more, **(constants or {})})


def feeds(scale=1.0):
    random = np.random.default_rng(9)
    items = [{"image": random.normal(0, scale, (1, 8)).astype(np.float32)} for _ in range(6)]
    return lambda: iter(items)


def rounded(values, kind="fp16"):
    dtype = helper.tensor_dtype_to_np_dtype(FORMATS[kind].element_type)
    return np.asarray(values).astype(dtype).astype(np.float32)


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_emulation_rounds_what_is_stored_and_nothing_else(kind):
    half, _ = to_half(network(), feeds(), kind=kind)
    item = next(iter(feeds()()))
    hidden = rounded(rounded(item["image"], kind) @ rounded(FIRST, kind), kind)
    expected = (rounded(np.maximum(hidden, 0) @ rounded(SECOND, kind), kind) @ LAST).mean()
    score = Runner(emulated(half)).run(item)["score"]
    np.testing.assert_allclose(score, [expected], rtol=SUM_TOLERANCE)
    assert abs(score[0] - Runner(network()).run(item)["score"][0]) > 10 * SUM_TOLERANCE * abs(score[0])


def test_inputs_and_outputs_stay_float32_and_batch_dynamic():
    half, _ = to_half(network(), feeds())
    onnx.checker.check_model(half, full_check=True)
    types = element_types(half)
    assert {types["image"], types["score"]} == {TensorProto.FLOAT}
    assert types["a"] == types["b"] == TensorProto.FLOAT16
    batch = np.concatenate([feed["image"] for feed in feeds()()])
    assert Runner(half).run({"image": batch})["score"].shape == (6,)
    assert is_half(half)
    assert not is_half(network())


def test_last_product_and_what_follows_stay_float32():
    _, report = to_half(network(), feeds())
    assert set(report.kept_float) == {"last", "mean"}
    assert report.in_half == ("first", "relu", "second")
    assert report.items == 6


def test_neighbours_in_one_format_exchange_values_without_casts():
    half, _ = to_half(network(), feeds())
    assert [node.op_type for node in half.graph.node].count("Cast") == 2
    assert {tensor.name for tensor in half.graph.initializer} == {"w1_fp16", "w2_fp16", "w_last", "axis"}


@pytest.mark.parametrize("operator", ["Softmax", "LayerNormalization"])
def test_what_adds_up_stays_float32(operator):
    inputs = ["a"] if operator == "Softmax" else ["a", "gain"]
    model = network([("norm", operator, inputs, ["b"])], {"gain": np.ones(8, np.float32)})
    half, report = to_half(model, feeds())
    assert "adds up" in report.kept_float["norm"]
    types = element_types(half)
    assert types["b"] == TensorProto.FLOAT
    assert types["c"] == TensorProto.FLOAT16


def test_overflow_is_found_by_the_values():
    middle = [
        ("square", "Mul", ["a", "a"], ["squared"]),
        ("grow", "Mul", ["squared", "factor"], ["large"]),
        ("shrink", "Div", ["large", "divisor"], ["b"]),
    ]
    model = network(middle, {"factor": np.float32(30000), "divisor": np.float32(30000)})
    half, report = to_half(model, feeds())
    assert set(report.kept_float) == {"grow", "shrink", "last", "mean"}
    assert "values up to" in report.kept_float["grow"]
    assert "reads values" in report.kept_float["shrink"]
    batch = {"image": np.concatenate([feed["image"] for feed in feeds()()])}
    assert np.isfinite(Runner(emulated(half)).run(batch)["score"]).all()
    naive = Runner(emulated(converted(model, FORMATS["fp16"], []))).run(batch)["score"]
    assert not np.isfinite(naive).all()


def test_the_same_values_fit_bfloat16():
    middle = [("grow", "Mul", ["a", "factor"], ["large"]), ("shrink", "Div", ["large", "factor"], ["b"])]
    _, report = to_half(network(middle, {"factor": np.float32(1e6)}), feeds(), kind="bf16")
    assert set(report.kept_float) == {"last", "mean"}


def test_constants_outside_the_format_are_found():
    middle = [("guard", "Add", ["a", "tiny"], ["guarded"]), ("mask", "Min", ["guarded", "huge"], ["b"])]
    model = network(middle, {"tiny": np.float32(1e-9), "huge": np.float32(1e30)})
    _, report = to_half(model, feeds())
    assert "would become zero" in report.kept_float["guard"]
    assert "a constant of 1e+30" in report.kept_float["mask"]


def test_cancellation_is_found_and_its_operands_stay_float32():
    middle = [("shift", "Add", ["a", "offset"], ["shifted"]), ("back", "Sub", ["shifted", "offset"], ["b"])]
    model = network(middle, {"offset": np.float32(2000)})
    half, report = to_half(model, feeds())
    assert "would lose" in report.kept_float["back"]
    assert "is read by back" in report.kept_float["shift"]
    item = next(iter(feeds()()))
    exact = Runner(model).run(item)["score"]
    naive = Runner(emulated(converted(model, FORMATS["fp16"], []))).run(item)["score"]
    ours = Runner(emulated(half)).run(item)["score"]
    assert abs(ours - exact) < abs(naive - exact) / 20


def test_checks_measure_what_rounding_costs():
    _, report = to_half(network(), feeds())
    checks = {check.node: check for check in report.checks}
    items = np.concatenate([feed["image"] for feed in feeds()()])
    exact, half = items @ FIRST, rounded(rounded(items) @ rounded(FIRST))
    error = np.sqrt(np.square(half - exact).sum() / np.square(exact).sum())
    # The error itself is a difference of nearly equal numbers, of which three digits are left.
    assert checks["first"].error == pytest.approx(error, rel=1e-2)
    assert checks["first"].largest == pytest.approx(np.abs(exact).max(), rel=SUM_TOLERANCE)
    assert checks["relu"].error <= FORMATS["fp16"].epsilon


def test_convolutions_are_bfloat16_from_opset_22():
    nodes, more = head("flat")
    first = [
        ("shape", "Reshape", ["image", "four"], ["square"]),
        ("conv", "Conv", ["square", "kernel"], ["map"]),
        ("flatten", "Flatten", ["map"], ["flat"]),
    ]
    constants = {"four": np.array([-1, 1, 2, 4]), "kernel": FIRST.reshape(8, 1, 2, 4), **more}
    half, report = to_half(model_of([*first, *nodes], constants), feeds(), kind="bf16")
    onnx.checker.check_model(half, full_check=True)
    assert half.opset_import[0].version == 22
    assert set(report.kept_float) == {"last", "mean"}


def test_shapes_and_sizes_are_left_alone():
    middle = [
        ("shape", "Shape", ["a"], ["sizes"]),
        ("shape again", "Reshape", ["a", "sizes"], ["same"]),
        ("resize", "Resize", ["same", "", "scales"], ["b"]),
    ]
    half, report = to_half(network(middle, {"scales": np.ones(2, np.float32)}), feeds())
    types = element_types(half)
    assert types["scales"] == TensorProto.FLOAT
    assert types["sizes"] == TensorProto.INT64
    assert types["b"] == TensorProto.FLOAT16
    assert set(report.kept_float) == {"last", "mean"}


def test_constant_read_in_both_formats_exists_in_both():
    nodes, more = head("c")
    shared = [("first", "MatMul", ["image", "w1"], ["a"]), ("norm", "LayerNormalization", ["a", "gain"], ["b"])]
    shared.append(("scale", "Mul", ["b", "gain"], ["c"]))
    model = model_of([*shared, *nodes], {"w1": FIRST, "gain": np.full(8, 0.7, np.float32), **more})
    half, _ = to_half(model, feeds())
    assert {"gain", "gain_fp16"} <= {tensor.name for tensor in half.graph.initializer}
    onnx.checker.check_model(half, full_check=True)


def test_transposed_constant_becomes_half():
    model = network([("turn", "Transpose", ["w2"], ["turned"]), ("middle", "MatMul", ["a", "turned"], ["b"])])
    half, _ = to_half(model, feeds())
    item = next(iter(feeds()()))
    hidden = rounded(rounded(rounded(item["image"]) @ rounded(FIRST)) @ rounded(SECOND).T)
    expected = (rounded(hidden @ rounded(SECOND)) @ LAST).mean()
    np.testing.assert_allclose(Runner(emulated(half)).run(item)["score"], [expected], rtol=SUM_TOLERANCE)


def test_intermediate_output_of_a_half_node_is_float32():
    model = network()
    model.graph.output.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, ("batch", 8)))
    half = converted(model, FORMATS["fp16"], [])
    onnx.checker.check_model(half, full_check=True)
    assert element_types(half)["b"] == TensorProto.FLOAT


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
@pytest.mark.parametrize("name", ["second", "block.1.out", "block"])
def test_nodes_layers_and_blocks_can_be_kept_in_float(name, kind):
    model = network([("relu", "Relu", ["a"], ["b"])], {"block.1.out.weight": SECOND})
    next(node for node in model.graph.node if node.name == "second").input[1] = "block.1.out.weight"
    half, report = to_half(model, feeds(), kind=kind, keep_float=[name])
    assert report.in_half == ("first", "relu")
    assert report.kept_float["second"] == "as asked"
    types = element_types(half)
    assert types["c"] == TensorProto.FLOAT
    assert types["a"] != TensorProto.FLOAT


def test_a_name_to_keep_that_is_nothing_is_refused():
    with pytest.raises(UsageError, match=r"``keep_float=secon``: .* computes in float32; the nearest is second"):
        to_half(network(), feeds(), keep_float=["secon"])


def test_model_is_left_as_it_is():
    model = network()
    before = model.SerializeToString()
    to_half(model, feeds(), kind="bf16")
    assert model.SerializeToString() == before


def test_float32_that_is_not_finite_is_an_error():
    model = network([("root", "Sqrt", ["a"], ["b"])])
    with pytest.raises(ArtefactError, match="node root: not finite in float32 on item"):
        to_half(model, feeds())


def test_no_items_and_unknown_formats_are_refused():
    with pytest.raises(UsageError, match="no items"):
        to_half(network(), lambda: iter(()))
    with pytest.raises(UsageError, match="fp8"):
        to_half(network(), feeds(), kind="fp8")


def test_graph_inside_a_node_is_refused():
    branch = helper.make_graph(
        [helper.make_node("Identity", ["a"], ["inside"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)],
    )
    middle = [("choose", "If", ["yes"], ["b"], {"then_branch": branch, "else_branch": branch})]
    with pytest.raises(ArtefactError, match="choose"):
        to_half(network(middle, {"yes": np.array(True)}), feeds())
