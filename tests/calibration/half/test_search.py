import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from iqa_calibration.half.casting import element_types
from iqa_calibration.half.search import to_half_accepted

CHAIN = ("first", "relu", "second")


@pytest.fixture
def model():
    """Two products and a head; the second product only doubles, so it rounds nothing that was not rounded before."""
    first = np.random.default_rng(0).normal(0, 0.4, (8, 8)).astype(np.float32)
    constants = {"w1": first, "w2": 2 * np.eye(8, dtype=np.float32), "w3": first[:, :1], "axis": np.array([1])}
    nodes = [
        helper.make_node("MatMul", ["image", "w1"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("MatMul", ["b", "w2"], ["c"], name="second"),
        helper.make_node("MatMul", ["c", "w3"], ["cell"], name="last"),
        helper.make_node("Squeeze", ["cell", "axis"], ["score"], name="squeeze"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("batch", 8))],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ("batch",))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def feeds():
    random = np.random.default_rng(1)
    return iter([{"image": random.normal(0, 1, (1, 8)).astype(np.float32)} for _ in range(24)])


def test_what_passes_at_once_stays_in_half(model):
    half, report, accepted = to_half_accepted(model, feeds, lambda _: True)
    assert accepted
    assert report.in_half == CHAIN
    assert element_types(half)["a"] == TensorProto.FLOAT16


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_the_part_that_moves_scores_most_returns_first(model, kind):
    tried = []

    def second_time(graph):
        tried.append(element_types(graph)["a"])
        return len(tried) == 2

    half, report, accepted = to_half_accepted(model, feeds, second_time, kind=kind)
    assert accepted
    assert tried[0] != TensorProto.FLOAT
    assert tried[1] == TensorProto.FLOAT
    # Alone in half, `first` rounds the image, its weights and its result; the two others round one of them at most.
    assert report.in_half == CHAIN[1:]
    assert "moves scores by" in report.kept_float["first"]
    assert "output" in report.kept_float["last"]
    assert element_types(half)["c"] != TensorProto.FLOAT


def test_what_was_asked_to_stay_float_is_no_part_of_the_search(model):
    tried = []

    def second_time(graph):
        tried.append(element_types(graph)["a"])
        return len(tried) == 2

    _, report, accepted = to_half_accepted(model, feeds, second_time, keep_float=["first"])
    assert accepted
    assert tried == [TensorProto.FLOAT, TensorProto.FLOAT]
    assert report.kept_float["first"] == "as asked"
    assert len(report.in_half) == 1


def test_a_gate_that_never_opens_leaves_the_last_attempt(model):
    tried = []
    half, report, accepted = to_half_accepted(model, feeds, lambda graph: tried.append(graph) is not None)
    assert not accepted
    assert report.in_half == ()
    assert len(tried) == 1 + len(CHAIN)
    assert half is tried[-1]
