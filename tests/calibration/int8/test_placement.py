import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from iqa_calibration.int8.placement import MIN_DEPTH, Read, place
from iqa_runtime.errors import UsageError


def model_of(nodes, weights, inputs=None, outputs=("score",), shape=(8, 4, 4)):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name in inputs or ["image"]],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def conv(name, source, result, channels=8, **attributes):
    parameters = [f"net.{name}.weight", f"net.{name}.bias"]
    node = helper.make_node("Conv", [source, *parameters], [result], name=name, pads=[1, 1, 1, 1], **attributes)
    return node, {parameters[0]: (channels, 8, 3, 3), parameters[1]: (channels,)}


def residual():
    """Build a residual block as ResNets have it, then a pooled score."""
    layers = [conv("first", "image", "a"), conv("second", "b", "c"), conv("third", "d", "e"), conv("fourth", "s", "f")]
    (first, w1), (second, w2), (third, w3), (fourth, w4) = layers
    nodes = [
        first,
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        second,
        helper.make_node("Relu", ["c"], ["d"], name="relu_2"),
        third,
        helper.make_node("Add", ["b", "e"], ["s"], name="add"),
        fourth,
        helper.make_node("Sigmoid", ["f"], ["g"], name="sigmoid"),
        helper.make_node("ReduceMean", ["g"], ["score"], name="mean", keepdims=0),
    ]
    return model_of(nodes, w1 | w2 | w3 | w4)


INPUTS = [Read("image", "first", 0), Read("b", "second", 0), Read("d", "third", 0), Read("s", "fourth", 0)]


@pytest.mark.parametrize("target", ["tensorrt", "openvino"])
def test_inputs_and_the_skip_branch(target):
    placement = place(residual(), target)
    assert placement.symmetric
    assert placement.nodes == ("first", "second", "third", "fourth")
    assert placement.tensors == ("image", "b", "d", "s")
    assert set(placement.reads) == {*INPUTS, Read("b", "add", 0)}


def test_onnxruntime_also_takes_what_convolutions_write():
    placement = place(residual(), "onnxruntime")
    assert not placement.symmetric
    assert placement.tensors == ("image", "b", "d", "e", "s", "f")
    assert set(placement.reads) == {*INPUTS, Read("b", "add", 0), Read("e", "add", 1), Read("f", "sigmoid", 0)}


def test_a_float_convolution_takes_its_add_along():
    placement = place(residual(), "onnxruntime", keep_float=["third"])
    # Its input is what the second one writes; whoever reads that, reads integers.
    assert set(placement.reads) == {*INPUTS, Read("b", "add", 0), Read("f", "sigmoid", 0)}
    assert placement.kept_float == {"third": "as asked"}
    symmetric = place(residual(), "tensorrt", keep_float=["third"])
    assert set(symmetric.reads) == {read for read in INPUTS if read.node != "third"}


def projection():
    """Build a residual block whose skip branch is a convolution too, as where ResNets halve the size."""
    (first, w1), (second, w2) = conv("first", "image", "a"), conv("second", "a", "b")
    skip, w3 = conv("skip", "a", "c")
    return model_of([first, second, skip, helper.make_node("Add", ["b", "c"], ["score"], name="add")], w1 | w2 | w3)


@pytest.mark.parametrize("model", [residual(), projection()], ids=["residual", "projection"])
@pytest.mark.parametrize("target", ["tensorrt", "onnxruntime"])
def test_keeping_more_in_float_quantises_a_part_of_the_rest(model, target):
    everything = place(model, target)
    for name in everything.nodes:
        part = place(model, target, keep_float=[name])
        assert set(part.nodes) == set(everything.nodes) - {name}
        assert set(part.reads) <= set(everything.reads)
        assert set(part.tensors) <= set(everything.tensors)


def test_an_output_of_the_graph_is_not_made_of_integers():
    (first, weights), (second, more) = conv("first", "image", "a"), conv("second", "a", "score")
    model = model_of([first, second], weights | more, outputs=("score", "a"))
    assert place(model, "tensorrt").nodes == ("first", "second")
    placement = place(model, "onnxruntime")
    assert placement.nodes == ()
    assert set(placement.kept_float.values()) == {"its result is an output of the graph"}


def test_a_relu_that_others_bypass_is_not_fused():
    (first, weights), (second, more) = conv("first", "image", "a"), conv("second", "b", "c")
    nodes = [
        first,
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        second,
        helper.make_node("Mul", ["a", "c"], ["score"], name="mul"),
    ]
    placement = place(model_of(nodes, weights | more), "onnxruntime")
    assert {Read("a", "relu", 0), Read("a", "mul", 0), Read("b", "second", 0)} <= set(placement.reads)


def attention(tokens):
    """Build attention over tokens of 64 channels, its layers named as a PyTorch exporter names them."""
    nodes = [
        helper.make_node("MatMul", ["image", "val_1"], ["q0"], name="query"),
        helper.make_node("Add", ["q0", "block.0.query.bias"], ["q"], name="query_bias"),
        helper.make_node("Transpose", ["image"], ["k"], name="turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "k"], ["products"], name="products"),
        helper.make_node("Softmax", ["products"], ["shares"], name="softmax"),
        helper.make_node("MatMul", ["shares", "image"], ["mixed"], name="mix"),
        helper.make_node("Transpose", ["block.1.out.weight"], ["val_2"], name="turn_weight", perm=[1, 0]),
        helper.make_node("MatMul", ["mixed", "val_2"], ["out"], name="out"),
        helper.make_node("MatMul", ["out", "val_3"], ["score"], name="gate"),
    ]
    weights = {"val_1": (64, 64), "block.0.query.bias": (64,), "block.1.out.weight": (32, 64), "val_3": (32, 1)}
    return model_of(nodes, weights, shape=(tokens, 64))


def test_matrix_products_have_integer_inputs_alone():
    for target in ("tensorrt", "onnxruntime"):
        placement = place(attention(16), target)
        assert placement.nodes == ("query", "out")
        assert placement.reads == (Read("image", "query", 0), Read("mixed", "out", 0))


def test_why_products_stay_float():
    assert place(attention(16), "tensorrt").kept_float == {
        "products": "a product of two activations",
        "mix": "a product of two activations",
        "gate": "fewer than 4 output channels",
    }


def test_attention_is_quantised_where_asked_and_long_enough():
    placement = place(attention(MIN_DEPTH), "tensorrt", attention=True)
    assert placement.attention == ("mix",)  # the other product sums over 64 channels
    assert {Read("shares", "mix", 0), Read("image", "mix", 1)} < set(placement.reads)
    assert place(attention(MIN_DEPTH - 1), "tensorrt", attention=True).attention == ()
    assert place(attention(MIN_DEPTH), "onnxruntime", attention=True).attention == ()


def test_layers_are_named_after_their_parameters():
    layers = place(attention(16), "tensorrt").layers
    assert layers == {
        "query": "block.0.query",
        "products": "products",
        "mix": "mix",
        "out": "block.1.out",
        "gate": "gate",
    }


@pytest.mark.parametrize(
    ("keep", "quantised"),
    [(["query"], ("out",)), (["block.1.out"], ("query",)), (["block"], ()), (["block.0", "out"], ())],
)
def test_nodes_layers_and_blocks_can_stay_float(keep, quantised):
    assert place(attention(16), "tensorrt", keep_float=keep).nodes == quantised


@pytest.mark.parametrize("keep", ["blo", "block.0.que", "softmax", ""])
def test_a_name_that_is_nothing_is_an_error(keep):
    with pytest.raises(UsageError, match=f"``keep_float={keep}``"):
        place(attention(16), "tensorrt", keep_float=[keep])


def test_an_unknown_target_is_an_error():
    with pytest.raises(UsageError, match="target 'npu': choose one of onnxruntime, openvino, tensorrt"):
        place(attention(16), "npu")


def test_nodes_without_a_name_of_their_own_get_one():
    model = attention(16)
    for node in model.graph.node:
        node.name = "same" if node.op_type == "MatMul" else ""
    assert place(model, "tensorrt").nodes == ("MatMul/q0", "MatMul/out")


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (helper.make_node("MatMul", ["w", "image"], ["score"], name="n"), "its weights are on the left"),
        (helper.make_node("MatMul", ["image", "v"], ["score"], name="n"), "its weights are a vector"),
        (helper.make_node("Conv", ["image", "other"], ["score"], name="n"), "its weights are computed"),
        (helper.make_node("Gemm", ["image", "w", "b"], ["score"], name="n", alpha=2.0), "a Gemm that scales"),
        (helper.make_node("Gemm", ["image", "w", "one"], ["score"], name="n"), "its bias is not a constant of each"),
    ],
)
def test_forms_that_stay_float(node, reason):
    model = model_of([node], {"w": (8, 8), "v": (8,), "b": (8,), "one": (1,)}, inputs=["image", "other"])
    placement = place(model, "onnxruntime")
    assert placement.nodes == ()
    assert placement.kept_float["n"].startswith(reason)
