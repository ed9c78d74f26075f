import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from iqa_calibration.gate.gate import LIMITS
from iqa_calibration.gate.gate_set import GateSet
from iqa_calibration.half.conversion import to_half
from iqa_calibration.images.sets import read_images
from iqa_calibration.int8.weight_only import compress_weights
from iqa_calibration.jobs import judging
from iqa_calibration.jobs.forms import Form
from iqa_calibration.jobs.judging import Judge, judged_on
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.errors import ArtefactError, DependencyError
from iqa_runtime.scorer import Scorer

FP16, INT8, WEIGHTS = (Form.choose(precision) for precision in ("fp16", "int8", "int8-weights"))


@pytest.fixture
def graph(artefact):
    return onnx.load_model(artefact)


@pytest.fixture
def gate_set(artefact, photographs):
    return GateSet.build(read_contract(artefact), read_images(photographs)[2:3])


@pytest.fixture
def judge_of(gate_set):
    """Return a function that makes a judge, and a list of what it tells of its progress."""

    def make(graph, threads=1):
        told = []
        return Judge(graph, gate_set, threads=threads, progress=lambda *each: told.append(each)), told

    return make


def scaled(graph, factor):
    """Return the graph with the scores times a factor."""
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    for tensor in changed.graph.initializer:
        if tensor.name == "last.weight":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
    return changed


def test_scores_are_those_of_the_runtime_whatever_the_threads(judge_of, graph, gate_set, artefact):
    verdicts = [judge_of(graph, threads)[0].verdict(graph, INT8) for threads in (1, 3)]
    assert verdicts[0] == verdicts[1]
    with Scorer(artefact, backend="onnxruntime") as scorer:
        assert verdicts[0].fp32_scores[0] == scorer.score(gate_set.photographs[0]).value
    assert verdicts[0].passed


def test_a_wrong_candidate_is_refused_by_the_limits_of_its_precision(judge_of, graph):
    judge, _ = judge_of(graph)
    wrong = scaled(graph, 1.02)
    for form, limits in ((FP16, "fp16"), (INT8, "int8"), (WEIGHTS, "int8")):
        verdict = judge.verdict(wrong, form)
        assert verdict.limits == LIMITS[limits]
        assert verdict.passed == (verdict.largest <= verdict.limits.largest and verdict.mean <= verdict.limits.mean)
    assert not judge.verdict(wrong, FP16).passed


def test_float32_is_scored_once(judge_of, graph):
    judge, told = judge_of(graph)
    for form in (INT8, WEIGHTS):
        judge.verdict(graph, form)
    assert told.count(("scoring the gate set in float32", 17, 17)) == 1
    assert told.count(("scoring the gate set in int8-weights", 17, 17)) == 1


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_half_is_judged_with_its_roundings(judge_of, graph, gate_set):
    """ONNX Runtime itself computes in float32 what it has no kernel in half for."""
    half, _ = to_half(graph, lambda: next(iter(gate_set.images())))
    verdict = judge_of(graph)[0].verdict(half, FP16)
    assert verdict.passed
    assert verdict.largest > 0
    brain, _ = to_half(graph, lambda: next(iter(gate_set.images())), kind="bf16")
    coarse = judge_of(graph)[0].verdict(brain, Form.choose("bf16", target="tensorrt"))
    assert coarse.largest > verdict.largest


def test_times_are_of_both_and_no_part_of_the_verdict(judge_of, graph):
    judge, _ = judge_of(graph)
    candidate = compress_weights(graph, "onnxruntime")
    times = judge.times(candidate, WEIGHTS)
    assert times.fp32 > 0
    assert times.candidate > 0
    assert judge.times(candidate, Form.choose("int8-weights", target="tensorrt")) is None
    assert judge.verdict(candidate, WEIGHTS) == judge.verdict(candidate, WEIGHTS)


def test_what_cannot_run_has_no_time_and_no_verdict(judge_of, graph):
    odd = onnx.ModelProto()
    odd.CopyFrom(graph)
    odd.graph.node[1].op_type = "NoSuchOperator"
    judge, _ = judge_of(graph)
    assert judge.times(odd, INT8) is None
    with pytest.raises(ArtefactError, match="cannot load it"):
        judge.verdict(odd, INT8)


def test_a_graph_of_another_contract_is_refused(judge_of, graph):
    other = onnx.ModelProto()
    other.CopyFrom(graph)
    other.graph.output[0].name = "quality"
    other.graph.node[-1].output[0] = "quality"
    with pytest.raises(ArtefactError, match="its contract says"):
        judge_of(graph)[0].verdict(other, INT8)


def test_a_network_that_is_not_finite_in_float32_is_no_measure(judge_of, graph):
    with pytest.raises(ArtefactError, match=r"float32 score of .*texture2\.png is not finite"):
        judge_of(scaled(graph, np.nan))[0].verdict(graph, INT8)


def guarded(graph, epsilon):
    """Square the differences of neighbours and divide them by themselves, which an epsilon keeps from being zero.

    0 / (0 + epsilon) is 0, and not a number without the epsilon; of photographs nothing changes that float32 can show.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    nodes = {node.name: node for node in changed.graph.node}
    nodes["hidden"].input[0] = "share"
    # The fifth difference is that of a pixel with itself, and always zero.
    epsilons = np.where(np.arange(8) == 4, 1e-8, epsilon).astype(np.float32)
    changed.graph.initializer.append(numpy_helper.from_array(epsilons, "epsilon"))
    added = [
        helper.make_node("Mul", ["features", "features"], ["squares"], name="squares"),
        helper.make_node("Add", ["features", "epsilon"], ["guarded"], name="guard"),
        helper.make_node("Div", ["squares", "guarded"], ["share"], name="share"),
    ]
    ordered = [*list(changed.graph.node)[:4], *added, *list(changed.graph.node)[4:]]
    del changed.graph.node[:]
    changed.graph.node.extend(ordered)
    return changed


def test_a_lost_epsilon_is_felt_on_flat_pictures(judge_of, graph):
    """A vector, of which nobody says that it would become zero."""
    sound, lost = guarded(graph, 1e-8), guarded(graph, 0.0)
    judge, _ = judge_of(sound)
    assert judge.verdict(sound, FP16).passed
    verdict = judge.verdict(lost, FP16)
    assert not verdict.passed
    assert verdict.largest < LIMITS["fp16"].largest  # photographs show nothing
    assert verdict.reasons[0] == "the score of a black picture is not finite, in float32 it is 0"
    assert len(verdict.reasons) == 6  # the flat ones
    assert judge_of(lost)[0].verdict(sound, FP16).passed  # where float32 has no number, nothing is compared


def test_overflow_is_felt_on_the_picture_that_overflows(judge_of, graph):
    """A sum over 3 x 24 x 24 pixels, which ends at 65504 in float16: as 0 to 1 times 39 it is 67392 on white.

    The photographs are textures about the middle, whose sums are near half of that.
    """
    wide, narrow = (onnx.ModelProto() for _ in range(2))
    for model, kind in ((wide, onnx.TensorProto.FLOAT), (narrow, onnx.TensorProto.FLOAT16)):
        model.CopyFrom(graph)
        model.graph.node[-1].output[0] = "seen"
        numbers = {"scale": np.float32(19.5), "none": np.float32(0), "one": np.float32(1), "axes": np.array([1, 2, 3])}
        model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in numbers.items())
        model.graph.node.extend(
            [
                helper.make_node("Add", ["image", "one"], ["positive"], name="positive"),  # 0 to 2
                helper.make_node("Mul", ["positive", "scale"], ["large"], name="large"),
                helper.make_node("ReduceSum", ["large", "axes"], ["energy"], name="energy", keepdims=0),
                helper.make_node("Cast", ["energy"], ["stored"], name="store", to=kind),
                helper.make_node("Cast", ["stored"], ["read"], name="read", to=onnx.TensorProto.FLOAT),
                helper.make_node("Mul", ["read", "none"], ["nothing"], name="nothing"),
                helper.make_node("Add", ["seen", "nothing"], ["score"], name="sum"),
            ]
        )
    verdict = judge_of(wide)[0].verdict(narrow, FP16)
    assert verdict.reasons == ("the score of a white picture is not finite, in float32 it is 0",)
    assert (verdict.largest, verdict.extreme) == (0, 0)


def test_who_judges(monkeypatch):
    int8 = Form.choose("int8", target="openvino")
    bf16 = Form.choose("bf16", target="openvino")
    half = Form.choose("fp16", target="openvino")
    for found, judges in ((object(), "openvino"), (None, "onnxruntime")):
        monkeypatch.setattr(judging, "find_spec", lambda _, found=found: found)
        assert judged_on(int8) == judges
        assert judged_on(bf16) == "openvino"  # computed so nowhere else
        assert judged_on(half) == "onnxruntime"
        assert judged_on(replace(int8, target="tensorrt")) == "onnxruntime"


def test_bfloat16_on_openvino_is_not_judged_by_anything_else(judge_of, graph, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DependencyError, match="openvino"):
        judge_of(graph)[0].verdict(graph, Form.choose("bf16", target="openvino"))


def test_verdict_on_a_constant_candidate(judge_of, graph):
    constant = onnx.ModelProto()
    constant.CopyFrom(graph)
    constant.graph.node[-1].output[0] = "seen"
    constant.graph.initializer.append(numpy_helper.from_array(np.float32([0]), "zero"))
    constant.graph.node.append(helper.make_node("Mul", ["seen", "zero"], ["score"], name="nothing"))
    verdict = judge_of(graph)[0].verdict(constant, INT8)
    assert not verdict.passed
    assert any("SRCC undefined" in reason for reason in verdict.reasons)
