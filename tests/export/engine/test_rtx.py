"""Building with TensorRT-RTX itself, which parses and builds without a GPU."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from iqa_calibration.graphs import finishing
from iqa_calibration.half.conversion import to_half
from iqa_calibration.int8.observers import min_max
from iqa_calibration.int8.placement import place
from iqa_calibration.int8.quantisation import quantise
from iqa_calibration.int8.statistics import collect
from iqa_calibration.int8.weight_only import compress_weights
from iqa_export.engine import EngineOptions, build_engine
from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.artefacts.engine_file import check_host, load_engine
from iqa_runtime.artefacts.host_key import current_host
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.errors import BackendError
from tiny_contract import tiny_contract

pytest.importorskip("tensorrt_rtx")

EDGE = Path(find_artefact("edge-nr"))
RTX = EngineOptions(library="tensorrt_rtx")

PLAN_MAGIC = b"vtrt"
"""How plans of TensorRT-RTX 1.7 begin."""


def build(source, output, **options):
    described = build_engine(source, output, replace(RTX, **options))
    checked, content = load_engine(output)
    assert checked == described
    assert described.source.file == source.name
    assert described.host.library == "tensorrt_rtx"
    assert content.startswith(PLAN_MAGIC)
    return described, content


def write(model, path, **changes):
    finishing.embed_contract(model, replace(read_contract(EDGE), **changes))
    finishing.save(model, path)
    return path


def items(model, count):
    """Give noise of one crop for each input, the same each time."""

    def feeds():
        for seed in range(count):
            random = np.random.default_rng(seed)
            yield {
                entry.name: random.standard_normal(
                    [size.dim_value or 1 for size in entry.type.tensor_type.shape.dim], dtype=np.float32
                )
                for entry in model.graph.input
            }

    return feeds


def integer(model, *, attention=False):
    """Quantise for TensorRT, by the least and greatest values of two items."""
    placement = place(model, "tensorrt", attention=attention)
    assert bool(placement.attention) == attention
    seen = collect(model, placement.tensors, items(model, 2))
    return quantise(model, placement, {name: min_max(values) for name, values in seen.items()})


@pytest.mark.parametrize("name", ["edge-nr", "edge-fr", "dri-edge", "mfe-edge"])
def test_the_bundled_artefacts_build_as_they_are(tmp_path, name):
    source = Path(find_artefact(name))
    described, _ = build(source, tmp_path / "x.plan", opt_batch=4, max_batch=16)
    assert described.contract == read_contract(source)
    assert described.portability == "ampere_or_later"


@pytest.mark.parametrize("attention", [False, True])
def test_edge_builds_in_8_bits(tmp_path, attention):
    model = integer(onnx.load(EDGE), attention=attention)
    source = write(model, tmp_path / "x.onnx", precision="int8", target="tensorrt")
    build(source, tmp_path / "x.plan")


def test_edge_builds_with_8_bit_weights(tmp_path):
    model = compress_weights(onnx.load(EDGE), "tensorrt")
    build(write(model, tmp_path / "x.onnx", precision="int8-weights", target="tensorrt"), tmp_path / "x.plan")


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_edge_builds_in_half_precision_and_becomes_smaller(tmp_path, kind):
    model = onnx.load(EDGE)
    half, report = to_half(model, items(model, 1), kind=kind)
    assert report.in_half
    assert report.kept_float
    source = write(half, tmp_path / "x.onnx", precision=kind, target="tensorrt")
    _, smaller = build(source, tmp_path / "x.plan")
    _, larger = build(EDGE, tmp_path / "y.plan")
    assert len(smaller) < len(larger)


def tiny(path, nodes, constants, batch="batch"):
    inner = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    finishing.embed_contract(model, tiny_contract(8))
    onnx.save(model, path)
    return path


def mean(path):
    nodes = [helper.make_node("ReduceMean", ["image", "axes"], ["score"], keepdims=0)]
    return tiny(path, nodes, {"axes": np.array([1, 2, 3])})


def test_a_graph_of_one_output_gives_the_same_plan_again(tmp_path):
    # Several outputs are stored in varying order.
    source = mean(tmp_path / "x.onnx")
    first, second = (build(source, tmp_path / name)[0] for name in ("x.plan", "y.plan"))
    assert first.plan.sha256 == second.plan.sha256


def test_the_parser_names_the_node_it_has_no_operator_for(tmp_path):
    nodes = [
        helper.make_node("Reshape", ["image", "columns"], ["flat"], name="flatten"),
        helper.make_node("Col2Im", ["flat", "size", "block"], ["folded"], name="fold"),
        helper.make_node("ReduceMean", ["folded", "axes"], ["score"], keepdims=0),
    ]
    constants = {
        "columns": np.array([-1, 12, 16]),
        "size": np.array([8, 8]),
        "block": np.array([2, 2]),
        "axes": np.array([1, 2, 3]),
    }
    source = tiny(tmp_path / "x.onnx", nodes, constants)
    with pytest.raises(BackendError, match=r"node 'fold' \(Col2Im\): .*write the model with others"):
        build_engine(source, tmp_path / "x.plan", RTX)


def test_the_parser_refuses_the_form_made_for_onnx_runtime(tmp_path):
    model = onnx.load(EDGE)
    placement = place(model, "onnxruntime")
    seen = collect(model, placement.tensors, items(model, 1))
    quantised = quantise(model, placement, {name: min_max(values, symmetric=False) for name, values in seen.items()})
    source = write(quantised, tmp_path / "x.onnx")
    with pytest.raises(BackendError, match=r"QuantizeLinear\): .*``target=tensorrt``"):
        build_engine(source, tmp_path / "x.plan", RTX)


def test_a_fixed_batch_is_refused(tmp_path):
    nodes = [helper.make_node("ReduceMean", ["image", "axes"], ["score"], keepdims=0)]
    source = tiny(tmp_path / "x.onnx", nodes, {"axes": np.array([1, 2, 3])}, batch=2)
    with pytest.raises(BackendError, match=r"input .image. is \[2, 3, 8, 8\]; the batch axis .* must be dynamic"):
        build_engine(source, tmp_path / "x.plan", RTX)


def test_progress_counts_up_to_the_end_of_each_phase(tmp_path):
    seen = []
    build_engine(mean(tmp_path / "x.onnx"), tmp_path / "x.plan", RTX, progress=lambda *step: seen.append(step))
    assert seen[0][:2] == ("Building engine", 0)
    phase, done, total = seen[-1]
    assert (phase, done) == ("Building engine", total)
    assert len({name for name, _, _ in seen}) > 1


def test_a_build_can_be_interrupted(tmp_path):
    def interrupt(*step):
        del step
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(mean(tmp_path / "x.onnx"), tmp_path / "x.plan", RTX, progress=interrupt)
    assert not (tmp_path / "x.plan").exists()


def test_without_a_gpu_the_plan_is_refused_before_it_is_loaded(tmp_path):
    host = current_host("tensorrt_rtx")
    if host.gpu is not None:
        pytest.skip("a GPU is here")
    described, _ = build(mean(tmp_path / "x.onnx"), tmp_path / "x.plan")
    with pytest.raises(BackendError, match=r"no NVIDIA GPU was found here; .*iqa-run x\.onnx"):
        check_host(tmp_path / "x.plan", described, host)
