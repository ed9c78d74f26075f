"""Folding keeps every bit: against ONNX's own reference, in numbers whose sums are exact in any order."""

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from iqa_calibration.graphs.folding import fold

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def model_of(nodes, constants=(), shapes=(), in_shape=("batch", 2, 4), out_shape=None):
    """A graph from `image` to `score`; `shapes` are those an exporter tells."""
    told = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in shapes]
    graph = helper.make_graph(
        [helper.make_node(*node[:3], **(node[3] if len(node) > 3 else {})) for node in nodes],
        "graph",
        [helper.make_tensor_value_info("image", FLOAT, in_shape)],
        [helper.make_tensor_value_info("score", FLOAT, out_shape or in_shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()],
        value_info=told,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def operators(model) -> Counter:
    return Counter(node.op_type for node in model.graph.node)


def check(model, *, left: dict[str, int]) -> onnx.ModelProto:
    """Fold, compare on batches of one and three, and look at what is left."""
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    fold(folded)
    onnx.checker.check_model(folded, full_check=True)
    sizes = [dim.dim_value or 2 for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    for batch in (1, 3):
        random = np.random.default_rng(batch)
        feed = {"image": random.integers(-4, 5, (batch, *sizes)).astype(np.float32)}
        expected = ReferenceEvaluator(model).run(None, feed)[0]
        actual = ReferenceEvaluator(folded).run(None, feed)[0]
        assert actual.shape == expected.shape
        assert actual.tobytes() == expected.tobytes()
    assert operators(folded) == left
    return folded


F32 = np.float32
SMALLEST = F32(1e-45)


@pytest.mark.parametrize("epsilon", [1e-4, 1e-8, 1e-9, 1e-12, 1e-38, SMALLEST])
@pytest.mark.parametrize("operator", ["Add", "Sub", "Max"])
def test_no_constant_is_nearly_nothing(operator, epsilon):
    model = model_of([(operator, ["image", "epsilon"], ["score"])], {"epsilon": F32(epsilon)})
    folded = check(model, left={operator: 1})
    assert numpy_helper.to_array(folded.graph.initializer[0]) == F32(epsilon)


@pytest.mark.parametrize(("operator", "neutral"), [("Add", 0.0), ("Mul", 1.0), ("Mul", 1 + 1e-7), ("Div", 1.0)])
def test_arithmetic_on_what_is_not_constant_is_left_alone(operator, neutral):
    check(model_of([(operator, ["image", "value"], ["score"])], {"value": F32(neutral)}), left={operator: 1})


def test_arithmetic_on_constants():
    nodes = [
        ("Constant", [], ["two"], {"value_float": 2.0}),
        ("Constant", [], ["list"], {"value_ints": [1, 2, 3, 4]}),
        ("Cast", ["list"], ["floats"], {"to": FLOAT}),
        ("Div", ["floats", "two"], ["halves"]),
        ("Add", ["image", "halves"], ["score"]),
    ]
    folded = check(model_of(nodes), left={"Add": 1})
    assert numpy_helper.to_array(folded.graph.initializer[0]).tolist() == [0.5, 1, 1.5, 2]


def test_casts_to_the_type_a_tensor_has():
    nodes = [
        ("CastLike", ["half", "image"], ["single"]),
        ("Mul", ["image", "single"], ["product"]),
        ("Cast", ["product"], ["same"], {"to": FLOAT}),
        ("Identity", ["same"], ["again"]),
        ("Neg", ["again"], ["score"]),
    ]
    shapes = [("product", FLOAT, ("batch", 2, 4))]
    check(model_of(nodes, {"half": np.float16(0.5)}, shapes), left={"Mul": 1, "Neg": 1})


def test_a_cast_that_rounds_stays():
    nodes = [("Cast", ["image"], ["half"], {"to": TensorProto.FLOAT16}), ("Cast", ["half"], ["score"], {"to": FLOAT})]
    check(model_of(nodes), left={"Cast": 2})


def test_types_that_numpy_lacks_are_left_alone():
    nodes = [
        ("Cast", ["weight"], ["short"], {"to": TensorProto.BFLOAT16}),
        ("Neg", ["short"], ["turned"]),
        ("Cast", ["turned"], ["long"], {"to": FLOAT}),
        ("Mul", ["image", "long"], ["score"]),
    ]
    model = model_of(nodes, {"weight": F32(0.3)})
    fold(model)
    assert operators(model) == {"Cast": 2, "Neg": 1, "Mul": 1}


def batch_of(tensor: str) -> list[tuple]:
    return [("Shape", [tensor], ["sizes"], {"start": 0, "end": 1})]


def test_a_target_with_one_unknown_size_becomes_a_constant():
    nodes = [
        *batch_of("image"),
        ("Concat", ["sizes", "eight"], ["target"], {"axis": 0}),
        ("Reshape", ["image", "target"], ["flat"]),
        ("Neg", ["flat"], ["score"]),
    ]
    model = model_of(nodes, {"eight": np.array([8])}, [("flat", FLOAT, ("batch", 8))], out_shape=("batch", 8))
    check(model, left={"Reshape": 1, "Neg": 1})


def test_a_target_with_two_unknown_sizes_stays():
    nodes = [
        ("Shape", ["image"], ["sizes"], {"start": 0, "end": 2}),
        ("Concat", ["sizes", "four"], ["target"], {"axis": 0}),
        ("Reshape", ["image", "target"], ["turned"]),
        ("Neg", ["turned"], ["score"]),
    ]
    shapes = [("turned", FLOAT, ("a", "b", 2, 2))]
    model = model_of(nodes, {"four": np.array([2, 2])}, shapes, ("batch", "rows", 4), ("batch", "rows", 2, 2))
    check(model, left={"Shape": 1, "Concat": 1, "Reshape": 1, "Neg": 1})


def test_an_unknown_size_is_equal_to_itself_alone():
    nodes = [("Reshape", ["image", "target"], ["other"]), ("Neg", ["other"], ["score"])]
    constants = {"target": np.array([-1, 4])}
    kept = model_of(nodes, constants, [("other", FLOAT, ("rows", 4))], out_shape=("rows", 4))
    check(kept, left={"Reshape": 1, "Neg": 1})
    constants = {"target": np.array([-1, 2, 4])}
    check(model_of(nodes, constants, [("other", FLOAT, ("batch", 2, 4))]), left={"Neg": 1})


def test_reshapes_in_a_row_are_the_last():
    nodes = [("Reshape", ["image", "flat"], ["a"]), ("Reshape", ["a", "turned"], ["score"])]
    constants = {"flat": np.array([-1, 8]), "turned": np.array([-1, 4, 2])}
    check(model_of(nodes, constants, out_shape=("batch", 4, 2)), left={"Reshape": 1})


def test_a_zero_in_a_target_copies_the_tensor_before():
    nodes = [("Reshape", ["image", "flat"], ["a"]), ("Reshape", ["a", "turned"], ["score"])]
    constants = {"flat": np.array([-1, 8, 1]), "turned": np.array([0, 4, 2])}
    check(model_of(nodes, constants, out_shape=("batch", 4, 2)), left={"Reshape": 2})


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [([0, 2, 1], [0, 2, 1], {"Neg": 1}), ([1, 0, 2], [0, 2, 1], {"Transpose": 1, "Neg": 1})],
)
def test_transposes_in_a_row(first, second, left):
    nodes = [
        ("Transpose", ["image"], ["a"], {"perm": first}),
        ("Transpose", ["a"], ["b"], {"perm": second}),
        ("Neg", ["b"], ["score"]),
    ]
    out = [("batch", 2, 4)[axis] for axis in (np.array(first)[second])]
    check(model_of(nodes, out_shape=out), left=left)


def test_expansions():
    """To a size a tensor has, nothing; to one more, a constant; to the batch, what it is."""
    nodes = [
        *batch_of("image"),
        ("Concat", ["sizes", "sides"], ["target"], {"axis": 0}),
        ("Expand", ["image", "target"], ["same"]),
        ("Expand", ["row", "target"], ["rows"]),
        ("Add", ["same", "rows"], ["score"]),
    ]
    constants = {"sides": np.array([2, 4]), "row": np.arange(4, dtype=F32)}
    shapes = [("same", FLOAT, ("batch", 2, 4)), ("rows", FLOAT, ("batch", 2, 4))]
    check(model_of(nodes, constants, shapes), left={"Shape": 1, "Concat": 1, "Expand": 1, "Add": 1})


def test_slices_of_everything():
    nodes = [
        ("Slice", ["image", "start", "far", "axis"], ["a"]),
        ("Slice", ["a", "end", "back", "axis", "minus"], ["b"]),
        ("Slice", ["b", "one", "far", "axis"], ["score"]),
    ]
    constants = {
        name: np.array([value])
        for name, value in {"start": 0, "far": 2**31, "axis": 2, "end": -1, "back": -9, "minus": -1, "one": 1}.items()
    }
    check(model_of(nodes, constants, out_shape=("batch", 2, 3)), left={"Slice": 2})


@pytest.mark.parametrize("split", [np.array(3), np.array([3, 1])])
@pytest.mark.parametrize("index", [0, 1, -1])
def test_a_part_of_a_sequence(split, index):
    nodes = [
        ("SplitToSequence", ["image", "split"], ["parts"], {"axis": 2}),
        ("SequenceAt", ["parts", "index"], ["part"]),
        ("Neg", ["part"], ["score"]),
    ]
    model = model_of(nodes, {"split": split, "index": np.array(index)}, out_shape=("batch", 2, 3 if index == 0 else 1))
    check(model, left={"Slice": 1, "Neg": 1})


def test_equal_constants_are_shared_bit_for_bit():
    nodes = [(name, [f"in{index}", f"c{index}"], [f"in{index + 1}"]) for index, name in enumerate(["Add"] * 4)]
    nodes[0] = ("Add", ["image", "c0"], ["in1"])
    nodes[-1] = ("Add", ["in3", "c3"], ["score"])
    constants = {"c0": F32(0.5), "c1": F32(0.5), "c2": F32(0.0), "c3": F32(-0.0)}
    folded = check(model_of(nodes, constants), left={"Add": 4})
    assert len(folded.graph.initializer) == 3  # zero and minus zero are two


def test_equal_nodes_are_shared_but_not_random_ones():
    nodes = [
        ("Exp", ["image"], ["a"]),
        ("Exp", ["image"], ["b"]),
        ("Softmax", ["image"], ["c"], {"axis": 1}),
        ("Softmax", ["image"], ["d"], {"axis": 2}),
        ("Sum", ["a", "b", "c", "d"], ["score"]),
    ]
    check(model_of(nodes), left={"Exp": 1, "Softmax": 2, "Sum": 1})
    noise = {"mean": 0.0, "scale": 1.0}
    nodes = [("RandomNormalLike", ["image"], [name], noise) for name in "ab"] + [("Sub", ["a", "b"], ["score"])]
    model = model_of(nodes)
    fold(model)
    assert operators(model) == {"RandomNormalLike": 2, "Sub": 1}


@pytest.mark.parametrize(("bias", "inputs"), [(0.0, 2), (-0.0, 3), (1e-30, 3)])
def test_a_bias_of_zeros_is_none(bias, inputs):
    nodes = [("Conv", ["image", "weight", "bias"], ["score"])]
    constants = {"weight": np.ones((3, 2, 1), F32), "bias": np.full(3, bias, F32)}
    folded = check(model_of(nodes, constants, out_shape=("batch", 3, 4)), left={"Conv": 1})
    assert len(folded.graph.node[0].input) == inputs


def test_what_nothing_depends_on_is_removed_and_inner_graphs_are_not_entered():
    def branch(operator, *inputs):
        output = helper.make_tensor_value_info(operator, FLOAT, None)
        return helper.make_graph([helper.make_node(operator, inputs, [operator])], operator, [], [output])

    then, other = branch("Add", "same", "inner"), branch("Neg", "image")
    nodes = [
        ("Relu", ["image"], ["unused"]),
        ("Identity", ["image"], ["same"]),
        ("If", ["condition"], ["score"], {"then_branch": then, "else_branch": other}),
    ]
    model = model_of(nodes, {"condition": np.array(True), "inner": F32(2), "nobody": F32(3)})
    folded = check(model, left={"Identity": 1, "If": 1})
    assert {tensor.name for tensor in folded.graph.initializer} == {"condition", "inner"}


def test_an_output_keeps_its_name():
    nodes = [("Relu", ["image"], ["a"]), ("Identity", ["a"], ["score"])]
    folded = check(model_of(nodes), left={"Relu": 1, "Identity": 1})
    assert [output.name for output in folded.graph.output] == ["score"]


def test_what_would_grow_is_left_to_run_time():
    nodes = [("Expand", ["row", "target"], ["rows"]), ("ReduceSum", ["rows"], ["sum"], {"keepdims": 0})]
    nodes += [("Mul", ["image", "sum"], ["scaled"]), ("ReduceMax", ["rows"], ["most"], {"keepdims": 0})]
    nodes += [("Add", ["scaled", "most"], ["score"])]
    constants = {"row": np.arange(2, dtype=F32), "target": np.array([2**20, 2])}
    folded = check(model_of(nodes, constants), left={"Mul": 1, "Add": 1})
    assert folded.ByteSize() < 2**12
    nodes = [("Expand", ["row", "target"], ["rows"]), ("MatMul", ["image", "rows"], ["score"])]
    constants = {"row": np.arange(2**17, dtype=F32), "target": np.array([4, 2**17])}
    model = model_of(nodes, constants, out_shape=("batch", 2, 2**17))
    fold(model)
    assert operators(model) == {"Expand": 1, "MatMul": 1}


def test_large_constants_are_folded_where_nothing_else_reads_them():
    weight = np.zeros((4, 4096), F32)
    nodes = [("Transpose", ["weight"], ["turned"], {"perm": [1, 0]}), ("MatMul", ["wide", "turned"], ["score"])]
    wide = [("Concat", ["image"] * 1024, ["wide"], {"axis": 2}), *nodes]
    check(model_of(wide, {"weight": weight}), left={"Concat": 1, "MatMul": 1})
    shared = [*wide[:-1], ("MatMul", ["wide", "turned"], ["a"]), ("MatMul", ["a", "weight"], ["b"])]
    shared += [("MatMul", ["b", "turned"], ["score"])]
    check(model_of(shared, {"weight": weight}), left={"Concat": 1, "Transpose": 1, "MatMul": 3})


def test_folding_again_changes_nothing():
    nodes = [*batch_of("image"), ("Concat", ["sizes", "eight"], ["target"], {"axis": 0})]
    nodes += [("Reshape", ["image", "target"], ["flat"]), ("Neg", ["flat"], ["score"])]
    model = model_of(nodes, {"eight": np.array([8])}, [("flat", FLOAT, ("batch", 8))], out_shape=("batch", 8))
    fold(model)
    once = model.SerializeToString(deterministic=True)
    fold(model)
    assert model.SerializeToString(deterministic=True) == once
