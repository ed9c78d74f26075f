"""What iqa-export refuses about engines before it exports anything, and which library builds."""

import re
import sys
from functools import partial

import pytest

import fake_cuda
import fake_tensorrt
from fake_tensorrt_sources import write_artefact
from iqa_calibration.jobs.forms import Form
from iqa_export.commands import export as cli
from iqa_export.commands.engine import EngineChoice
from iqa_export.engine import EngineOptions, build_engine, building, why_no_engine
from iqa_runtime.artefacts.engine_file import read_engine_file
from iqa_runtime.errors import BackendError, DependencyError, UsageError

EDGE = ["--model", "yoto", "--variant", "edge"]
BEGUN = 3
"""Exit code of a command that begins to export, which these tests don't wait for."""


@pytest.fixture
def without_gpu(monkeypatch):
    """Hide CUDA, as on a machine without a GPU."""
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)


@pytest.fixture
def rtx(monkeypatch, without_gpu):
    del without_gpu
    return fake_tensorrt.install(monkeypatch, name="tensorrt_rtx")


@pytest.fixture
def both(monkeypatch):
    """Install both libraries, on a machine with a GPU."""
    fake_tensorrt.install(monkeypatch, name="tensorrt_rtx")
    library = sys.modules["tensorrt_rtx"]
    fake_tensorrt.install(monkeypatch)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", library)
    fake_cuda.install(monkeypatch)


@pytest.fixture
def begun(monkeypatch):
    """Stop where the export would begin; return the forms that were then asked for, None for float32."""
    forms = []

    def stop(network, graph, precision=None, form=None, *rest):
        del network, graph, precision, rest
        forms.append(form if isinstance(form, Form) else None)
        raise SystemExit(BEGUN)

    monkeypatch.setattr(cli, "_export", stop)
    monkeypatch.setattr(cli, "_export_reduced", stop)
    return forms


@pytest.fixture
def build(engine):
    """Run iqa-engine build."""
    return partial(engine, "build")


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["--engine", "--int8", "--target", "onnxruntime"],
            2,
            r"--int8 --target onnxruntime with an engine: .*tensorrt",
        ),
        (
            ["--output", "x.plan", "--int8-weights", "--target", "onnxruntime"],
            2,
            r"--int8-weights --target onnxruntime",
        ),
        (["--engine", "--bf16", "--target", "openvino"], 2, r"--bf16 --target openvino with an engine"),
        (["--engine", "--output", "no/x.plan"], 1, r"no: no such folder"),
        (["--engine", "--library", "tensorrt"], 2, r"TensorRT is not installed; .*--library tensorrt_rtx"),
        (["--engine", "--library", "tensorflow"], 2, r"--library tensorflow: there is tensorrt and tensorrt_rtx"),
        (["--library", "tensorflow"], 2, r"--library tensorflow: there is tensorrt and tensorrt_rtx"),
        (["--library", "tensorrt_rtx", "--no-engine"], 2, r"--library goes with --engine"),
    ],
)
def test_what_is_known_at_once_is_told_before_the_export(run, begun, tmp_path, arguments, code, message):
    returned, _, err = run(*EDGE, *arguments)
    assert re.search(message, err)
    assert (returned, begun) == (code, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--strip"], 2, r"--strip: TensorRT-RTX has no such thing here .*which is not offered"),
        (["--sign", "no.pem"], 1, r"no\.pem: cannot read the key"),
        (["--output", "no/x.plan"], 1, r"no: no such folder; create it or choose another --output"),
        (["--output", "x.onnx"], 2, r"--output x\.onnx: the name must end in \.plan"),
        (["--library", "tensorrt"], 2, r"TensorRT is not installed; .*--library tensorrt_rtx"),
        (["--library", "tensorflow"], 2, r"--library tensorflow: there is tensorrt and tensorrt_rtx"),
        (["--min-batch", "9"], 2, r"--min-batch 9, --opt-batch 8, --max-batch 8: they must be at least 1"),
        (["--version-compatible", "--refittable"], 2, r"--version-compatible with --strip or --refittable"),
        (["--mark-layers", "--max-batch", "2"], 2, r"--mark-layers with --max-batch 2: .*one item at a time"),
    ],
)
def test_what_no_build_can_do_is_told_before_it(build, tmp_path, arguments, code, message):
    pytest.importorskip("cryptography")
    write_artefact(tmp_path / "x.onnx")
    returned, _, err = build("x.onnx", *arguments)
    assert re.search(message, err)
    assert returned == code
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]


def test_an_engine_that_nothing_can_build_is_refused_before_the_export(run, begun, monkeypatch):
    for library in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, library, None)
    code, _, err = run(*EDGE, "--engine")
    assert "an engine needs TensorRT" in err
    assert (code, begun) == (2, [])


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "int8-weights"])
def test_what_an_engine_is_built_of_is_made_for_tensorrt(run, begun, precision):
    assert run(*EDGE, f"--{precision}", "--engine")[0] == BEGUN
    (form,) = begun
    assert (form.precision, form.target) == (precision, "tensorrt")


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (EDGE, "yoto.onnx"),
        ([*EDGE, "--int8"], "yoto.onnx"),
        (["--model", "cvrkd", "--weights", "random:0", "--cache-reference"], "yoto.reference.onnx"),
    ],
)
def test_a_file_that_nobody_named_is_not_replaced(run, begun, tmp_path, arguments, kept):
    (tmp_path / kept).write_bytes(b"mine")
    code, _, err = run(*arguments, "--output", "yoto.plan")
    assert f"--output yoto.plan: the export would replace {kept}" in err
    assert "iqa-engine build yoto.onnx --output yoto.plan" in err
    assert (code, begun) == (2, [])
    assert (tmp_path / kept).read_bytes() == b"mine"


@pytest.mark.usefixtures("rtx", "begun")
def test_a_file_of_the_default_name_is_replaced_as_without_an_engine(run, tmp_path):
    (tmp_path / "yoto-edge-nr.onnx").touch()
    assert run(*EDGE, "--engine")[0] == BEGUN


@pytest.mark.usefixtures("rtx")
def test_a_plan_is_no_artefact_to_build_from(engine, build):
    code, _, err = build("x.plan")
    assert code == 2
    assert "x.plan: an engine already; give the ONNX artefact" in err
    code, _, err = engine("refit", "x.plan", "y.plan")
    assert code == 2
    assert "x.plan: an engine; give the ONNX artefact first" in err


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize("library", ["tensorrt", "tensorrt_rtx"])
def test_the_command_chooses_the_library(build, tmp_path, library):
    write_artefact(tmp_path / "x.onnx")
    code, _, err = build("x.onnx", "--library", library)
    assert code == 0, err
    assert read_engine_file(tmp_path / "x.plan").host.library == library


@pytest.mark.usefixtures("both", "without_gpu")
def test_without_a_gpu_the_library_that_needs_none_is_named(build, tmp_path):
    write_artefact(tmp_path / "x.onnx")
    code, _, err = build("x.onnx")
    assert code == 1
    assert re.search(r"x\.plan: TensorRT builds on the GPU .*build without one: --library tensorrt_rtx", err)
    assert why_no_engine() == (
        "TensorRT is installed, but no NVIDIA GPU was found; ``engine`` with ``library=tensorrt_rtx`` builds for RTX "
        "GPUs all the same"
    )


@pytest.mark.usefixtures("both")
def test_a_broken_library_does_not_hide_the_other(monkeypatch, tmp_path):
    monkeypatch.delattr(sys.modules["tensorrt"], "Runtime")
    source = write_artefact(tmp_path / "x.onnx")
    remedy = "or build with TensorRT-RTX: ``library=tensorrt_rtx``"
    with pytest.raises(DependencyError, match=f"installed in part only; .*; {remedy}"):
        build_engine(source, tmp_path / "x.plan", EngineOptions())
    reason = why_no_engine()
    assert reason is not None
    assert reason.endswith(remedy)
    assert EngineChoice.of(None, None, None, "tensorrt_rtx").builds
    assert build_engine(source, tmp_path / "x.plan", EngineOptions(library="tensorrt_rtx")).host.gpu is not None


@pytest.mark.usefixtures("rtx")
def test_tensorrt_rtx_without_a_gpu_builds_when_it_is_asked_to():
    assert why_no_engine() == (
        "TensorRT-RTX is installed, but no NVIDIA GPU was found; ``engine`` builds for RTX GPUs all the same"
    )


@pytest.mark.parametrize(
    ("workspace", "remedy"),
    [
        (None, "set ``workspace`` to what the GPU has free, or lower ``max_batch``"),
        (2**20, "raise ``workspace``, or"),
    ],
)
def test_what_to_do_about_too_little_memory(monkeypatch, rtx, tmp_path, workspace, remedy):
    rtx.faults.add("build returns None")
    monkeypatch.setattr(building, "last_error", lambda _: "Error Code 10: out of Memory")
    with pytest.raises(BackendError, match=remedy):
        build_engine(write_artefact(tmp_path / "x.onnx"), tmp_path / "x.plan", EngineOptions(workspace=workspace))


@pytest.mark.usefixtures("rtx")
def test_an_unknown_library_is_refused_in_python_too(tmp_path):
    with pytest.raises(UsageError, match="there is tensorrt and tensorrt_rtx"):
        build_engine(write_artefact(tmp_path / "x.onnx"), tmp_path / "x.plan", EngineOptions(library="tensorflow"))


@pytest.mark.slow
def test_8_bit_weights_become_an_engine_of_tensorrt_rtx_itself(run, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    code, _, err = run(*EDGE, "--int8-weights", "--no-gate", "--output", "x.plan", "--library", "tensorrt_rtx")
    assert code == 0, err
    described = read_engine_file(tmp_path / "x.plan")
    assert (described.contract.precision, described.contract.target) == ("int8-weights", "tensorrt")
