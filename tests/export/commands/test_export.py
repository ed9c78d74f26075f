"""iqa-export as a user types it."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from iqa_runtime import Scorer, read_contract

EXAMPLES = Path(__file__).parents[3] / "examples" / "photographs"
SCORE_SHARE = 1e-4
"""Of the largest score: the promise made to users."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--model is missing"),
        (["--model", "brisque"], "there is yoto, cvrkd"),
        (
            ["--model", "yoto", "--variant", "swin_t"],
            "--weights is missing: YOTO wants a state dict of the authors' implementation",
        ),
        (["--model", "cvrkd", "--variant", "student"], "NAR_student_cross_dataset.pth"),
        (["--model", "yoto", "--task", "video"], "--task video: there is nr, fr, nar"),
        (["--model", "yoto", "--variant", "swin_b"], "--variant swin_b: yoto has swin_t, resnet50"),
        (
            ["--model", "yoto", "--weights", "random:0", "--task", "fr", "--segment", "both"],
            "--segment both: there is joint and single",
        ),
        (["--model", "yoto", "--weights", "random:x"], "SEED is a number"),
        (["--model", "yoto", "--weights", "random:0", "--task", "nar"], "--task nar: yoto swin_t does nr, fr"),
        (["--model", "yoto", "--weights", "random:0", "--task", "fr"], "--task fr needs --segment"),
        (
            ["--model", "yoto", "--weights", "random:0", "--cache-reference"],
            "--cache-reference: yoto nr has no features of a reference; leave it out",
        ),
        (
            ["--model", "yoto", "--weights", "random:0", "--task", "nr", "--reference-image", "x.png"],
            "--reference-image: yoto nr has no features of a reference; leave it out",
        ),
        (
            ["--model", "yoto", "--weights", "random:0", "--frame", "first"],
            "--frame: it is about --reference-image; give that, or leave it out",
        ),
        (["--model", "yoto", "--weights", "random:0", "--crops", "spiral"], "spiral"),
        (["--model", "yoto", "--weights", "random:0", "--opset", "17"], "--opset 17"),
        (["--model", "yoto", "--weights", "random:0", "--restored"], "--restored: yoto has no such output"),
        (["--model", "cvrkd", "--weights", "random:0", "--maps"], "--maps: cvrkd predicts no quality map"),
    ],
)
def test_usage_errors_are_one_line_and_exit_code_2(run, tmp_path, arguments, message):
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_unknown_option_is_one_line(run):
    code, _, err = run("--mdoel", "yoto")
    assert code == 2
    assert "--mdoel" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["absent.pth", "text.pth", "other.pth"])
def test_weights_that_cannot_be_used(run, tmp_path, name):
    import torch

    (tmp_path / "text.pth").write_text("these are no weights", encoding="utf-8")
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    code, _, err = run("--model", "yoto", "--weights", tmp_path / name, "--output", tmp_path / "y.onnx")
    assert code == 1
    assert err.startswith("iqa-export: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "y.onnx").exists()


def test_list(run):
    code, out, _ = run("--list")
    assert code == 0
    for word in ("yoto", "swin_t", "resnet50", "cvrkd", "student", "teacher"):
        assert word in out


@pytest.mark.slow
def test_yoto_from_the_authors_checkpoint(run, tmp_path, yoto_checkpoint, load_case):
    output = tmp_path / "y.onnx"
    code, out, _ = run("--model", "yoto", "--weights", yoto_checkpoint, "--task", "nr", "--maps", "--output", output)
    assert code == 0
    assert "pass" in out
    contract = read_contract(output)
    assert (contract.variant, contract.weights.trained, contract.weights.file) == ("swin_t", True, "yoto.pth")
    case = load_case("yoto", "nr")
    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    score = session.run(["score"], {"image": case.image.numpy()})[0]
    expected = case.outputs["score"]
    np.testing.assert_allclose(score, expected, rtol=0, atol=SCORE_SHARE * np.abs(expected).max())
    report = json.loads((tmp_path / "y.report.json").read_text(encoding="utf-8"))
    assert report["graphs"][0]["gmac"] <= 43
    with Scorer(output, crops="center", maps=True) as scorer:
        result = scorer.score(EXAMPLES / "stream.jpg")
    assert result.map.shape == (result.height, result.width)
    assert "untrained" not in str(result)


@pytest.mark.slow
@pytest.mark.long
def test_cvrkd_from_the_authors_checkpoint(run, tmp_path, cvrkd_checkpoint, cvrkd_case):
    output = tmp_path / "c.onnx"
    code, _, _ = run("--model", "cvrkd", "--weights", cvrkd_checkpoint, "--cache-reference", "--output", output)
    assert code == 0
    encoder = onnxruntime.InferenceSession(tmp_path / "c.reference.onnx", providers=["CPUExecutionProvider"])
    features = encoder.run(None, {"reference": cvrkd_case.reference.numpy()})[0]
    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    score = session.run(["score"], {"image": cvrkd_case.image.numpy(), "reference_features": features})[0]
    expected = cvrkd_case.outputs["score"]
    np.testing.assert_allclose(score, expected, rtol=0, atol=SCORE_SHARE * np.abs(expected).max())
    with Scorer(output) as scorer:
        result = scorer.score(EXAMPLES / "stream_jpeg_3.jpg", EXAMPLES / "mountains.jpg")
    assert result.patches == 10


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--model", "yoto", "--variant", "resnet50"], marks=pytest.mark.long),
        ["--model", "yoto", "--task", "fr", "--segment", "joint", "--crops", "center", "--reference-image"],
        pytest.param(["--model", "cvrkd", "--task", "fr", "--reference-image"], marks=pytest.mark.long),
    ],
    ids=["resnet50", "yoto-baked", "teacher-baked"],
)
def test_other_forms_pass_parity(run, tmp_path, arguments):
    if arguments[-1] == "--reference-image":
        arguments = [*arguments, EXAMPLES / "stream.jpg"]
    output = tmp_path / "artefact.onnx"
    code, out, err = run(*arguments, "--weights", "random:0", "--output", output)
    assert code == 0, err
    assert "untrained" in err
    assert "FAIL" not in out
    contract = read_contract(output)
    with Scorer(output) as scorer:
        reference = EXAMPLES / "stream.jpg" if contract.needs_reference else None
        results = [scorer.score(EXAMPLES / name, reference) for name in ("stream_jpeg_1.jpg", "stream_jpeg_3.jpg")]
    assert results[0].value != results[1].value
