"""The options of precision, as the commands get them."""

import pytest

from iqa_calibration.commands.options import PrecisionOptions, without_form
from iqa_calibration.jobs.forms import Form
from iqa_runtime.errors import UsageError


def test_options_choose_one_precision_or_none():
    assert PrecisionOptions().form() is None
    assert PrecisionOptions(int8=True, no_search=True).form() == Form.choose("int8", search=False)
    with pytest.raises(UsageError, match="--fp16 and --int8: choose one"):
        PrecisionOptions(fp16=True, int8=True).form()


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"seed": 0}, "--seed"),
        ({"keep_float": ("x",)}, "--keep-float"),
        ({"no_gate": True}, "--no-gate"),
        ({"attention": False}, "--no-attention"),
    ],
)
def test_options_without_a_precision_are_refused(given, option):
    PrecisionOptions().check_unused()
    with pytest.raises(UsageError, match=f"{option} goes with --fp16"):
        PrecisionOptions(**given).check_unused()


def test_the_form_is_taken_out_of_a_command_line():
    given = [
        "m.onnx",
        "--int8",
        "--target",
        "openvino",
        "--method=mse",
        "--images",
        "a b",
        "--no-search",
        "--no-attention",
        "--seed",
        "3",
    ]
    assert without_form(given) == ["m.onnx", "--images", "a b", "--seed", "3"]
