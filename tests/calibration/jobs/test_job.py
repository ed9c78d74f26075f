import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from iqa_calibration.gate.gate import LIMITS
from iqa_calibration.images.sets import read_images
from iqa_calibration.int8.observers import OBSERVERS, Range
from iqa_calibration.jobs import candidates
from iqa_calibration.jobs.forms import Form
from iqa_calibration.jobs.job import Request, calibrate
from iqa_runtime.artefacts.contract_json import contract_to_json
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.contract import FileDigest
from iqa_runtime.errors import ArtefactError, DependencyError, FileError, UsageError
from iqa_runtime.scorer import Scorer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*calibration images.*ranges are surer:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*was made for tensorrt and runs on onnxruntime:UserWarning"),
]

PAIR = ("maps", "turned")
"""Operands of the product of two activations in `attending_artefact`."""

QUANTISED_SHARE = LIMITS["int8"].largest
"""Of the spread: what the gate allows an int8 score to differ, so what a user may see at most on its images."""


@pytest.fixture
def request_for(artefact, photographs, tmp_path):
    def make(form, **changes):
        images = tuple(read_images(photographs))
        output = tmp_path / f"tiny{form.suffix}"
        return replace(Request(artefact=artefact, form=form, images=images, output=output), **changes)

    return make


@pytest.mark.parametrize(
    ("form", "precision", "target", "operators"),
    [
        (Form.choose("fp16"), "fp16", "any", {"Cast"}),
        (Form.choose("fp16", search=False), "fp16", "any", {"Cast"}),
        (Form.choose("int8"), "int8", "onnxruntime", {"QuantizeLinear", "DequantizeLinear"}),
        (Form.choose("int8", target="tensorrt"), "int8", "tensorrt", {"QuantizeLinear", "DequantizeLinear"}),
        (Form.choose("int8-weights"), "int8-weights", "onnxruntime", {"Cast", "Mul"}),
        (Form.choose("int8-weights", target="tensorrt"), "int8-weights", "tensorrt", {"DequantizeLinear"}),
    ],
)
def test_every_precision_becomes_an_artefact_that_scores(request_for, form, precision, target, operators):
    request = request_for(form)
    report = calibrate(request)
    assert report.passed
    model = onnx.load_model(request.output)
    assert operators <= {node.op_type for node in model.graph.node}
    contract = read_contract(request.output)
    assert (contract.precision, contract.target) == (precision, target)
    assert contract.gate["passed"]
    assert contract.gate["backend"] == "onnxruntime"
    assert report.bytes == request.output.stat().st_size
    with (
        Scorer(request.artefact, backend="onnxruntime") as fp32,
        Scorer(request.output, backend="onnxruntime") as scorer,
    ):
        allowed = QUANTISED_SHARE * report.gate.spread
        for image in request.images[:2]:
            assert abs(scorer.score(image).value - fp32.score(image).value) <= allowed


def test_bfloat16_for_tensorrt_is_in_the_graph(request_for):
    request = request_for(Form.choose("bf16", target="tensorrt"))
    calibrate(request)
    model = onnx.load_model(request.output)
    assert TensorProto.BFLOAT16 in {tensor.data_type for tensor in model.graph.initializer}
    assert read_contract(request.output).opset == 22


def test_the_contract_says_how_it_was_calibrated(request_for):
    request = request_for(Form.choose("int8", method="entropy", keep_float=("hidden",)), seed=3, limit=2)
    calibrate(request)
    calibration = read_contract(request.output).calibration
    assert (calibration["method"], calibration["seed"], calibration["photographs"]) == ("entropy", 3, 2)
    assert len(calibration["digest"]) == 64
    assert calibration["kept_float"]["hidden"] == "as asked"
    assert calibration["converted"] == 1


def test_photographs_that_judge_took_no_part_in_calibration(request_for):
    report = calibrate(request_for(Form.choose("int8")))
    judging = {image.partition(",")[0] for image in report.images}
    assert report.contract.calibration["photographs"] == len(request_for(Form.choose("int8")).images) - len(judging)
    assert report.contract.gate["photographs"] == len(judging) == 2


@pytest.mark.filterwarnings("ignore:.* show what others show:UserWarning")
def test_no_other_file_of_a_picture_that_judges_calibrates(request_for, tmp_path):
    """The same pixels without compression: other bytes, another length."""
    images = request_for(Form.choose("int8")).images
    again = []
    for image in images:
        again.append(tmp_path / f"{image.stem}.bmp")
        cv2.imwrite(str(again[-1]), cv2.imread(str(image)))
    report = calibrate(request_for(Form.choose("int8"), images=(*images, *again)))
    judging = {Path(image.partition(",")[0]).stem for image in report.images}
    assert report.contract.gate["photographs"] == len(judging)
    assert report.contract.calibration["photographs"] == len(images) - len(judging)
    with pytest.raises(UsageError, match="is one that judges"):
        calibrate(request_for(Form.choose("int8"), images=(images[0], again[0])))


def test_folders_of_photographs_stay_out_of_the_contract(request_for, photographs):
    request = request_for(Form.choose("int8"))
    calibrate(request)
    assert str(photographs) not in contract_to_json(read_contract(request.output))


@pytest.mark.usefixtures("broken_scale")
def test_without_the_gate_nothing_is_judged_and_the_contract_says_so(request_for):
    request = request_for(Form.choose("int8"), gate=False)
    report = calibrate(request)
    assert report.gate is None
    assert request.output.exists()
    contract = read_contract(request.output)
    assert contract.gate == {"skipped": True}
    assert contract.calibration["photographs"] == len(request.images)


@pytest.mark.usefixtures("broken_scale")
def test_a_broken_scale_is_refused_and_the_nearest_alternative_named(request_for):
    request = request_for(Form.choose("int8"), command=("iqa-calibrate", "tiny.onnx", "--images", "my photos"))
    report = calibrate(request)
    assert not report.passed
    assert not request.output.exists()
    assert sorted(path.name for path in request.output.parent.iterdir()) == [
        "tiny.int8.report.html",
        "tiny.int8.report.json",
        "tiny.onnx",
    ]
    assert [attempt.passed for attempt in report.alternatives] == [True]
    verdict = report.verdict()
    assert "the gate refuses it" in verdict
    assert f"{report.gate.largest:.2%} of the spread" in verdict
    assert "iqa-calibrate tiny.onnx --images 'my photos' --int8 --method minmax" in verdict
    again = calibrate(replace(request, form=Form.choose("int8", method="minmax")))
    assert again.passed


@pytest.fixture
def break_ranges(monkeypatch):
    """Let the ranges of some tensors cover a thousandth of what was seen, whatever the method."""
    honest = candidates.Maker._ranges

    def break_those_of(*broken):
        def narrow(self, placement, method):
            ranges = honest(self, placement, method)
            seen = {name: ranges[name] for name in broken if name in ranges}
            return ranges | {name: Range(range_.low / 1000, range_.high / 1000) for name, range_ in seen.items()}

        monkeypatch.setattr(candidates.Maker, "_ranges", narrow)

    return break_those_of


def test_the_search_gives_up_no_more_than_it_must(request_for, break_ranges):
    """One tensor of a thousandth of its range: the layer that reads it goes back to float32, the other stays."""
    break_ranges("features")
    report = calibrate(request_for(Form.choose("int8")))
    assert report.passed
    assert "moves scores by" in report.kept_float["hidden"]
    assert report.converted == 1
    assert report.sensitivities[0].nodes == ("hidden",)
    unsearched = calibrate(request_for(Form.choose("int8", search=False)))
    assert not unsearched.passed
    assert unsearched.alternative.command[-1] == "--int8"


@pytest.mark.usefixtures("broken_scale")
def test_alternatives_that_cannot_be_made_are_told(request_for, monkeypatch):
    for method in OBSERVERS:
        monkeypatch.setitem(OBSERVERS, method, OBSERVERS["mse"])
    monkeypatch.setattr("iqa_calibration.int8.weight_only.SMALLEST", 10**6)
    monkeypatch.setitem(LIMITS, "fp16", replace(LIMITS["fp16"], largest=0, mean=0))
    report = calibrate(request_for(Form.choose("int8")))
    assert [attempt.command[-1] for attempt in report.alternatives] == [
        "minmax",
        "percentile",
        "entropy",
        "--int8-weights",
        "--fp16",
    ]
    assert "nothing would get smaller" in report.alternatives[3].reasons[0]
    assert report.alternative is None
    assert "None of 5 alternatives passes" in report.verdict()


def test_the_cache_serves_a_second_method(request_for, tmp_path, monkeypatch):
    calibrate(request_for(Form.choose("int8"), cache=tmp_path / "cache"))
    stored = list((tmp_path / "cache").iterdir())
    assert [path.suffix for path in stored] == [".npz"]
    monkeypatch.setattr("iqa_calibration.int8.statistics._run", lambda *_: pytest.fail("observed again"))
    assert calibrate(request_for(Form.choose("int8", method="percentile"), cache=tmp_path / "cache")).passed


def test_progress_is_told_by_stage(request_for):
    told = []
    calibrate(request_for(Form.choose("int8")), lambda *each: told.append(each))
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages == [
        "reading photographs",
        "observing ranges",
        "scoring the gate set in float32",
        "scoring the gate set in int8",
        "measuring sensitivity",
    ]
    assert ("scoring the gate set in int8", 34, 34) in told


def test_reports_are_written_beside_the_artefact(request_for):
    request = request_for(Form.choose("int8"))
    report = calibrate(request)
    content = json.loads(request.output.with_name("tiny.int8.report.json").read_text(encoding="utf-8"))
    assert content["passed"] is True
    assert content["file"]["sha256"] == report.file.sha256
    assert len(content["gate"]["fp32_scores"]) == len(content["images"]) == 34
    np.testing.assert_array_equal(content["gate"]["candidate_scores"], report.gate.candidate_scores)
    assert request.output.with_name("tiny.int8.report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.fixture
def for_openvino(attending_artefact, request_for, monkeypatch):
    """Make requests of a graph with a long product of two activations, judged on ONNX Runtime."""
    monkeypatch.setattr("iqa_calibration.jobs.judging.find_spec", lambda _: None)

    def make(attention=None, **changes):
        form = Form.choose("int8", target="openvino", attention=attention)
        return request_for(form, artefact=attending_artefact, **changes)

    return make


def integers_of(path):
    """Name the products with integer inputs."""
    graph = onnx.load_model(path).graph
    return {node.name for node in graph.node if node.input and node.input[0].endswith("/dequantised")}


@pytest.mark.parametrize("attention", [None, True, False])
def test_long_products_of_two_activations_follow_gate_or_user(for_openvino, attention):
    request = for_openvino(attention)
    report = calibrate(request)
    assert report.passed
    quantised = attention is not False
    assert ("pair" in integers_of(request.output)) == quantised
    assert read_contract(request.output).calibration["attention"] == ("quantised" if quantised else "float32")
    assert (("long products of two activations", "in integers too", "") in report.measures()) == quantised


def test_what_the_gate_refuses_of_them_goes_back_and_is_told(for_openvino, break_ranges):
    break_ranges(*PAIR)
    request = for_openvino()
    report = calibrate(request)
    assert report.passed
    assert integers_of(request.output) == {"edges", "hidden"}
    assert report.kept_float["pair"] == "a product of two activations, which the gate refused"
    assert read_contract(request.output).calibration["attention"] == "refused"
    content = json.loads(request.output.with_name("tiny.int8.openvino.report.json").read_text(encoding="utf-8"))
    assert content["contract"]["calibration"]["attention"] == "refused"
    told = {name: value for name, value, _ in report.measures()}
    assert told["long products of two activations"] == "in float32: in integers the gate refused them"


@pytest.mark.parametrize("also_broken", [(), ("features",)])
def test_who_insists_on_them_is_told_what_passes(for_openvino, break_ranges, also_broken):
    break_ranges(*PAIR, *also_broken)
    refused = calibrate(for_openvino(attention=True))
    assert not refused.passed
    assert refused.alternative.command[1:] == ("--int8", "--target", "openvino", "--no-attention")
    assert len(refused.alternatives) == 1
    remedy = calibrate(for_openvino(attention=False))
    assert remedy.passed
    assert ("hidden" in remedy.kept_float) == bool(also_broken)


def test_without_a_gate_they_stay_float_unless_insisted_on(for_openvino):
    unjudged = calibrate(for_openvino(gate=False))
    assert unjudged.contract.calibration["attention"] == "float32"
    assert unjudged.kept_float["pair"] == "a product of two activations"
    insisted = calibrate(for_openvino(attention=True, gate=False))
    assert insisted.contract.calibration["attention"] == "quantised"


@pytest.mark.parametrize(("precision", "target"), [("fp16", None), ("bf16", "tensorrt")])
def test_half_precision_leaves_in_float_what_is_asked(request_for, precision, target):
    request = request_for(Form.choose(precision, target=target, keep_float=("hidden",)))
    report = calibrate(request)
    assert report.passed
    assert report.kept_float["hidden"] == "as asked"
    assert read_contract(request.output).calibration["kept_float"]["hidden"] == "as asked"
    constants = {tensor.name: tensor.data_type for tensor in onnx.load_model(request.output).graph.initializer}
    assert constants["hidden.weight"] == TensorProto.FLOAT


def test_the_report_names_the_artefact_that_was_read(request_for):
    request = request_for(Form.choose("int8"))
    read = FileDigest.of_file(request.artefact)
    report = calibrate(request, lambda *_: request.artefact.write_bytes(b"exported anew"))
    assert report.source == read
    assert report.source_bytes > len(b"exported anew")


FORMS = (
    ("fp16", None),
    ("bf16", "tensorrt"),
    ("int8", None),
    ("int8", "openvino"),
    ("int8", "tensorrt"),
    ("int8-weights", None),
    ("int8-weights", "tensorrt"),
)

AGAIN = """
import sys, warnings
from pathlib import Path
from iqa_calibration.images.sets import read_images
from iqa_calibration.jobs import judging
from iqa_calibration.jobs.forms import Form
from iqa_calibration.jobs.job import Request, calibrate

warnings.simplefilter("ignore")
judging.find_spec = lambda _: None
artefact, photographs, output, *forms = sys.argv[1:]
for number, form in enumerate(forms):
    precision, target = form.split("/")
    calibrate(
        Request(
            artefact=Path(artefact),
            form=Form.choose(precision, target=target or None),
            images=tuple(read_images(Path(photographs))),
            output=Path(output, f"{number}.onnx"),
            threads=3,
        )
    )
"""
"""The same requests in another process, where sets of names have another order, on another number of threads."""


@pytest.mark.slow
def test_the_same_request_gives_the_same_bytes(request_for, artefact, photographs, tmp_path, monkeypatch):
    monkeypatch.setattr("iqa_calibration.jobs.judging.find_spec", lambda _: None)
    (tmp_path / "again").mkdir()
    asked = [f"{precision}/{target or ''}" for precision, target in FORMS]
    command = [sys.executable, "-c", AGAIN, str(artefact), str(photographs), str(tmp_path / "again"), *asked]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": "1"})
    for number, (precision, target) in enumerate(FORMS):
        request = request_for(Form.choose(precision, target=target))
        assert calibrate(request).passed
        assert request.output.read_bytes() == (tmp_path / "again" / f"{number}.onnx").read_bytes(), FORMS[number]


@pytest.mark.parametrize("form", [Form.choose("fp16"), Form.choose("int8"), Form.choose("int8-weights")])
def test_times_are_in_the_report_and_not_in_the_artefact(request_for, monkeypatch, form):
    written = []
    for milliseconds in (1.0, 2.0):
        monkeypatch.setattr(
            "iqa_calibration.jobs.judging.item_milliseconds", lambda *_, ms=milliseconds: (ms, ms + 0.5)
        )
        request = request_for(form)
        calibrate(request)
        report = json.loads(request.output.with_suffix(".report.json").read_text(encoding="utf-8"))
        assert report["item_ms"] == {"fp32": milliseconds, "candidate": milliseconds + 0.5}
        written.append(request.output.read_bytes())
    assert written[0] == written[1]


def test_bad_requests_are_refused_before_any_work(request_for, artefact, tmp_path):
    form = Form.choose("int8")
    with pytest.raises(UsageError, match="must end in"):
        calibrate(request_for(form, output=tmp_path / "tiny.plan"))
    with pytest.raises(FileError, match="no such folder"):
        calibrate(request_for(form, output=tmp_path / "absent" / "tiny.onnx"))
    with pytest.raises(UsageError, match="would overwrite the float32 artefact"):
        calibrate(request_for(form, output=artefact))
    with pytest.raises(UsageError, match="give at least 2"):
        calibrate(replace(request_for(form), images=request_for(form).images[:1]))
    with pytest.raises(UsageError, match="``keep_float=decoder``"):
        calibrate(request_for(Form.choose("int8", keep_float=("decoder",))))
    made = request_for(Form.choose("fp16"))
    calibrate(made)
    with pytest.raises(UsageError, match="it is fp16 already"):
        calibrate(request_for(form, artefact=made.output))
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(artefact.read_bytes()[:-400])
    with pytest.raises(ArtefactError, match=r"damaged\.onnx"):
        calibrate(request_for(form, artefact=damaged))


def test_openvino_in_bfloat16_needs_openvino(request_for, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DependencyError, match=r"iqa-deploy\[openvino\]"):
        calibrate(request_for(Form.choose("bf16", target="openvino")))
