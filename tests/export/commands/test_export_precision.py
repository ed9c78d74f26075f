"""iqa-export with a precision, as a user types it."""

import json
from pathlib import Path

import pytest

from iqa_runtime import Scorer, read_contract

EXAMPLES = Path(__file__).parents[3] / "examples"
INT8_BYTES = 5_000_000
"""The promise for the edge model."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fp16", "--int8"], "--fp16 and --int8: choose one"),
        (["--target", "openvino"], "--target goes with --fp16, --bf16, --int8 or --int8-weights"),
        (["--no-gate"], "--no-gate goes with --fp16"),
        (["--calibration-images", "photos"], "--calibration-images goes with --fp16"),
        (["--int8", "--target", "tpu"], "--target tpu: choose one of onnxruntime, openvino, tensorrt"),
        (["--fp16", "--cache-reference"], "--cache-reference with --fp16"),
    ],
)
def test_options_that_do_not_fit_are_one_line_and_exit_code_2(run, tmp_path, arguments, message):
    code, out, err = run("--model", "yoto", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_found_before_the_export(run, tmp_path):
    code, out, err = run("--model", "yoto", "--fp16", "--output", tmp_path / "absent" / "y.onnx")
    assert (code, out) == (1, "")
    assert "no such folder" in err


def test_missing_photographs_are_found_before_the_export(run, tmp_path):
    code, out, err = run("--model", "yoto", "--int8", "--calibration-images", "photos")
    assert (code, out) == (1, "")
    assert "photos: cannot read the list of images" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_fp16_just_works(run, tmp_path):
    code, out, err = run("--model", "yoto", "--fp16")
    assert code == 0, err
    assert "the gate accepts it" in out
    assert "using the 4 photographs of the package" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"yoto-edge-nr.fp16.{end}" for end in ("export.json", "onnx", "report.html", "report.json")
    ]
    contract = read_contract("yoto-edge-nr.fp16.onnx")
    assert (contract.precision, contract.gate["passed"], contract.weights.trained) == ("fp16", True, True)
    report = json.loads(Path("yoto-edge-nr.fp16.report.json").read_text(encoding="utf-8"))
    assert report["source"]["file"] == "yoto-edge-nr.onnx"
    assert report["bytes"] < 0.6 * report["source_bytes"]
    with Scorer("yoto-edge-nr.fp16.onnx", backend="onnxruntime") as scorer:
        assert scorer.score(EXAMPLES / "photographs" / "stream.jpg").value is not None


@pytest.mark.slow
def test_int8_of_the_edge_model_passes_its_gate_and_is_small(run):
    code, out, err = run("--model", "yoto", "--variant", "edge", "--int8", "--calibration-images", EXAMPLES)
    assert code == 0, err
    assert "the gate accepts it" in out
    contract = read_contract("yoto-edge-nr.int8.onnx")
    assert (contract.precision, contract.target) == ("int8", "onnxruntime")
    report = json.loads(Path("yoto-edge-nr.int8.report.json").read_text(encoding="utf-8"))
    assert report["item_ms"] is not None
    assert Path("yoto-edge-nr.int8.onnx").stat().st_size <= INT8_BYTES
