"""What is read of an ONNX file without onnx: messages written by hand, field by field, and models made by onnx."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from iqa_runtime.artefacts.onnx_metadata import has_external_data, read_metadata

GRAPH, METADATA = 7, 14
"""Fields of a ModelProto (onnx.proto3)."""

DEEP = 1000
"""Graphs in graphs, more than Python's calls go in each other."""


def varint(value: int, length: int = 0) -> bytes:
    """Encode a number, with groups of zeros in front if it is to be longer."""
    groups = [value >> shift & 0x7F for shift in range(0, max(7 * length, value.bit_length(), 1), 7)]
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def field(number: int, content: bytes, wire: int = 2) -> bytes:
    size = varint(len(content)) if wire == 2 else b""
    return varint(number << 3 | wire) + size + content


def entry(key: str, value: str) -> bytes:
    return field(METADATA, field(1, key.encode()) + field(2, value.encode()))


def test_what_onnx_writes():
    model = helper.make_model(helper.make_graph([], "g", [], []), producer_name="someone")
    helper.set_model_props(model, {"first": "1", "ünï": "{}", "empty": ""})
    assert read_metadata(model.SerializeToString()) == {"first": "1", "ünï": "{}", "empty": ""}
    assert read_metadata(helper.make_model(helper.make_graph([], "g", [], [])).SerializeToString()) == {}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(entry("a", "b") + field(GRAPH, b""), id="metadata before the graph"),
        pytest.param(field(GRAPH, b"") + entry("a", "b") + field(GRAPH, b""), id="a graph in two parts"),
        pytest.param(field(GRAPH, entry("c", "d")) + entry("a", "b"), id="what is in the graph is none of the model's"),
        pytest.param(
            field(GRAPH, b"") + field(METADATA, field(2, b"b") + field(1, b"a")), id="the value before its key"
        ),
        pytest.param(
            field(GRAPH, b"") + field(METADATA, field(1, b"x") + field(2, b"b") + field(1, b"a")), id="the last key"
        ),
        pytest.param(
            field(GRAPH, b"") + field(METADATA, field(1, b"a") + field(2, b"b") + field(3, b"new")), id="a new field"
        ),
        pytest.param(
            field(1, varint(2**64 - 1), 0)
            + field(100, bytes(8), 1)
            + field(2000, b"\xff" * 300)
            + field(2**29 - 1, bytes(4), 5)
            + field(GRAPH, b"")
            + entry("a", "b"),
            id="unknown fields of every kind",
        ),
        pytest.param(
            varint(GRAPH << 3 | 2, 3) + varint(0, 10) + varint(METADATA << 3 | 2) + varint(6, 4) + entry("a", "b")[2:],
            id="longer numbers than need be",
        ),
    ],
)
def test_other_ways_to_write_the_same(content):
    assert read_metadata(content) == {"a": "b"}


def test_what_an_entry_lacks_is_empty():
    graph = field(GRAPH, b"")
    assert read_metadata(graph + field(METADATA, field(1, b"a"))) == {"a": ""}
    assert read_metadata(graph + field(METADATA, field(2, b"b"))) == {"": "b"}
    assert read_metadata(graph + field(METADATA, b"")) == {"": ""}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it holds no graph"),
        (entry("a", "b"), "it holds no graph"),
        (field(GRAPH, b"") + entry("a", "b") + entry("a", "b"), "it has two properties 'a'"),
        (field(GRAPH, b"") + field(5, b"", 3), "unknown wire type 3"),
        (field(GRAPH, b"") + field(5, b"", 4), "unknown wire type 4"),
        (field(GRAPH, b"") + field(5, b"", 6), "unknown wire type 6"),
        (field(GRAPH, b"") + field(5, b"", 7), "unknown wire type 7"),
        (field(GRAPH, b"") + field(0, b"x"), "damaged or ends early"),
        (field(GRAPH, b"") + field(1, bytes(7), 1), "damaged or ends early"),
        (field(GRAPH, b"") + field(1, bytes(3), 5), "damaged or ends early"),
        (field(GRAPH, b"") + field(1, b"\x80", 0), "damaged or ends early"),
        (field(GRAPH, b"") + field(1, b"\x80" * 10 + b"\x01", 0), "damaged or ends early"),
        (field(GRAPH, b"") + b"\xf2", "damaged or ends early"),
        (field(GRAPH, b"") + varint(METADATA << 3 | 2), "damaged or ends early"),
        (field(GRAPH, b"") + varint(METADATA << 3 | 2) + varint(2**63), "damaged or ends early"),
        (field(GRAPH, b"") + field(METADATA, varint(1 << 3 | 2) + varint(9) + b"short"), "damaged or ends early"),
        (field(GRAPH, b"") + field(METADATA, field(1, b"\xff")), "utf-8"),
    ],
)
def test_what_is_no_model(content, message):
    with pytest.raises(ValueError, match=message):
        read_metadata(content)


def test_a_model_cut_anywhere_is_an_error_or_has_its_last_properties_missing():
    whole = field(GRAPH, bytes([8, 1])) + entry("a", "b") + entry("c", "d")
    sound = {4: {}, 12: {"a": "b"}, 20: {"a": "b", "c": "d"}}
    for end in range(len(whole) + 1):
        if end in sound:
            assert read_metadata(whole[:end]) == sound[end]
        else:
            with pytest.raises(ValueError, match=r"holds no graph|damaged or ends early"):
                read_metadata(whole[:end])


def inside() -> onnx.TensorProto:
    return numpy_helper.from_array(np.zeros(3, np.float32), "weights")


def outside() -> onnx.TensorProto:
    tensor = onnx.TensorProto(name="weights", data_type=onnx.TensorProto.FLOAT, dims=[3])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def graph_with(*nodes: onnx.NodeProto, **parts: object) -> onnx.GraphProto:
    return onnx.GraphProto(name="location", node=nodes, **parts)


def model_with(graph: onnx.GraphProto | None = None, **parts: object) -> onnx.ModelProto:
    return onnx.ModelProto(ir_version=10, graph=graph or graph_with(), **parts)


def node_with(**value: object) -> onnx.NodeProto:
    return onnx.NodeProto(op_type="Constant", attribute=[onnx.AttributeProto(name="value", **value)])


def sparse(values: onnx.TensorProto, indices: onnx.TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=values, indices=indices, dims=[9])


def in_graph(tensor: onnx.TensorProto) -> onnx.GraphProto:
    return graph_with(initializer=[inside(), tensor])


PLACES: dict[str, Callable[[onnx.TensorProto], onnx.ModelProto]] = {
    "initializer": lambda tensor: model_with(in_graph(tensor)),
    "sparse values": lambda tensor: model_with(graph_with(sparse_initializer=[sparse(tensor, inside())])),
    "sparse indices": lambda tensor: model_with(graph_with(sparse_initializer=[sparse(inside(), tensor)])),
    "attribute": lambda tensor: model_with(graph_with(node_with(t=tensor))),
    "tensors": lambda tensor: model_with(graph_with(node_with(tensors=[inside(), tensor]))),
    "sparse attribute": lambda tensor: model_with(graph_with(node_with(sparse_tensor=sparse(tensor, inside())))),
    "sparse tensors": lambda tensor: model_with(graph_with(node_with(sparse_tensors=[sparse(inside(), tensor)]))),
    "branch": lambda tensor: model_with(graph_with(node_with(g=in_graph(tensor)))),
    "branches": lambda tensor: model_with(graph_with(node_with(graphs=[graph_with(), in_graph(tensor)]))),
    "branch of a branch": lambda tensor: model_with(
        graph_with(node_with(g=graph_with(node_with(t=inside()), node_with(g=in_graph(tensor)))))
    ),
    "training, initialization": lambda tensor: model_with(
        training_info=[onnx.TrainingInfoProto(initialization=in_graph(tensor))]
    ),
    "training, algorithm": lambda tensor: model_with(
        training_info=[onnx.TrainingInfoProto(), onnx.TrainingInfoProto(algorithm=in_graph(tensor))]
    ),
    "function": lambda tensor: model_with(functions=[onnx.FunctionProto(name="f", node=[node_with(t=tensor)])]),
    "branch in a function": lambda tensor: model_with(
        functions=[onnx.FunctionProto(name="f", node=[node_with(g=in_graph(tensor))])]
    ),
    "default of a function": lambda tensor: model_with(
        functions=[onnx.FunctionProto(name="f", attribute_proto=[onnx.AttributeProto(name="a", t=tensor)])]
    ),
}
"""Where a tensor can lie in a model, by name; every model has the word ``location`` in it, as the name of its graph."""


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_tensor_elsewhere_is_found_wherever_the_model_holds_it(place):
    assert has_external_data(place(outside()).SerializeToString())
    assert not has_external_data(place(inside()).SerializeToString())


def test_either_sign_of_a_tensor_elsewhere_is_enough():
    told, named, plain = outside(), outside(), inside()
    del told.external_data[:]
    named.ClearField("data_location")
    plain.data_location = onnx.TensorProto.DEFAULT
    for tensor, elsewhere in ((told, True), (named, True), (plain, False)):
        assert has_external_data(PLACES["initializer"](tensor).SerializeToString()) == elsewhere


def test_words_are_no_reference():
    model = model_with(graph_with(node_with(s=b"location: weights.bin")), producer_name="location")
    helper.set_model_props(model, {"location": "weights.bin"})
    assert not has_external_data(model.SerializeToString())
    assert not has_external_data(b"")


def test_a_model_cut_short_is_an_error():
    with pytest.raises(ValueError, match="damaged or ends early"):
        has_external_data(PLACES["branch"](outside()).SerializeToString()[:-1])


def test_graphs_without_end_are_an_error():
    graph = field(2, b"location")
    for _ in range(DEEP):
        graph = field(1, field(5, field(6, graph)))  # a node's attribute's graph
    with pytest.raises(ValueError, match="nested too deeply"):
        has_external_data(field(GRAPH, graph))
