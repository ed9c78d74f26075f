import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from iqa_calibration.graphs.structure import Structure, attribute, opset_of
from iqa_runtime.errors import ArtefactError


def model():
    value = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "value")
    nodes = [
        helper.make_node("Constant", [], ["stored"], name="constant", value=value),
        helper.make_node("Transpose", ["stored"], ["turned"], name="turn"),
        helper.make_node("Transpose", ["weight"], ["moved"], name="move", perm=[2, 0, 1]),
        helper.make_node("Reshape", ["image", "shape"], ["flat"], name="reshape"),
        helper.make_node("MatMul", ["flat", "turned"], ["product"]),
        helper.make_node("Add", ["product", "product"], ["score"], name="add"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 4, 6])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 8, 2])],
        [
            numpy_helper.from_array(np.zeros((5, 700, 2), np.float32), "weight"),
            numpy_helper.from_array(np.array([-1, 8, 3]), "shape"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_makers_and_readers():
    structure = Structure(model())
    assert list(structure.nodes) == ["constant", "turn", "move", "reshape", "MatMul/product", "add"]
    assert structure.producers["product"] == "MatMul/product"
    assert structure.readers["product"] == ["add", "add"]
    assert structure.outputs == {"score"}


def test_constants_and_their_transposes():
    structure = Structure(model())
    values = {name: structure.constant(name) for name in ("stored", "turned", "weight", "moved")}
    assert (values["turned"] == values["stored"].T).all()
    assert values["moved"].shape == (2, 5, 700)
    assert [structure.origin(name) for name in ("turned", "moved", "weight")] == ["stored", "weight", "weight"]
    assert [structure.is_float32(name) for name in ("turned", "moved", "shape")] == [True, True, False]
    assert not structure.is_constant("flat")


def test_shapes_are_those_of_one_item():
    graph = model()
    shapes = Structure(graph).item_shapes
    assert (shapes["image"], shapes["flat"], shapes["product"]) == ((1, 4, 6), (1, 8, 3), (1, 8, 2))
    assert graph == model()


def test_attributes():
    turn, move = (Structure(model()).nodes[name] for name in ("turn", "move"))
    assert attribute(move, "perm", None) == [2, 0, 1]
    assert attribute(turn, "perm", None) is None


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_opset_is_that_of_onnx_itself_under_both_its_names(domain):
    versions = [helper.make_opsetid("com.microsoft", 1), helper.make_opsetid(domain, 21)]
    assert opset_of(helper.make_model(model().graph, opset_imports=versions)) == 21
    with pytest.raises(ArtefactError, match="no ONNX operator set"):
        opset_of(helper.make_model(model().graph, opset_imports=versions[:1]))
