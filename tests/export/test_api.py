"""iqa_export.export and iqa_export.build_engine, as a program calls them."""

import inspect
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import fake_cuda
import fake_tensorrt
import iqa_export
from fake_tensorrt_sources import write_artefact
from iqa_export import exporting
from iqa_export.commands.options import EngineBuildOptions, GraphOptions, NetworkOptions
from iqa_runtime import PatchPlan, UsageError
from iqa_runtime.contract import Resize


@pytest.fixture
def requests(monkeypatch):
    """Stop where the work would begin; return what was then asked for."""
    asked = []
    monkeypatch.setattr(exporting, "export", asked.append)
    return asked


def test_the_package_is_light_until_it_is_used():
    code = (
        "import sys, iqa_export, iqa_calibration; from iqa_export import build_engine, export; "
        "from iqa_calibration import calibrate; "
        "print({'torch', 'onnx', 'cv2', 'onnxruntime', 'rich', 'typer'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_what_it_does_not_have_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'iqa_export' has no attribute 'import'"):
        getattr(iqa_export, "import")


def test_the_options_of_the_commands_are_parameters():
    exported = inspect.signature(iqa_export.export).parameters
    assert {field.name for group in (NetworkOptions, GraphOptions) for field in fields(group)} < set(exported)
    built = inspect.signature(iqa_export.build_engine).parameters
    assert {field.name for field in fields(EngineBuildOptions)} < set(built)


@pytest.mark.filterwarnings("ignore:untrained:UserWarning")
def test_a_request_is_what_was_typed(requests, tmp_path):
    reference = tmp_path / "r.png"
    iqa_export.export(
        "cvrkd", weights="random:1", variant="teacher", crops="random:20:3", reference_image=str(reference), opset=21
    )
    iqa_export.export(
        "yoto",
        weights="random:2",
        output=tmp_path,
        maps=True,
        crops=PatchPlan(kind="center", size=224),
        resize="longer:640:box",
    )
    baked, mapped = requests
    assert (baked.system.name, baked.choice.variant, baked.opset) == ("cvrkd", "teacher", 21)
    assert (baked.patch_plan.count, baked.patch_plan.seed) == (20, 3)
    assert (baked.reference_image, baked.output) == (reference, Path(f"cvrkd-teacher-{baked.choice.task}.onnx"))
    assert (mapped.output, mapped.choice.maps) == (tmp_path / "yoto-swin_t-nr.onnx", True)
    assert (mapped.patch_plan.kind, mapped.cache_reference) == ("center", False)
    assert (baked.resize, mapped.resize) == (None, Resize(to="longer", size=640, filter="box"))


def test_random_weights_are_told(requests, tmp_path):
    with pytest.warns(UserWarning, match="untrained: random"):
        iqa_export.export("yoto", variant="edge", weights="random:0", output=tmp_path / "x.onnx")
    assert not requests[0].checkpoint.trained


def test_the_weights_of_the_package_are_told_where_nobody_named_the_variant(requests, tmp_path):
    with pytest.warns(UserWarning, match="neither ``weights`` nor ``variant``"):
        iqa_export.export("yoto", output=tmp_path / "x.onnx")
    iqa_export.export("yoto", variant="edge", output=tmp_path / "x.onnx")
    assert [request.checkpoint.file for request in requests] == [requests[1].checkpoint.file] * 2


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("brisque", {}, "``model=brisque``: there is yoto, cvrkd"),
        ("yoto", {"task": "video"}, "``task=video``: there is nr, fr, nar"),
        ("yoto", {"variant": "swin_b"}, "``variant=swin_b``: yoto has swin_t"),
        ("yoto", {"variant": "swin_t"}, "``weights`` is missing: .*``variant=edge`` needs none"),
        ("cvrkd", {"variant": "edge", "task": "fr"}, "``task=fr``: the weights .* were trained for nar alone; give"),
        ("yoto", {"variant": "edge", "opset": 19}, "``opset=19``: choose 20 to 23"),
        ("yoto", {"variant": "edge", "crops": "spiral"}, "``crops=spiral``: no patch plan"),
        ("yoto", {"variant": "edge", "resize": "512"}, "``resize=512``: no size"),
        ("yoto", {"variant": "edge", "output": "x.pth"}, "``output=x.pth``: the name must end in .onnx"),
        ("yoto", {"variant": "edge", "distortion_feature": True}, "``distortion_feature``: yoto has no such output"),
        (
            "yoto",
            {"variant": "edge", "cache_reference": True, "reference_image": "r.png"},
            "``cache_reference`` and ``reference_image``",
        ),
    ],
)
def test_errors_speak_of_parameters(model, options, message):
    with pytest.raises(UsageError, match=message) as caught:
        iqa_export.export(model, **options)
    assert "--" not in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("model", 3),
        ("module", 3),
        ("contract", 3),
        ("adopt", "a\0b.onnx"),
        ("weights", 3),
        ("variant", ["edge"]),
        ("task", 3),
        ("output", "a\0b.onnx"),
        ("crops", 5),
        ("maps", "no"),
        ("opset", "20"),
        ("opset", 20.0),
    ],
)
def test_an_export_refuses_arguments_of_another_type_by_name(requests, argument, value):
    with pytest.raises(UsageError, match=f"``{argument}(=.*)?``: "):
        iqa_export.export(**{"model": "yoto", "variant": "edge", argument: value})
    assert requests == []


@pytest.mark.parametrize(
    ("argument", "value"),
    [("artefact", None), ("max_batch", "4"), ("builder_level", 2.5), ("workspace", "1"), ("sign", 5)],
)
def test_a_build_refuses_arguments_of_another_type_by_name(argument, value):
    with pytest.raises(UsageError, match=f"``{argument}(=.*)?``: "):
        iqa_export.build_engine(**{"artefact": "x.onnx", argument: value})


def test_an_engine_gets_the_name_of_its_artefact(monkeypatch, tmp_path):
    fake_tensorrt.install(monkeypatch)
    fake_cuda.install(monkeypatch)
    source = write_artefact(tmp_path / "x.onnx")
    told = []
    described = iqa_export.build_engine(
        str(source), max_batch=2, timing_cache=str(tmp_path / "cache"), progress=lambda *step: told.append(step)
    )
    assert (described.plan.file, described.batch.opt, described.batch.max) == ("x.plan", 2, 2)
    assert (tmp_path / "x.plan").is_file()
    assert list((tmp_path / "cache").iterdir())
    assert told
    with pytest.raises(UsageError, match="an engine already"):
        iqa_export.build_engine(tmp_path / "x.plan")
