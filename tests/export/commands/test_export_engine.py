"""iqa-export --engine as a user types it; the stand-in for TensorRT where a GPU would be needed."""

import subprocess
import sys

import onnx
import pytest
from onnx import numpy_helper

import fake_cuda
import fake_tensorrt
from iqa_calibration.graphs.finishing import embed_contract
from iqa_export.commands import export as cli
from iqa_export.commands.engine_flags import EngineChoice, EngineFlags
from iqa_runtime import read_contract
from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.artefacts.engine_file import load_engine, read_engine_file
from iqa_runtime.contract import FileDigest
from iqa_runtime.errors import UsageError

NO_FLAGS = dict.fromkeys(
    ["min_batch", "opt_batch", "max_batch", "workspace", "builder_level", "timing_cache", "sign", "library"]
) | dict.fromkeys(["version_compatible", "hardware_compatible", "strip", "refittable", "mark_layers"], False)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command in this process and an empty folder; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["iqa-export", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, " ".join(captured.err.split())

    return call


@pytest.fixture
def gpu(monkeypatch):
    fake_tensorrt.install(monkeypatch)
    return fake_cuda.install(monkeypatch)


@pytest.fixture
def without_tensorrt(monkeypatch):
    for library in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, library, None)


@pytest.mark.usefixtures("gpu")
def test_an_artefact_exported_before(run, tmp_path):
    edge = find_artefact("edge-nr")
    code, out, err = run(edge, "--engine", "--output", "edge.plan", "--max-batch", 4, "--builder-level", 1)
    assert (code, out) == (0, "")
    assert "wrote edge.plan and edge.plan.json, for Fake GPU" in err
    described = load_engine(tmp_path / "edge.plan")[0]
    assert described.contract == read_contract(edge)
    assert (described.batch.min, described.batch.opt, described.batch.max, described.level) == (1, 4, 4, 1)


@pytest.mark.usefixtures("gpu")
def test_other_weights_in_an_engine_built_before(run, tmp_path):
    edge = find_artefact("edge-nr")
    tuned = tmp_path / "tuned.onnx"
    model = onnx.load(edge)
    weight = next(entry for entry in model.graph.initializer if entry.name.endswith("weight"))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + 1, weight.name))
    embed_contract(model, read_contract(edge))
    onnx.save(model, tuned)
    assert run(edge, "--engine", "--output", "edge.plan", "--refittable", "--max-batch", 4)[0] == 0
    code, out, err = run(tuned.name, "--refit", "edge.plan")
    assert (code, out) == (0, "")
    assert "wrote tuned.plan and tuned.plan.json: edge.plan with the weights of tuned.onnx" in err
    described = load_engine(tmp_path / "tuned.plan")[0]
    assert described.source == FileDigest.of_file(tuned)
    assert described.batch.max == 4
    weights = [fake_tensorrt.plan_content(tmp_path / name)["weights"] for name in ("edge.plan", "tuned.plan")]
    assert weights[0] != weights[1]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--refit", "edge.plan", "--output", "edge.plan"], 2, "would overwrite the plan that takes the weights"),
        (["--refit", "edge.plan", "--output", "x.plan"], 2, "takes no other weights; build it so: iqa-export"),
        (["--refit", "missing.plan", "--output", "x.plan"], 1, "cannot read the description of missing.plan"),
    ],
)
def test_refusals_to_put_weights_in_are_one_line(run, tmp_path, arguments, code, message):
    edge = find_artefact("edge-nr")
    assert run(edge, "--engine", "--output", "edge.plan")[0] == 0
    built = load_engine(tmp_path / "edge.plan")
    returned, out, err = run(edge, *arguments)
    assert (returned, out) == (code, "")
    assert message in err
    assert load_engine(tmp_path / "edge.plan") == built
    assert not (tmp_path / "x.plan").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("arguments", [["--engine"], [], ["--output", "yoto-edge-nr.plan"]])
def test_an_engine_is_built_where_it_is_asked_for_or_can_be(run, tmp_path, arguments):
    code, _, err = run("--model", "yoto", "--variant", "edge", *arguments)
    assert code == 0, err
    assert read_engine_file(tmp_path / "yoto-edge-nr.plan").source.file == "yoto-edge-nr.onnx"
    assert (tmp_path / "yoto-edge-nr.onnx").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("arguments", [["--no-engine"], ["--output", "edge.onnx"]])
def test_no_engine_where_it_is_not_wanted(run, tmp_path, arguments):
    code, _, err = run("--model", "yoto", "--variant", "edge", *arguments)
    assert code == 0, err
    assert not list(tmp_path.glob("*.plan"))
    assert "no engine" not in err


@pytest.mark.usefixtures("without_tensorrt")
def test_where_no_engine_can_be_built_one_line_says_why(run, tmp_path):
    code, _, err = run("--model", "yoto", "--variant", "edge")
    assert code == 0, err
    assert "no engine was built: an engine needs TensorRT" in err
    assert [path.name for path in tmp_path.glob("*.onnx")] == ["yoto-edge-nr.onnx"]


@pytest.mark.usefixtures("without_tensorrt")
def test_an_engine_that_is_asked_for_and_cannot_be_built_is_an_error(run, tmp_path):
    code, out, err = run(find_artefact("edge-nr"), "--engine", "--output", "edge.plan")
    assert (code, out) == (1, "")
    assert "an engine needs TensorRT" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["edge.onnx"], "--engine builds an engine of it"),
        (["edge.onnx", "--engine", "--model", "yoto"], "give an artefact to build an engine of, or a system"),
        (["edge.onnx", "--engine", "--int8"], "iqa-calibrate converts it"),
        (["edge.onnx", "--engine", "--output", "x.onnx"], "--output x.onnx: --engine writes .plan"),
        (["--model", "yoto", "--no-engine", "--output", "x.plan"], "--output x.plan: --no-engine writes .onnx"),
        (["--model", "yoto", "--no-engine", "--strip"], "--strip goes with --engine"),
        (["--model", "yoto", "--engine", "--min-batch", "9"], "they must be at least 1 and must not decrease"),
        (["--model", "yoto", "--engine", "--version-compatible", "--refittable"], "choose one"),
        (["edge.onnx", "--refit", "x.plan", "--engine"], "choose"),
        (["edge.onnx", "--engine", "--task", "fr", "--crops", "center"], "--task, --crops: of use for an export alone"),
        (["edge.onnx", "--refit", "x.plan", "--opset", "21"], "--opset: of use for an export alone"),
        (["edge.onnx", "--refit", "x.plan", "--no-engine"], "choose"),
        (["edge.onnx", "--refit", "x.plan", "--fp16"], "iqa-calibrate converts it"),
        (["edge.onnx", "--refit", "x.plan", "--max-batch", "4"], "--max-batch with --refit: the engine stays"),
        (["edge.onnx", "--refit", "x.plan", "--strip"], "--strip with --refit"),
        (["edge.onnx", "--refit", "x.plan", "--output", "x.onnx"], "the name of an engine must end in .plan"),
        (["--model", "yoto", "--refit", "x.plan"], "--refit x.plan: MODEL.onnx is missing"),
    ],
)
def test_usage_errors_are_told_before_anything_is_written(run, tmp_path, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_flags_become_options():
    options = EngineFlags(**NO_FLAGS | {"max_batch": 2, "workspace": 512}).options()
    assert (options.min_batch, options.opt_batch, options.max_batch, options.workspace) == (1, 2, 2, 512 * 2**20)
    assert EngineFlags(**NO_FLAGS | {"opt_batch": 16}).options().max_batch == 16


def test_the_target_of_another_runtime_asks_for_no_engine():
    assert not EngineChoice.of(None, None, "openvino").builds
    with pytest.raises(UsageError, match="--engine writes"):
        EngineChoice.of(True, find_artefact("edge-nr"), None)


def test_an_artefact_exported_before_needs_no_torch(tmp_path):
    code = (
        "import sys; sys.modules |= dict.fromkeys(['torch', 'onnx', 'tensorrt', 'tensorrt_rtx']); "
        "from iqa_export.commands.export import main; main()"
    )
    command = [sys.executable, "-c", code, find_artefact("edge-nr"), "--engine", "--output", tmp_path / "x.plan"]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "TensorRT" in result.stderr
    assert "torch" not in result.stderr
