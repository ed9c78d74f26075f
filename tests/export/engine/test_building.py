"""Building, through a fake `tensorrt` with the names and signatures of the real one."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

import fake_tensorrt
from fake_tensorrt_sources import write_artefact, write_cached
from iqa_export.engine import EngineOptions, build_engine, why_no_engine
from iqa_export.engine.timing_cache import cache_path
from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.artefacts.engine_file import load_engine, read_engine_file
from iqa_runtime.artefacts.files import description_path, encoder_plan
from iqa_runtime.artefacts.host_key import current_host
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.artefacts.signing import signature_path
from iqa_runtime.contract import FileDigest, MapOutput, PatchPlan, ScoreOutput, TensorInput
from iqa_runtime.errors import ArtefactError, BackendError, DependencyError, FileError, UsageError
from signing_keys import write_key_pair

EDGE = Path(find_artefact("edge-nr"))
pytestmark = pytest.mark.usefixtures("gpu", "fake")

DEFAULT = EngineOptions()


@pytest.fixture
def rtx(monkeypatch, gpu, fake):
    del gpu, fake  # which come before it
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    return fake_tensorrt.install(monkeypatch, name="tensorrt_rtx")


@pytest.fixture
def source(tmp_path):
    return write_artefact(tmp_path / "x.onnx")


def settings_of(plan):
    return fake_tensorrt.plan_content(plan)


@pytest.mark.parametrize(
    "changes",
    [
        {"maps": (MapOutput(name="quality_map", rows=2, columns=2),)},
        {"score": ScoreOutput(name="quality", low=0, high=1, higher_is_better=True, bounded=False, scale="")},
        {
            "inputs": (TensorInput(name="image", shape=("batch", 3, 9, 9)),),
            "patch_plan": PatchPlan(kind="five", size=9),
        },
    ],
)
def test_a_graph_that_is_not_what_its_contract_says_is_not_built(tmp_path, changes):
    source = write_artefact(tmp_path / "x.onnx", **changes)
    with pytest.raises(ArtefactError, match=r"x\.onnx: .* of the graph|the graph has outputs"):
        build_engine(source, tmp_path / "x.plan", DEFAULT)
    assert not (tmp_path / "x.plan").exists()


def test_a_plan_and_its_description(source, tmp_path):
    output = tmp_path / "x.plan"
    written = build_engine(source, output, DEFAULT)
    described, content = load_engine(output)
    assert described == written
    assert described.contract == read_contract(source)
    assert described.source == FileDigest(file="x.onnx", sha256=sha256(source.read_bytes()).hexdigest())
    assert described.host == current_host("tensorrt")
    assert str(described.host.gpu) == "Orin (8.7)"
    assert described.portability == "same_gpu"
    assert content == output.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.onnx", "x.plan", "x.plan.json"]


def test_the_network_is_strongly_typed_and_float32_is_no_tf32(source, tmp_path):
    build_engine(source, tmp_path / "x.plan", DEFAULT)
    settings = settings_of(tmp_path / "x.plan")
    assert settings["strongly_typed"]
    assert settings["flags"] == []


def test_every_input_gets_the_batch_sizes(tmp_path):
    source = Path(find_artefact("edge-fr"))
    build_engine(source, tmp_path / "x.plan", EngineOptions(min_batch=2, opt_batch=4, max_batch=16))
    (profile,) = settings_of(tmp_path / "x.plan")["profiles"]
    shapes = [[items, 3, 224, 224] for items in (2, 4, 16)]
    assert profile == {"image": shapes, "reference": shapes}
    batch = read_engine_file(tmp_path / "x.plan").batch
    assert (batch.min, batch.opt, batch.max) == (2, 4, 16)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"version_compatible": True}, {"flags": ["VERSION_COMPATIBLE"]}),
        ({"hardware_compatible": True}, {"hardware": "AMPERE_PLUS"}),
        ({"strip": True}, {"flags": ["REFIT_IDENTICAL", "STRIP_PLAN"]}),
        ({"refittable": True}, {"flags": ["REFIT"]}),
        ({"strip": True, "refittable": True}, {"flags": ["REFIT", "STRIP_PLAN"]}),
        ({"workspace": 2**28}, {"workspace": 2**28}),
        ({"builder_level": 5}, {"level": 5}),
    ],
)
def test_each_option_reaches_the_builder_and_the_description(source, tmp_path, options, expected):
    described = build_engine(source, tmp_path / "x.plan", EngineOptions(**options))
    settings = settings_of(tmp_path / "x.plan")
    assert {name: settings[name] for name in expected} == expected
    assert described.version_compatible == options.get("version_compatible", False)
    assert described.portability == ("ampere_or_later" if "hardware_compatible" in options else "same_gpu")
    assert (described.stripped, described.refittable) == ("strip" in options, "refittable" in options)
    assert described.workspace == options.get("workspace")


@pytest.mark.parametrize("name", ["version_compatible", "hardware_compatible", "strip", "refittable", "timing_cache"])
def test_tensorrt_rtx_refuses_what_it_does_not_do_before_it_builds(rtx, source, tmp_path, name):
    options = EngineOptions(**{name: tmp_path if name == "timing_cache" else True})
    with pytest.raises(UsageError, match=f"``{name}``: TensorRT-RTX has no such thing .*leave it out"):
        build_engine(source, tmp_path / "x.plan", options)
    assert rtx.builds == 0


@pytest.mark.usefixtures("rtx")
def test_tensorrt_rtx_builds_without_a_gpu_for_all_from_ampere_on(source, tmp_path):
    described = build_engine(source, tmp_path / "x.plan", DEFAULT)
    assert (described.host.library, described.host.gpu) == ("tensorrt_rtx", None)
    assert described.portability == "ampere_or_later"


def test_tensorrt_does_not_build_without_a_gpu(monkeypatch, source, tmp_path):
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(BackendError, match=r"builds on the GPU that will run the plan.*tensorrt-rtx"):
        build_engine(source, tmp_path / "x.plan", DEFAULT)


def test_a_driver_that_does_not_start_is_one_clear_error(fake, source, tmp_path):
    fake.faults.add("no GPU")
    with pytest.raises(BackendError, match=r"cannot start here \(CUDA initialization failure.*nvidia-smi"):
        build_engine(source, tmp_path / "x.plan", DEFAULT)


def test_tensorrt_comes_before_tensorrt_rtx(monkeypatch, source, tmp_path):
    fake_tensorrt.install(monkeypatch, name="tensorrt_rtx")
    rtx = sys.modules["tensorrt_rtx"]
    fake_tensorrt.install(monkeypatch)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", rtx)
    assert build_engine(source, tmp_path / "x.plan", DEFAULT).host.library == "tensorrt"
    wanted = EngineOptions(library="tensorrt_rtx")
    assert build_engine(source, tmp_path / "x.plan", wanted).host.library == "tensorrt_rtx"


def test_without_any_library_the_error_names_both(monkeypatch, source, tmp_path):
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DependencyError, match=r"iqa-deploy\[tensorrt\].*tensorrt-rtx"):
        build_engine(source, tmp_path / "x.plan", DEFAULT)
    with pytest.raises(DependencyError, match="TensorRT-RTX is not installed"):
        build_engine(source, tmp_path / "x.plan", EngineOptions(library="tensorrt_rtx"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_batch": 0}, "``min_batch=0``"),
        ({"opt_batch": 16}, "must not decrease"),
        ({"max_batch": 4}, "must not decrease"),
        ({"builder_level": 6}, "``builder_level=6``"),
        ({"builder_level": -1}, "``builder_level=-1``"),
        ({"workspace": 0}, "``workspace=0``"),
        ({"library": "tensorflow"}, "there is tensorrt and tensorrt_rtx"),
        ({"version_compatible": True, "refittable": True}, "cannot change weights"),
        ({"version_compatible": True, "strip": True}, "cannot change weights"),
    ],
)
def test_options_that_fit_nothing_are_refused(fake, source, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        build_engine(source, tmp_path / "x.plan", EngineOptions(**options))
    assert fake.builds == 0


def test_an_operator_that_is_missing_is_named_with_its_node(fake, source, tmp_path):
    fake.unsupported.add("Mul")
    with pytest.raises(BackendError) as caught:
        build_engine(source, tmp_path / "x.plan", DEFAULT)
    message = str(caught.value)
    assert "x.onnx: TensorRT cannot parse the graph: node 'scale' (Mul): No importer registered for op: Mul" in message
    assert "write the model with others" in message
    assert not (tmp_path / "x.plan").exists()


def test_many_complaints_are_cut_short(fake, tmp_path):
    fake.unsupported.add("Conv")
    with pytest.raises(BackendError, match=r"; and \d+ more; ") as caught:
        build_engine(EDGE, tmp_path / "x.plan", DEFAULT)
    assert str(caught.value).count("(Conv)") == 3


def test_a_builder_that_returns_nothing_is_an_error_with_its_reason(fake, source, tmp_path):
    fake.faults.add("build returns None")
    with pytest.raises(BackendError, match=r"cannot build an engine: Error Code 10: .*``builder_level``"):
        build_engine(source, tmp_path / "x.plan", DEFAULT)
    assert list(tmp_path.iterdir()) == [source]


def test_a_fixed_batch_is_refused(tmp_path):
    source = write_artefact(tmp_path / "x.onnx", batch=2)
    with pytest.raises(BackendError, match=r"input 'image' is \[2, 3, 8, 8\]; the batch axis"):
        build_engine(source, tmp_path / "x.plan", DEFAULT)


@pytest.mark.parametrize(
    ("precision", "target", "message"),
    [
        ("int8", "onnxruntime", "--int8 --target tensorrt"),
        ("int8-weights", "onnxruntime", "--int8-weights --target tensorrt"),
        ("bf16", "openvino", "--bf16 --target tensorrt"),
    ],
)
def test_graphs_made_for_others_are_refused(tmp_path, precision, target, message):
    source = write_artefact(tmp_path / "x.onnx", precision=precision, target=target)
    with pytest.raises(UsageError, match=message):
        build_engine(source, tmp_path / "x.plan", DEFAULT)


def test_progress_is_told_of_nested_phases(source, tmp_path):
    seen = []
    build_engine(source, tmp_path / "x.plan", DEFAULT, progress=lambda *step: seen.append(step))
    assert seen[0] == ("Building engine", 0, 2)
    assert [step for step in seen if step[0] == "Timing tactics"][-1] == ("Timing tactics", 3, 3)
    assert seen[-1] == ("Building engine", 2, 2)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_exception_of_progress_ends_the_build_and_comes_out(source, tmp_path, error):
    calls = []

    def stop(*step):
        calls.append(step)
        if len(calls) == 2:
            raise error

    with pytest.raises(error):
        build_engine(source, tmp_path / "x.plan", DEFAULT, progress=stop)
    assert list(tmp_path.iterdir()) == [source]


def test_a_failed_build_leaves_the_plan_that_was_there(fake, source, tmp_path):
    output = tmp_path / "x.plan"
    build_engine(source, output, DEFAULT)
    before = load_engine(output)
    fake.faults.add("build returns None")
    with pytest.raises(BackendError):
        build_engine(source, output, DEFAULT)
    assert load_engine(output) == before


def test_the_timing_cache_grows_from_build_to_build(source, tmp_path):
    options = EngineOptions(timing_cache=tmp_path / "timings")
    path = cache_path(tmp_path / "timings", current_host("tensorrt"))
    assert path.name == "tensorrt-10.3.0.26-orin-87.timing"
    build_engine(source, tmp_path / "x.plan", options)
    assert path.read_bytes() == b"timed "
    build_engine(source, tmp_path / "x.plan", options)
    assert path.read_bytes() == b"timed timed "
    assert list(path.parent.iterdir()) == [path]


def test_timings_that_do_not_fit_are_left_aside(fake, source, tmp_path):
    path = cache_path(tmp_path, current_host("tensorrt"))
    path.write_bytes(b"of another driver ")
    fake.faults.add("timing cache mismatch")
    build_engine(source, tmp_path / "x.plan", EngineOptions(timing_cache=tmp_path))
    assert path.read_bytes() == b"timed "


def test_a_timing_cache_that_cannot_be_written_is_named_before_the_build(fake, source, tmp_path):
    blocking = tmp_path / "file"
    blocking.write_bytes(b"")
    with pytest.raises(FileError, match="timing cache"):
        build_engine(source, tmp_path / "x.plan", EngineOptions(timing_cache=blocking))
    assert fake.builds == 0


def test_a_reference_encoder_is_built_too_and_belongs_to_the_plan(fake, tmp_path):
    output = tmp_path / "y.plan"
    described = build_engine(write_cached(tmp_path / "x.onnx"), output, DEFAULT)
    encoder, content = load_engine(encoder_plan(output))
    assert fake.builds == 2
    assert encoder.contract is None
    assert encoder.source.file == "x.reference.onnx"
    assert described.contract.reference_encoder == encoder.plan
    assert encoder.plan == FileDigest(file="y.reference.plan", sha256=sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("source_name", "output_name", "kind", "message"),
    [
        ("x.onnx", "x.engine", UsageError, r"must end in \.plan"),
        ("x.onnx", "no/folder/x.plan", FileError, "no such folder"),
        ("y.onnx", "x.plan", FileError, "cannot read the artefact"),
        ("text.onnx", "x.plan", ArtefactError, "not an ONNX file"),
    ],
)
@pytest.mark.usefixtures("source")
def test_bad_paths_are_refused(fake, tmp_path, source_name, output_name, kind, message):
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(kind, match=message):
        build_engine(tmp_path / source_name, tmp_path / output_name, DEFAULT)
    assert fake.builds == 0


def test_the_source_is_not_written_over(source, tmp_path):
    (tmp_path / "x.plan").hardlink_to(source)
    with pytest.raises(UsageError, match="would overwrite the source"):
        build_engine(source, tmp_path / "x.plan", DEFAULT)


def test_a_signed_build_is_trusted_and_an_unsigned_one_takes_the_signature_away(source, tmp_path):
    private, public = write_key_pair(tmp_path)
    output = tmp_path / "x.plan"
    build_engine(source, output, EngineOptions(sign=private))
    assert load_engine(output, trust=public)
    build_engine(source, output, DEFAULT)
    assert not signature_path(description_path(output)).exists()


def test_a_key_that_cannot_sign_is_refused_before_the_build(fake, source, tmp_path):
    _, public = write_key_pair(tmp_path)
    with pytest.raises(UsageError, match="not a private key"):
        build_engine(source, tmp_path / "x.plan", EngineOptions(sign=public))
    assert fake.builds == 0


def test_an_engine_is_built_unasked_where_library_and_gpu_are(monkeypatch):
    assert why_no_engine() is None
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    assert why_no_engine() == "TensorRT is installed, but no NVIDIA GPU was found"
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert "an engine needs TensorRT" in why_no_engine()


def test_building_imports_neither_torch_nor_onnx():
    code = "import sys, iqa_export.engine; print({'torch', 'onnx', 'tensorrt', 'cv2'} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "set()"
