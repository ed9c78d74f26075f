"""iqa_calibration.calibrate, as a program calls it."""

import inspect

import cv2
import pytest

import iqa_calibration
from iqa_calibration.commands.options import PrecisionOptions
from iqa_runtime import UsageError, read_contract

pytestmark = pytest.mark.filterwarnings("ignore:.*ranges are surer:UserWarning")


def test_the_options_of_the_command_are_parameters():
    given = set(PrecisionOptions(int8=True).arguments())
    assert given < set(inspect.signature(iqa_calibration.calibrate).parameters)


def test_an_artefact_is_made_and_lies_beside_its_source(artefact, photographs):
    told = []
    report = iqa_calibration.calibrate(
        artefact, precision="int8", images=photographs, threads=1, progress=lambda *step: told.append(step)
    )
    assert report.passed
    assert report.file.file == "tiny.int8.onnx"
    assert read_contract(artefact.with_name("tiny.int8.onnx")).precision == "int8"
    assert {"reading photographs", "scoring the gate set in int8"} <= {stage for stage, _, _ in told}


def test_photographs_may_be_in_memory(artefact, photographs, tmp_path):
    pictures = [cv2.imread(str(path))[..., ::-1] for path in sorted(photographs.iterdir())]
    outputs = []
    for images in (photographs, pictures):
        output = tmp_path / f"{len(outputs)}.onnx"
        iqa_calibration.calibrate(artefact, precision="int8", images=images, threads=1, output=str(output), gate=False)
        outputs.append(read_contract(output).calibration)
    assert outputs[0] == outputs[1]


def test_without_photographs_the_packaged_ones_serve_and_it_is_told(artefact, tmp_path):
    with pytest.warns(UserWarning, match="no ``images``: using the 4 photographs of the package"):
        iqa_calibration.calibrate(artefact, precision="fp16", threads=1, output=tmp_path / "x.onnx")


@pytest.mark.usefixtures("broken_scale")
def test_a_refused_one_is_a_report_and_no_file(artefact, photographs):
    report = iqa_calibration.calibrate(artefact, precision="int8", images=photographs, seed=2, threads=1)
    assert (report.passed, report.file) == (False, None)
    assert not artefact.with_name("tiny.int8.onnx").exists()
    assert report.alternative.command == ("iqa-calibrate", str(artefact), "--int8", "--method", "minmax")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8"}, "``precision=fp8``: choose one of"),
        ({"target": "tpu"}, "``target=tpu``: choose one of"),
        ({"method": "magic"}, "``method=magic``: choose one of"),
        ({"seed": -1}, "``seed=-1``: it must be"),
        ({"limit": 0}, "``limit=0``: it must be a whole number"),
        ({"threads": 0}, "``threads=0``: it must be a whole number"),
        ({"limit": "3"}, "``limit='3'``: it must be a whole number"),
        ({"threads": True}, "``threads=True``: it must be a whole number"),
        ({"threads": 99999}, "``threads=99999``: it must be a whole number, 1 to 1024"),
        ({"seed": "a"}, "``seed``: of type str; give a whole number"),
        ({"keep_float": "head"}, "``keep_float``: give a list of names"),
        ({"method": 3}, "``method``: of type int"),
        ({"gate": "no"}, "``gate``: of type str"),
        ({"artefact": None}, "``artefact=None``"),
        ({"cache": 5}, "``cache``: of type int; give a path"),
        ({"images": 5}, "``images``: one of type int"),
        ({"images": [None]}, "``images``: one of type NoneType"),
        ({"images": []}, "``images``: there is none"),
        ({"output": "x.plan"}, "``output=x.plan``: the name must end in .onnx"),
        ({"precision": "bf16"}, "choose ``target=openvino`` or ``target=tensorrt``"),
    ],
)
def test_errors_speak_of_parameters(artefact, photographs, options, message):
    with pytest.raises(UsageError, match=message) as caught:
        iqa_calibration.calibrate(**{"artefact": artefact, "precision": "int8", "images": photographs} | options)
    assert "--" not in str(caught.value)
