from math import inf, sqrt

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from iqa_calibration.graphs.structure import Structure
from iqa_calibration.half.casting import FORMATS, element_types
from iqa_calibration.half.range_check import measured
from iqa_runtime.errors import ArtefactError, UsageError

SUMS = 1e-6
"""Relative: float32 sums of three squares, and their square roots."""


def check(nodes, items, *, kind="fp16", constants=None, threads=1):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("batch", 3))],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ("batch", 3))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    before = model.SerializeToString()
    feeds = [{"image": np.array([item], np.float32)} for item in items]
    found = measured(model, Structure(model), element_types(model), FORMATS[kind], feeds, threads=threads)
    assert model.SerializeToString() == before
    return found


def node(operator, inputs, output, **attributes):
    return helper.make_node(operator, inputs, [output], name=output, **attributes)


NEGATE = [node("Neg", ["image"], "score")]


def half(values):
    return np.float32(np.float16(values))


def test_largest_values_are_those_of_all_items_and_the_error_is_that_of_both_roundings():
    items = [[1.0, -2.0, 3.0], [1 / 3, 2.7, -1000.123]]
    nodes = [node("Mul", ["image", "factor"], "scaled"), node("Neg", ["scaled"], "score")]
    factor = np.float32(1.1)
    checks, count = check(nodes, items, constants={"factor": factor})
    assert count == 2
    assert list(checks) == ["scaled", "score"]
    assert [check.operator for check in checks.values()] == ["Mul", "Neg"]
    exact = np.float32(items) * factor
    for each in checks.values():
        assert each.largest == np.abs(exact).max()
    # Operands to half, their product in float32, and that to half; a negation rounds what it reads and nothing more.
    errors = {"scaled": half(half(items) * half(factor)) - exact, "score": half(exact) - exact}
    for name, error in errors.items():
        expected = sqrt(np.square(error, dtype=np.float64).sum() / np.square(exact, dtype=np.float64).sum())
        assert checks[name].error == pytest.approx(expected, rel=SUMS)
        assert expected > 0


def test_bfloat16_loses_more_and_exact_values_lose_nothing():
    thirds = [[1 / 3, 2 / 3, 5 / 3]]
    errors = [check(NEGATE, thirds, kind=kind)[0]["score"].error for kind in ("fp16", "bf16")]
    assert 0 < errors[0] < errors[1] / 4
    assert check(NEGATE, [[1.0, 0.5, -2.0]])[0]["score"].error == 0
    assert check(NEGATE, [[0.0, 0.0, 0.0]])[0]["score"].error == 0


def test_what_overflows_or_vanishes_in_half_is_lost_altogether():
    assert check(NEGATE, [[1e5, 0.0, 0.0]])[0]["score"].error == inf
    vanished = check(NEGATE, [[1e-9, 0.0, 0.0]])[0]["score"]
    assert vanished.error == pytest.approx(1)
    assert vanished.largest == np.float32(1e-9)


def test_one_item_of_many_is_enough_and_threads_change_nothing():
    items = [[1.0, 1.0, float(number)] for number in range(7)] + [[1.0, 1.0, 7e4]]
    alone, together = (check(NEGATE, items, threads=threads) for threads in (1, 4))
    assert alone == together
    assert alone[0]["score"].largest == 7e4
    assert alone[1] == 8


def test_integers_are_not_checked():
    nodes = [
        node("Cast", ["image"], "whole", to=TensorProto.INT64),
        node("Cast", ["whole"], "score", to=TensorProto.FLOAT),
    ]
    assert list(check(nodes, [[1.0, 2.0, 3.0]])[0]) == ["score"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_float32_that_is_not_finite_is_an_error_that_names_node_and_item(bad):
    with pytest.raises(ArtefactError, match="node score: not finite in float32 on item 1"):
        check(NEGATE, [[1.0, 2.0, 3.0], [1.0, bad, 3.0]])
    with pytest.raises(UsageError, match="no items"):
        check(NEGATE, [])
