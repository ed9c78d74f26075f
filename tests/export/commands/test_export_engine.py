"""iqa-engine and iqa-export --engine as a user types them; a stand-in for TensorRT where a GPU would be needed."""

import subprocess
import sys

import onnx
import pytest
from onnx import numpy_helper

import fake_cuda
import fake_tensorrt
from iqa_calibration.graphs.finishing import embed_contract
from iqa_export.commands.engine import EngineChoice
from iqa_export.commands.options import EngineBuildOptions
from iqa_export.engine import EngineOptions
from iqa_runtime import read_contract
from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.artefacts.engine_file import load_engine, read_engine_file
from iqa_runtime.contract import FileDigest
from iqa_runtime.errors import UsageError


@pytest.fixture
def gpu(monkeypatch):
    fake_tensorrt.install(monkeypatch)
    return fake_cuda.install(monkeypatch)


@pytest.fixture
def without_tensorrt(monkeypatch):
    for library in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, library, None)


@pytest.mark.usefixtures("gpu")
def test_an_artefact_exported_before(engine, tmp_path):
    edge = find_artefact("edge-nr")
    code, out, err = engine("build", edge, "--output", "edge.plan", "--max-batch", 4, "--builder-level", 1)
    assert (code, out) == (0, "")
    assert "wrote edge.plan and edge.plan.json, for Fake GPU" in err
    described = load_engine(tmp_path / "edge.plan")[0]
    assert described.contract == read_contract(edge)
    assert (described.batch.min, described.batch.opt, described.batch.max, described.level) == (1, 4, 4, 1)


@pytest.mark.usefixtures("gpu")
def test_other_weights_in_an_engine_built_before(engine, tmp_path):
    edge = find_artefact("edge-nr")
    tuned = tmp_path / "tuned.onnx"
    model = onnx.load(edge)
    weight = next(entry for entry in model.graph.initializer if entry.name.endswith("weight"))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + 1, weight.name))
    embed_contract(model, read_contract(edge))
    onnx.save(model, tuned)
    assert engine("build", edge, "--output", "edge.plan", "--refittable", "--max-batch", 4)[0] == 0
    code, out, err = engine("refit", tuned.name, "edge.plan")
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
        (
            ["edge.plan", "--output", "edge.plan"],
            2,
            "edge.plan would overwrite the plan that takes the weights",
        ),
        (["edge.plan", "--output", "x.plan"], 2, "takes no other weights; build it so: iqa-engine build"),
        (["edge.plan", "--output", "x.onnx"], 2, "the name must end in .plan"),
        (["missing.plan", "--output", "x.plan"], 1, "cannot read the description of missing.plan"),
    ],
)
def test_refusals_to_put_weights_in_are_one_line(engine, tmp_path, arguments, code, message):
    edge = find_artefact("edge-nr")
    assert engine("build", edge, "--output", "edge.plan")[0] == 0
    built = load_engine(tmp_path / "edge.plan")
    returned, out, err = engine("refit", edge, *arguments)
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
def test_an_engine_that_is_asked_for_and_cannot_be_built_is_an_error(engine, tmp_path):
    code, out, err = engine("build", find_artefact("edge-nr"), "--output", "edge.plan")
    assert (code, out) == (2, "")
    assert "an engine needs TensorRT" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["edge.onnx"], "edge.onnx: exported already; iqa-engine builds an engine of it: iqa-engine build edge.onnx"),
        (["edge.onnx", "--engine", "--output", "x y.plan"], "iqa-engine build edge.onnx --output 'x y.plan'"),
        (["edge.onnx", "--engine", "--model", "yoto"], "edge.onnx: exported already"),
        (
            ["edge.onnx", "--engine", "--library", "tensorrt_rtx"],
            "iqa-engine build edge.onnx --library tensorrt_rtx",
        ),
        (
            ["edge.onnx", "--engine", "--int8", "--library", "tensorrt_rtx", "--output", "x.plan"],
            "iqa-calibrate edge.onnx --int8 --target tensorrt --output x.onnx && "
            "iqa-engine build x.onnx --output x.plan --library tensorrt_rtx",
        ),
        (
            ["edge.onnx", "--engine", "--fp16"],
            "iqa-calibrate edge.onnx --fp16 --target tensorrt && iqa-engine build edge.fp16.tensorrt.onnx",
        ),
        (
            [
                "edge.onnx",
                "--int8",
                "--target",
                "openvino",
                "--keep-float",
                "a b",
                "--keep-float",
                "c",
                "--no-attention",
            ],
            "iqa-calibrate converts it: iqa-calibrate edge.onnx --int8 --target openvino --keep-float 'a b' "
            "--keep-float c --no-attention",
        ),
        (
            ["edge.onnx", "--fp16", "--seed", "3", "--calibration-images", "photographs", "--output", "y.onnx"],
            "iqa-calibrate edge.onnx --fp16 --seed 3 --images photographs --output y.onnx",
        ),
        (["edge.onnx", "--refit", "x.plan", "--output", "y.plan"], "iqa-engine refit edge.onnx x.plan --output y.plan"),
        (["--model", "yoto", "--refit", "x.plan"], "iqa-engine refit NEW.onnx x.plan"),
        (
            ["edge.onnx", "--engine", "--max-batch", "4"],
            "--max-batch: no option of iqa-export; iqa-engine build",
        ),
        (["--model", "yoto", "--strip"], "--strip: no option of iqa-export; iqa-engine build"),
        (
            ["--model", "yoto", "--sign", "key.pem"],
            "--sign: no option of iqa-export; iqa-engine build",
        ),
        (["x.plan"], "x.plan: an engine already; iqa-engine info"),
        (["yoto"], "yoto: of no use here; --model names what is exported"),
        (["--model", "yoto", "--engine", "--output", "x.onnx"], "--output x.onnx: --engine writes .plan"),
        (["--model", "yoto", "--no-engine", "--output", "x.plan"], "--output x.plan: --no-engine writes .onnx"),
        (["--model", "yoto", "--output", "x.pth"], "--output x.pth: the name must end in .onnx or .plan"),
        (["--model", "yoto", "--no-engine", "--library", "tensorrt"], "--library goes with --engine"),
    ],
)
def test_usage_errors_are_told_before_anything_is_written(run, tmp_path, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_options_become_arguments():
    options = EngineBuildOptions(max_batch=2, workspace=512)
    assert options.arguments()["workspace"] == 512 * 2**20
    assert options.arguments()["max_batch"] == 2


@pytest.mark.parametrize(
    ("given", "batches"),
    [
        ({}, (1, 8, 8)),
        ({"max_batch": 2}, (1, 2, 2)),
        ({"max_batch": 16}, (1, 8, 16)),
        ({"opt_batch": 16}, (1, 16, 16)),
        ({"mark_layers": True}, (1, 1, 1)),
        ({"mark_layers": True, "library": "tensorrt_rtx"}, (1, 1, 1)),
    ],
)
def test_batch_sizes_left_open_follow_those_given(given, batches):
    options = EngineOptions.choose(**given)
    assert (options.min_batch, options.opt_batch, options.max_batch) == batches


@pytest.mark.parametrize("name", ["min_batch", "opt_batch", "max_batch"])
def test_a_batch_of_nothing_is_refused(name):
    with pytest.raises(UsageError, match=r"``min_batch=.*they must be at least 1"):
        EngineOptions.choose(**{name: 0})


@pytest.mark.usefixtures("gpu")
def test_an_engine_says_what_it_is(engine, tmp_path):
    edge = find_artefact("edge-nr")
    assert engine("build", edge, "--output", "my edge.plan", "--max-batch", 4, "--refittable")[0] == 0
    code, out, _ = engine("info", "my edge.plan")
    assert code == 0
    shown = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert shown["artefact"] == "yoto edge nr, fp32"
    assert shown["source.sha256"] == FileDigest.of_file(edge).sha256
    assert (shown["batch.opt"], shown["batch.max"], shown["refittable"]) == ("4", "4", "True")
    assert shown["bytes"] == str((tmp_path / "my edge.plan").stat().st_size)
    assert shown["rebuild"] == load_engine(tmp_path / "my edge.plan")[0].rebuild_command
    (tmp_path / "my edge.plan").write_bytes(b"another plan")
    code, out, err = engine("info", "my edge.plan")
    assert (code, out) == (1, "")
    assert "the plan was changed, cut short or exchanged" in err


def test_only_an_engine_has_something_to_say(engine):
    code, out, err = engine("info", find_artefact("edge-nr"))
    assert (code, out) == (2, "")
    assert "no engine (.plan); iqa-run" in err


def test_the_target_of_another_runtime_asks_for_no_engine():
    assert not EngineChoice.of(None, None, "openvino").builds
    with pytest.raises(UsageError, match="--engine writes"):
        EngineChoice.of(True, find_artefact("edge-nr"), None)


def test_an_artefact_exported_before_needs_no_torch(tmp_path):
    code = (
        "import sys; sys.modules |= dict.fromkeys(['torch', 'onnx', 'tensorrt', 'tensorrt_rtx']); "
        "from iqa_export.commands.engine import main; main()"
    )
    command = [sys.executable, "-c", code, "build", find_artefact("edge-nr"), "--output", tmp_path / "x.plan"]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "TensorRT" in result.stderr
    assert "torch" not in result.stderr
