import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from iqa_calibration.graphs.naming import kept_nodes, layer_of
from iqa_calibration.graphs.structure import Structure
from iqa_runtime.errors import UsageError

LAYERS = {"n0": "block.0.query", "n1": "block.1.out", "n2": "head", "n3": "n3"}


@pytest.fixture
def structure():
    """A product whose weights lost their name, its bias, a normalisation, and two nodes without parameters."""
    weights = numpy_helper.from_array(np.zeros((8, 8), np.float32), "val_1")
    vectors = ("head.bias", "norm.weight", "norm.bias", "mask.offset")
    nodes = [
        helper.make_node("MatMul", ["image", "val_1"], ["product"], name="product"),
        helper.make_node("Add", ["product", "head.bias"], ["sum"], name="bias"),
        helper.make_node("LayerNormalization", ["sum", "norm.weight", "norm.bias"], ["normal"], name="normalise"),
        helper.make_node("Add", ["normal", "mask.offset"], ["moved"], name="move"),
        helper.make_node("Softmax", ["moved"], ["score"], name="softmax"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("batch", 8))],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ("batch", 8))],
        [weights, *(numpy_helper.from_array(np.zeros(8, np.float32), name) for name in vectors)],
    )
    return Structure(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def test_layers_are_named_after_their_parameters(structure):
    assert {name: layer_of(structure, name) for name in structure.nodes} == {
        "product": "head",
        "bias": "head",
        "normalise": "norm",
        "move": "move",
        "softmax": "softmax",
    }


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([], set()),
        (["n2"], {"n2"}),
        (["head", "n3"], {"n2", "n3"}),
        (["block.1.out"], {"n1"}),
        (["block"], {"n0", "n1"}),
        (["block.0", "n0"], {"n0"}),
    ],
)
def test_names_are_nodes_layers_or_blocks(wanted, found):
    assert kept_nodes(LAYERS, wanted, "computes") == found


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        ("block.0.quer", "the nearest is block.0.query"),
        ("bloc", "the report of a run without it has the names"),
        ("", "the report of a run without it has the names"),
    ],
)
def test_a_name_that_is_nothing_is_an_error_with_the_nearest(wanted, hint):
    with pytest.raises(
        UsageError, match=f"``keep_float={wanted}``: no node, layer or block of that name computes; {hint}"
    ):
        kept_nodes(LAYERS, ["head", wanted], "computes")
