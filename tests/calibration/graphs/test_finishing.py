from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from iqa_calibration.graphs.finishing import count_macs, embed_contract, save, strip_sources
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.contract import Contract
from iqa_runtime.errors import ArtefactError
from tiny_contract import tiny_contract


def model_of(nodes, weights, in_shape, out_shape):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, in_shape)],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, out_shape)],
        [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def contract(**changes) -> Contract:
    return tiny_contract(8, mean=0.0, std=1.0, **changes)


def test_matmul_counts_one_item():
    nodes = [helper.make_node("MatMul", ["image", "w"], ["score"])]
    assert count_macs(model_of(nodes, {"w": (5, 7)}, ["batch", 4, 5], ["batch", 4, 7])) == 4 * 5 * 7


@pytest.mark.parametrize(("transposed", "shape"), [(0, (5, 7)), (1, (7, 5))])
def test_gemm(transposed, shape):
    nodes = [helper.make_node("Gemm", ["image", "w"], ["score"], transB=transposed)]
    assert count_macs(model_of(nodes, {"w": shape}, ["batch", 5], ["batch", 7])) == 5 * 7


def test_grouped_convolution_and_intermediate_shapes():
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["half"], group=2, strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["half"], ["positive"]),
        helper.make_node("Conv", ["positive", "v"], ["score"]),
    ]
    weights = {"w": (6, 2, 3, 3), "v": (1, 6, 1, 1)}
    model = model_of(nodes, weights, ["batch", 4, 8, 8], ["batch", 1, 4, 4])
    assert count_macs(model) == 6 * 4 * 4 * 2 * 9 + 4 * 4 * 6


def test_transposed_convolution():
    nodes = [helper.make_node("ConvTranspose", ["image", "w"], ["score"], strides=[2, 2])]
    assert count_macs(model_of(nodes, {"w": (3, 5, 2, 2)}, ["batch", 3, 4, 4], ["batch", 5, 8, 8])) == 3 * 16 * 5 * 4


def test_counting_leaves_the_model_alone():
    model = model_of(
        [helper.make_node("MatMul", ["image", "w"], ["score"])], {"w": (5, 700)}, ["batch", 5], ["batch", 700]
    )
    before = model.SerializeToString()
    count_macs(model)
    assert model.SerializeToString() == before


def test_work_that_cannot_be_told_is_none():
    product = helper.make_node("MatMul", ["image", "unknown"], ["score"], name="product")
    assert count_macs(model_of([product], {}, ["batch", 5], ["batch", 7])) is None
    recurrent = helper.make_node("GRU", ["image", "w", "r"], ["score"], hidden_size=4)
    weights = {"w": (1, 12, 3), "r": (1, 12, 4)}
    assert count_macs(model_of([recurrent], weights, [7, "batch", 3], [7, 1, "batch", 4])) is None


def test_sources_are_stripped_everywhere():
    model = model_of([helper.make_node("Relu", ["image"], ["score"])], {}, ["batch", 5], ["batch", 5])
    trace = "/home/someone/secret.py"
    model.doc_string = model.graph.doc_string = trace
    model.graph.value_info.extend([helper.make_tensor_value_info(trace, TensorProto.FLOAT, [1])])
    for entry in (model, model.graph, model.graph.node[0], model.graph.input[0]):
        entry.metadata_props.add(key="trace", value=trace)
    strip_sources(model)
    assert trace.encode() not in model.SerializeToString()


def test_contract_round_trip(tmp_path):
    model = model_of([helper.make_node("Relu", ["image"], ["score"])], {}, ["batch", 5], ["batch", 5])
    model.metadata_props.add(key="other", value="kept")
    embed_contract(model, contract(model="old"))
    stored = embed_contract(model, contract())
    path = tmp_path / "model.onnx"
    save(model, path)
    assert read_contract(path) == stored
    assert replace(stored, sha256="") == contract()
    keys = [entry.key for entry in onnx.load(path).metadata_props]
    assert keys == ["other", "iqa.contract"]


def test_invalid_graph_is_not_kept(tmp_path):
    model = model_of([helper.make_node("NoSuchOperator", ["image"], ["score"])], {}, ["batch", 5], ["batch", 5])
    path = tmp_path / "model.onnx"
    with pytest.raises(ArtefactError, match=r"model\.onnx: the ONNX checker refuses"):
        save(model, path)
    assert not path.exists()
