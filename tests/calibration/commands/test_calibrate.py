"""iqa-calibrate as a user types it."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from command_line import invoke
from iqa_calibration.commands import calibrate as cli
from iqa_runtime import read_contract

NO_BFLOAT16 = "no bfloat16 arithmetic"


@pytest.fixture
def run():
    """Run the command in this process; return exit code, stdout and stderr."""
    return partial(invoke, cli.main)


@pytest.mark.parametrize("precision", ["fp16", "int8", "int8-weights"])
def test_an_artefact_is_written_under_its_own_name(run, artefact, photographs, precision):
    page = artefact.with_name("page.html")
    code, out, err = run(artefact, f"--{precision}", "--images", photographs, "--report", page)
    assert code == 0, err
    assert "the gate accepts it" in out
    assert f"wrote {artefact.parent}/tiny.{precision}.onnx" in err
    assert read_contract(artefact.with_name(f"tiny.{precision}.onnx")).precision == precision
    assert artefact.with_name(f"tiny.{precision}.report.html").read_bytes() == page.read_bytes()
    # The weights alone need no ranges, so few photographs are no reason to warn.
    assert ("4 calibration images: ranges are surer from 32 on" in err) == (precision != "int8-weights")


def test_without_photographs_the_packaged_ones_serve_and_it_is_said(run, artefact):
    code, _, err = run(artefact, "--fp16", "--threads", 1)
    assert code == 0, err
    assert "no --images: using the 4 photographs of the package" in err


@pytest.mark.usefixtures("broken_scale")
def test_a_refused_one_is_not_written_and_the_remedy_works(run, artefact, photographs):
    code, _, err = run(artefact, "--int8", "--images", photographs, "--seed", 2)
    assert code == 1
    assert not artefact.with_name("tiny.int8.onnx").exists()
    assert artefact.with_name("tiny.int8.report.json").exists()
    complaint = err.splitlines()[-1]
    assert complaint.startswith("iqa-calibrate: activity tiny, nr: int8 for onnxruntime: the gate refuses it")
    command = complaint.partition("): iqa-calibrate ")[2]
    assert command == f"{artefact} --images {photographs} --seed 2 --int8 --method minmax"
    code, _, err = run(*command.split())
    assert code == 0, err


@pytest.mark.usefixtures("broken_scale")
def test_no_gate_writes_it_all_the_same(run, artefact, photographs):
    code, out, _ = run(artefact, "--int8", "--images", photographs, "--no-gate")
    assert code == 0
    assert "not judged" in out
    assert read_contract(artefact.with_name("tiny.int8.onnx")).gate == {"skipped": True}


def test_random_weights_are_told(run, untrained_artefact, photographs):
    code, out, _ = run(untrained_artefact, "--fp16", "--images", photographs)
    assert code == 0
    assert "the weights are random" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "nothing to do; give --fp16"),
        (["--fp16", "--int8"], 2, "--fp16 and --int8: choose one"),
        (["--int8", "--method", "magic"], 2, "--method magic"),
        (["--int8", "--target", "tpu"], 2, "--target tpu"),
        (["--fp16", "--keep-float", "hiden"], 2, "no node, layer or block of that name computes in float32"),
        (
            ["--int8-weights", "--keep-float", "hidden"],
            2,
            "--keep-float: with --int8-weights all arithmetic is float32",
        ),
        (["--fp16", "--no-attention"], 2, "--no-attention goes with --int8"),
        (["--bf16"], 2, "ONNX Runtime has no bfloat16"),
        (["--int8", "--keep-float", "decoder"], 2, "no node, layer or block of that name"),
        (["--int8", "--seed", "-1"], 2, "--seed -1: it must be"),
        (["--int8", "--limit", "0"], 2, "--limit"),
        (["--int8", "--images", "absent.png"], 1, "absent.png: no such image"),
        (["--int8", "--output", "x.plan"], 2, "must end in .onnx"),
        (["--int8", "--output", "absent/x.onnx"], 1, "no such folder"),
    ],
)
def test_bad_input_is_one_clear_error(run, artefact, photographs, arguments, code, message):
    given = [] if "--images" in arguments else ["--images", photographs]
    before = sorted(artefact.parent.iterdir())
    actual, out, err = run(artefact, *arguments, *given)
    complaints = [line for line in err.splitlines() if "ranges are surer" not in line]
    assert (actual, out, len(complaints)) == (code, "", 1)
    assert complaints[0].startswith("iqa-calibrate: ")
    assert message in complaints[0]
    assert sorted(artefact.parent.iterdir()) == before


def test_what_is_no_artefact_is_one_clear_error(run, tmp_path):
    code, _, err = run(tmp_path / "absent.onnx", "--fp16")
    assert (code, "cannot read the artefact" in err) == (1, True)
    (tmp_path / "text.onnx").write_text("no graph", encoding="utf-8")
    code, _, err = run(tmp_path / "text.onnx", "--fp16")
    assert (code, "not an ONNX file" in err, "Traceback" in err) == (1, True, False)


@pytest.mark.slow
@pytest.mark.openvino
@pytest.mark.parametrize(("options", "name"), [(["--int8"], "tiny.int8.openvino"), (["--bf16"], "tiny.bf16.openvino")])
def test_for_openvino_the_gate_scores_on_openvino(artefact, photographs, options, name):
    # In a process of its own: its threads and those of other libraries in this one are none of this test's business.
    command = [
        sys.executable,
        "-m",
        "iqa_calibration.commands.calibrate",
        str(artefact),
        *options,
        "--target",
        "openvino",
    ]
    finished = subprocess.run([*command, "--images", str(photographs)], capture_output=True, text=True, check=False)
    if NO_BFLOAT16 in finished.stderr:
        pytest.skip("a processor without bfloat16")
    assert finished.returncode == 0, finished.stderr
    path = Path(artefact.with_name(f"{name}.onnx"))
    contract = read_contract(path)
    assert (contract.target, contract.gate["backend"]) == ("openvino", "openvino")
    report = json.loads(path.with_name(f"{name}.report.json").read_text(encoding="utf-8"))
    assert report["item_ms"]["candidate"] > 0
    assert report["gate"]["candidate_scores"] != report["gate"]["fp32_scores"]
