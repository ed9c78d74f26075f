"""Convolution and normalisation as one convolution, against ONNX's own reference."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from iqa_calibration.graphs.batch_normalization import fold_batch_normalization

ROUNDING = 1e-5
"""Relative to the largest value: float32 sums of some dozens of terms, scaled before or after."""


def model_of(operator="Conv", weight=(4, 2, 3, 3), *, bias=True, twice=False, variance=None, **settings):
    random = np.random.default_rng(0)
    maps = 4
    constants = {
        "weight": random.standard_normal(weight),
        "bias": random.standard_normal(maps),
        "scale": random.standard_normal(maps),
        "shift": random.standard_normal(maps),
        "mean": random.standard_normal(maps),
        "variance": random.uniform(0.5, 2, maps) if variance is None else np.full(maps, variance),
    }
    inputs = ["image", "weight", "bias"] if bias else ["image", "weight"]
    nodes = [
        helper.make_node(operator, inputs, ["maps"], name="layer", **settings),
        helper.make_node(
            "BatchNormalization", ["maps", "scale", "shift", "mean", "variance"], ["normal"], epsilon=1e-3
        ),
        helper.make_node("Add", ["normal", "maps" if twice else "normal"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("batch", 2 * settings.get("group", 1), 6, 6))],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({}, ["Conv", "Add"]),
        ({"bias": False, "pads": [1, 1, 1, 1]}, ["Conv", "Add"]),
        ({"group": 2}, ["Conv", "Add"]),
        ({"operator": "ConvTranspose", "weight": (2, 4, 3, 3)}, ["ConvTranspose", "Add"]),
        ({"twice": True}, ["Conv", "BatchNormalization", "Add"]),
        ({"variance": -1e-3}, ["Conv", "BatchNormalization", "Add"]),
    ],
)
def test_one_convolution_computes_the_same(settings, left):
    model = model_of(**settings)
    channels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    feed = {"image": np.random.default_rng(1).standard_normal((2, channels, 6, 6)).astype(np.float32)}
    with np.errstate(all="ignore"):
        (expected,) = ReferenceEvaluator(model).run(None, feed)
        fold_batch_normalization(model)
        (actual,) = ReferenceEvaluator(model).run(None, feed)
    assert [node.op_type for node in model.graph.node] == left
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=1.0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=ROUNDING * largest)


def test_a_transposed_convolution_in_groups_is_left_alone():
    model = model_of(operator="ConvTranspose", weight=(4, 2, 3, 3), group=2)
    before = model.SerializeToString(deterministic=True)
    fold_batch_normalization(model)
    assert model.SerializeToString(deterministic=True) == before
