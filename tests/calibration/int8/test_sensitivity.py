import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from iqa_calibration.graphs.runner import Runner
from iqa_calibration.int8.observers import Range, min_max
from iqa_calibration.int8.placement import place
from iqa_calibration.int8.quantisation import quantise
from iqa_calibration.int8.sensitivity import MAX_PARTS, measure_sensitivity
from iqa_calibration.int8.statistics import collect
from iqa_runtime.errors import ArtefactError, UsageError

BOTH_FORMS = pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])

OUTLIER = 1e6
"""The outlier channel: values of about one are far less than half a step of 8 bits beside it, so they become zero."""

UNEVEN = 1e-6
"""Relative rounding of float32 and of the order of its sums, with room."""


def model_of(nodes, constants, image_shape):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *image_shape])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def chain(layers, fragile=None, seed=0):
    """Build residual layers of 8 channels that share nothing, and their mean as the score.

    A fragile layer reads a constant outlier channel, which its weights ignore, beside its input.
    """
    rng = np.random.default_rng(seed)
    constants = {
        "axis": np.array([1]),
        "outlier": np.full((1, 1), OUTLIER, np.float32),
        "zero": np.zeros((1, 1), np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["image", "axis"], ["mean"], name="pick"),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"], name="erase"),
        helper.make_node("Add", ["nothing", "outlier"], ["column"], name="fill"),
    ]
    values = "image"
    for index, layer in enumerate(layers):
        weights = rng.normal(0, 0.3, (8, 8)).astype(np.float32)
        read = values
        if layer == fragile:
            nodes.append(
                helper.make_node("Concat", [values, "column"], [f"wide{index}"], name=f"concat{index}", axis=1)
            )
            read, weights = f"wide{index}", np.concatenate([weights, np.zeros((1, 8), np.float32)])
        constants[f"{layer}.weight"] = weights
        nodes += [
            helper.make_node("MatMul", [read, f"{layer}.weight"], [f"made{index}"], name=f"node{index}"),
            helper.make_node("Add", [values, f"made{index}"], [f"sum{index}"], name=f"add{index}"),
        ]
        values = f"sum{index}"
    nodes.append(helper.make_node("ReduceMean", [values, "axis"], ["score"], name="score", keepdims=0))
    return model_of(nodes, constants, (8,))


def items(count=24):
    rng = np.random.default_rng(1)
    return [{"image": rng.normal(0, 1, (1, 8)).astype(np.float32)} for _ in range(count)]


def planned(model, target="tensorrt"):
    placement = place(model, target)
    seen = collect(model, placement.tensors, items)
    return placement, {name: min_max(entry) for name, entry in seen.items()}


def scores(model):
    runner = Runner(model)
    return np.array([runner.run(item)["score"].item() for item in items()])


@BOTH_FORMS
def test_the_layer_that_reads_an_outlier_comes_first(target):
    model = chain(["a", "b", "c", "d"], fragile="c")
    measured = measure_sensitivity(model, *planned(model, target), items())
    assert {entry.part for entry in measured} == {"a", "b", "c", "d"}
    assert measured[0].part == "c"
    assert measured[0].nodes == ("node2",)
    assert [entry.effect for entry in measured] == sorted((entry.effect for entry in measured), reverse=True)
    # Its product is rounded away whole; eight bits of the others lose percents at most.
    assert measured[0].effect > 0.1 > 0.05 > measured[1].effect > 0


def test_an_effect_is_the_rms_change_of_scores_over_their_spread():
    model = chain(["a", "b"], fragile="b")
    placement, ranges = planned(model)
    measured = measure_sensitivity(model, placement, ranges, items())
    exact = scores(model)
    for part, other in (("a", "b"), ("b", "a")):
        change = scores(quantise(model, placement, ranges, keep_float=[other])) - exact
        expected = np.sqrt(np.mean(change**2)) / (np.quantile(exact, 0.95) - np.quantile(exact, 0.05))
        effect = next(entry.effect for entry in measured if entry.part == part)
        assert effect == pytest.approx(expected, rel=UNEVEN)


def test_macs_are_counted_by_hand():
    rng = np.random.default_rng(0)
    shapes = {"stem.weight": (8, 3, 3, 3), "body.weight": (8, 2, 3, 3), "mlp.weight": (8, 16), "head.weight": (4, 16)}
    constants = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    constants |= {"tokens": np.array([0, 8, 49]), "last": np.array([2]), "all": np.array([1])}
    nodes = [
        helper.make_node("Conv", ["image", "stem.weight"], ["a"], name="stem", strides=[2, 2]),
        helper.make_node("Conv", ["a", "body.weight"], ["b"], name="body", pads=[1, 1, 1, 1], group=4),
        helper.make_node("Reshape", ["b", "tokens"], ["c"], name="flat"),
        helper.make_node("Transpose", ["c"], ["d"], name="turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["d", "mlp.weight"], ["e"], name="mlp"),
        helper.make_node("ReduceMean", ["e", "all"], ["f"], name="pool", keepdims=0),
        helper.make_node("Gemm", ["f", "head.weight"], ["g"], name="head", transB=1),
        helper.make_node("ReduceMean", ["g", "all"], ["score"], name="mean", keepdims=0),
    ]
    model = model_of(nodes, constants, (3, 15, 15))
    rng = np.random.default_rng(1)
    images = [{"image": rng.normal(size=(1, 3, 15, 15)).astype(np.float32)} for _ in range(3)]
    placement = place(model, "tensorrt")
    ranges = dict.fromkeys(placement.tensors, Range(-4, 4))
    told = []
    measured = measure_sensitivity(
        model, placement, ranges, images, progress=lambda done, total: told.append((done, total))
    )
    assert {entry.part: entry.macs for entry in measured} == {
        "stem": 7 * 7 * 8 * 3 * 3 * 3,
        "body": 7 * 7 * 8 * 2 * 3 * 3,
        "mlp": 49 * 8 * 16,
        "head": 16 * 4,
    }
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_many_layers_are_measured_as_blocks_that_can_be_kept_by_name():
    layers = [f"trunk.{block}.{half}.{layer}" for block in range(9) for half in "ab" for layer in range(3)]
    assert len(layers) > MAX_PARTS
    model = chain([*layers, "head"])
    measured = measure_sensitivity(model, *planned(model), items(4))
    # Three words make 18 blocks of three layers; all four would be 54.
    assert {entry.part for entry in measured} == {f"trunk.{block}.{half}" for block in range(9) for half in "ab"} | {
        "head"
    }
    block = next(entry for entry in measured if entry.part == "trunk.1.b")
    assert block.nodes == ("node9", "node10", "node11")
    assert block.macs == 3 * 8 * 8
    assert set(place(model, "tensorrt", keep_float=["trunk.1.b"]).kept_float) == set(block.nodes)


def test_many_layers_without_common_names_are_measured_as_runs_of_neighbours():
    model = chain([f"layer{index}" for index in range(MAX_PARTS + 2)])
    measured = measure_sensitivity(model, *planned(model), items(4))
    assert len(measured) == MAX_PARTS
    assert sorted(node for entry in measured for node in entry.nodes) == sorted(
        f"node{i}" for i in range(MAX_PARTS + 2)
    )
    assert {entry.part: entry.nodes for entry in measured}["node0 to node1"] == ("node0", "node1")


def test_products_of_two_activations_are_no_parts():
    constants = {
        "query.weight": np.random.default_rng(0).normal(0, 0.1, (256, 256)).astype(np.float32),
        "axes": np.array([1, 2]),
    }
    nodes = [
        helper.make_node("MatMul", ["image", "query.weight"], ["q"], name="query"),
        helper.make_node("Transpose", ["image"], ["k"], name="turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "k"], ["products"], name="products"),
        helper.make_node("ReduceMax", ["products", "axes"], ["score"], name="max", keepdims=0),
    ]
    model = model_of(nodes, constants, (4, 256))
    rng = np.random.default_rng(1)
    images = [{"image": rng.normal(size=(1, 4, 256)).astype(np.float32)} for _ in range(4)]
    placement = place(model, "tensorrt", attention=True)
    assert placement.attention == ("products",)
    ranges = {name: min_max(entry) for name, entry in collect(model, placement.tensors, lambda: images).items()}
    with_attention = measure_sensitivity(model, placement, ranges, images)
    assert with_attention == measure_sensitivity(model, place(model, "tensorrt"), ranges, images)
    assert [entry.part for entry in with_attention] == ["query"]


def test_a_score_that_is_not_finite_is_an_infinite_effect():
    constants = {"a.weight": np.eye(8, dtype=np.float32), "axis": np.array([1])}
    nodes = [
        helper.make_node("MatMul", ["image", "a.weight"], ["b"], name="a"),
        helper.make_node("Log", ["b"], ["c"], name="log"),
        helper.make_node("ReduceMean", ["c", "axis"], ["score"], name="mean", keepdims=0),
    ]
    model = model_of(nodes, constants, (8,))
    images = [{"image": np.array([[size, *[1] * 7]], np.float32)} for size in (1e-5, 1e-4, 1)]
    placement = place(model, "tensorrt")
    (measured,) = measure_sensitivity(model, placement, {"image": Range(0, 1)}, images)
    assert measured.effect == np.inf


def test_nothing_to_measure_on_is_refused():
    model = chain(["a", "b"])
    placement, ranges = planned(model)
    with pytest.raises(UsageError, match="no items"):
        measure_sensitivity(model, placement, ranges, [])
    with pytest.raises(UsageError, match="all alike"):
        measure_sensitivity(model, placement, ranges, items(1))
    broken = [*items(2), {"image": np.full((1, 8), np.nan, np.float32)}]
    with pytest.raises(ArtefactError, match="score of item 2 is not finite"):
        measure_sensitivity(model, placement, ranges, broken)
    with pytest.raises(ArtefactError, match="quality"):
        measure_sensitivity(model, placement, ranges, items(2), output="quality")
