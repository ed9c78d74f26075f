"""Engines that show their layers: what is marked, with TensorRT-RTX itself, and what cannot be asked for."""

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import iqa_export.engine.marking as marking_module
from command_line import invoke
from fake_tensorrt_sources import write_cached
from iqa_calibration.comparing.layers import compare_layers
from iqa_calibration.comparing.sources import open_both
from iqa_calibration.graphs.finishing import embed_contract
from iqa_calibration.graphs.half_storage import widen
from iqa_calibration.graphs.structure import Structure
from iqa_calibration.half.casting import FORMATS, converted, element_types
from iqa_export.commands.engine import main
from iqa_export.engine import EngineOptions, build_engine, why_no_engine
from iqa_export.engine.logs import make_log
from iqa_export.engine.marking import mark_layers
from iqa_export.engine.parsing import parse
from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.artefacts.engine_file import BatchRange, read_engine_file
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.errors import UsageError
from tensorrt_names import API, names_used
from tiny_contract import tiny_contract

EDGE = Path(find_artefact("edge-nr"))
MARKED = EngineOptions(library="tensorrt_rtx", max_batch=1, opt_batch=1, mark_layers=True)

GPU_ROUNDING = 1e-3
"""Root mean square of float32 in two orders, TF32 off: some fifty times what PyTorch on a CPU differs by, 1.8e-5."""


def tiny(path, kind=TensorProto.FLOAT):
    """Write a graph with a transposed constant, whole numbers, and tensors whose first axis is no batch."""
    nodes = [
        helper.make_node("Transpose", ["weight"], ["turned"]),
        helper.make_node("Mul", ["image", "gain"], ["scaled"], name="scale"),
        helper.make_node("Reshape", ["scaled", "planes_shape"], ["planes"], name="reshape"),
        helper.make_node("MatMul", ["planes", "turned"], ["product"], name="product"),
        helper.make_node("Reshape", ["product", "items_shape"], ["items"], name="back"),
        helper.make_node("ReduceMean", ["items", "axes"], ["score"], name="mean", keepdims=0),
    ]
    constants = {
        "weight": np.random.default_rng(0).random((4, 8), dtype=np.float32),
        "gain": np.float32(2),
        "planes_shape": np.array([-1, 8, 8]),
        "items_shape": np.array([-1, 3, 8, 4]),
        "axes": np.array([1, 2, 3]),
    }
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    for index, node in enumerate(graph.node):
        node.name = node.name or f"node{index}"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if kind == TensorProto.FLOAT16:
        model = converted(model, FORMATS["fp16"], keep=["mean"])
    embed_contract(model, tiny_contract(8))
    onnx.save(model, path)
    return path


@pytest.fixture
def network():
    """Return a function that parses a graph with TensorRT-RTX."""
    trt = pytest.importorskip("tensorrt_rtx")
    kept = []

    def parsed(source):
        log = make_log(trt)
        builder = trt.Builder(log)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        kept.append(builder)
        return trt, network, parse(trt, network, source, source.read_bytes(), log)

    return parsed


def outputs(network):
    return {network.get_output(index).name for index in range(network.num_outputs)}


TINY = {
    "scaled": (1, 3, 8, 8),
    "planes": (3, 8, 8),
    "product": (3, 8, 4),
    "items": (1, 3, 8, 4),
    "score": (1,),
}


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_computed_float_tensors_are_marked_with_their_shapes_for_one_item(tmp_path, network, kind):
    source = tiny(tmp_path / "x.onnx", kind)
    trt, parsed, parser = network(source)
    marked = mark_layers(trt, parsed, parser, source.read_bytes())
    assert outputs(parsed) == set(marked)
    assert {name: marked[name] for name in TINY} == TINY
    assert "turned" not in marked, "a constant"
    if kind == TensorProto.FLOAT:
        assert set(marked) == set(TINY)


@pytest.mark.parametrize("name", ["edge-nr", "edge-fr"])
def test_all_float_tensors_of_the_edge_model_are_marked(network, name):
    source = Path(find_artefact(name))
    trt, parsed, parser = network(source)
    before = outputs(parsed)
    marked = mark_layers(trt, parsed, parser, source.read_bytes())
    model = onnx.load(source)
    widen(model)
    structure, types = Structure(model), element_types(model)
    floats = {
        tensor
        for tensor in structure.producers
        if types[tensor] == TensorProto.FLOAT and not structure.is_constant(tensor)
    }
    assert before <= floats == set(marked) == outputs(parsed)


def test_a_marked_plan_is_built_and_says_so(tmp_path):
    pytest.importorskip("tensorrt_rtx")
    source = tiny(tmp_path / "x.onnx")
    described = build_engine(source, tmp_path / "x.plan", MARKED)
    assert described == read_engine_file(tmp_path / "x.plan")
    assert described.layer_tensors == TINY
    assert described.rebuild_command.endswith("--mark-layers")
    plain = build_engine(source, tmp_path / "y.plan", replace(MARKED, mark_layers=False))
    assert plain.layer_tensors == {}
    marked, unmarked = ((tmp_path / name).read_bytes() for name in ("x.plan", "y.plan"))
    for name in TINY:
        assert name.encode() in marked, "outputs are in a plan by name"
    assert b"planes" not in unmarked.replace(b"planes_shape", b"")


def test_the_edge_model_builds_with_its_layers_marked(tmp_path):
    pytest.importorskip("tensorrt_rtx")
    described = build_engine(EDGE, tmp_path / "x.plan", MARKED)
    assert len(described.layer_tensors) > 100
    assert described.layer_tensors["quality_map"] == (1, 28, 28)
    assert described.contract == read_contract(EDGE)


def test_the_command_makes_it_take_one_item(tmp_path, monkeypatch):
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # which would be preferred where it is
    source = tiny(tmp_path / "x.onnx")
    result = invoke(main, "build", str(source), "--mark-layers")
    assert result.exit_code == 0, result.output
    described = read_engine_file(tmp_path / "x.plan")
    assert described.batch == BatchRange(min=1, opt=1, max=1)
    assert described.layer_tensors == TINY


@pytest.mark.parametrize("batch", [{"opt_batch": 1, "max_batch": 2}, {}])
def test_several_items_at_once_are_refused(tmp_path, batch):
    with pytest.raises(UsageError, match=r"``mark_layers`` with ``max_batch=\d``: .*one item"):
        build_engine(EDGE, tmp_path / "x.plan", EngineOptions(mark_layers=True, **batch))


def test_an_artefact_with_a_reference_encoder_is_refused(tmp_path):
    write_cached(tmp_path / "x.onnx")
    with pytest.raises(UsageError, match="``mark_layers`` shows the layers of a whole graph"):
        build_engine(tmp_path / "x.onnx", tmp_path / "x.plan", MARKED)


@pytest.mark.parametrize("version", API)
def test_every_name_used_exists(version):
    variables = {"network": "INetworkDefinition", "parser": "OnnxParser", "tensor": "ITensor"}
    used = set(names_used(Path(marking_module.__file__), variables))
    assert {
        ("INetworkDefinition", "mark_output"),
        ("OnnxParser", "get_layer_output_tensor"),
        ("ITensor", "is_network_output"),
    } <= used
    missing = [
        (owner, member)
        for owner, member in used
        if owner not in API[version] or (member is not None and member not in API[version][owner])
    ]
    assert not missing


@pytest.mark.gpu
@pytest.mark.slow
def test_layers_of_a_real_engine_are_those_of_the_graph(tmp_path):
    if reason := why_no_engine():
        pytest.skip(reason)
    build_engine(EDGE, tmp_path / "x.plan", replace(MARKED, library=None))
    picture = np.random.default_rng(0).integers(0, 256, (230, 240, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "x.png"), picture)
    rows, apart = compare_layers(*open_both(EDGE, tmp_path / "x.plan"), [str(tmp_path / "x.png")])
    assert len(rows) > 100
    assert apart == 0
    assert rows[0].relative < GPU_ROUNDING, rows[0]
