import pytest

from iqa_calibration.jobs.forms import Form
from iqa_runtime.errors import UsageError


@pytest.mark.parametrize(
    ("choice", "suffix", "arguments"),
    [
        ({"precision": "fp16"}, ".fp16.onnx", ["--fp16"]),
        ({"precision": "fp16", "target": "tensorrt"}, ".fp16.tensorrt.onnx", ["--fp16", "--target", "tensorrt"]),
        ({"precision": "int8"}, ".int8.onnx", ["--int8"]),
        (
            {"precision": "int8", "target": "openvino", "method": "entropy", "attention": True, "search": False},
            ".int8.openvino.onnx",
            ["--int8", "--target", "openvino", "--method", "entropy", "--attention", "--no-search"],
        ),
        (
            {"precision": "int8", "keep_float": ("a", "b")},
            ".int8.onnx",
            ["--int8", "--keep-float", "a", "--keep-float", "b"],
        ),
        ({"precision": "int8", "target": "openvino"}, ".int8.openvino.onnx", ["--int8", "--target", "openvino"]),
        (
            {"precision": "int8", "target": "openvino", "attention": False},
            ".int8.openvino.onnx",
            ["--int8", "--target", "openvino", "--no-attention"],
        ),
        (
            {"precision": "int8", "target": "tensorrt", "attention": True},
            ".int8.tensorrt.onnx",
            ["--int8", "--target", "tensorrt", "--attention"],
        ),
        ({"precision": "int8", "attention": False}, ".int8.onnx", ["--int8"]),
        ({"precision": "fp16", "keep_float": ("a",)}, ".fp16.onnx", ["--fp16", "--keep-float", "a"]),
        ({"precision": "int8-weights"}, ".int8-weights.onnx", ["--int8-weights"]),
    ],
)
def test_a_form_names_a_file_and_is_a_command_line(choice, suffix, arguments):
    form = Form.choose(**choice)
    assert form.suffix == suffix
    assert form.arguments == arguments


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"precision": "int8", "target": "tpu"}, "``target=tpu``: choose one of onnxruntime, openvino, tensorrt"),
        ({"precision": "int8", "method": "magic"}, "``method=magic``: choose one of minmax, percentile, entropy, mse"),
        ({"precision": "fp16", "method": "mse"}, "``method`` goes with ``precision=int8``"),
        (
            {"precision": "int8-weights", "attention": True},
            "leave it out with ``precision=int8-weights``",
        ),
        ({"precision": "fp16", "attention": False}, "``attention=False`` goes with ``precision=int8``"),
        ({"precision": "int8-weights", "keep_float": ("a",)}, "arithmetic is float32 already"),
        ({"precision": "bf16", "target": "openvino", "keep_float": ("a",)}, "OpenVINO computes all in bfloat16"),
        ({"precision": "int8", "attention": True}, "choose ``target=openvino`` or ``target=tensorrt``"),
        ({"precision": "bf16"}, "ONNX Runtime has no bfloat16"),
        ({"precision": "fp8"}, "``precision=fp8``: choose one of fp16, bf16, int8, int8-weights"),
    ],
)
def test_what_does_not_fit_is_refused(choice, message):
    with pytest.raises(UsageError, match=message):
        Form.choose(**choice)


@pytest.mark.parametrize(
    ("precision", "target", "open_to_the_gate"),
    [("int8", "openvino", True), ("int8", "tensorrt", False), ("int8", None, False), ("fp16", "openvino", False)],
)
def test_attention_is_up_to_the_gate_where_it_gains(precision, target, open_to_the_gate):
    assert (Form.choose(precision, target=target).attention is None) == open_to_the_gate


def test_alternatives_come_nearest_first(monkeypatch):
    def named(form):
        return [" ".join(alternative.arguments) for alternative in form.alternatives()]

    monkeypatch.setattr("iqa_calibration.jobs.forms.find_spec", lambda _: None)
    methods = ["--int8 --method minmax", "--int8 --method percentile", "--int8 --method entropy"]
    assert named(Form.choose("int8")) == [*methods, "--int8-weights", "--fp16"]
    assert named(Form.choose("int8", search=False)) == ["--int8", *methods, "--int8-weights", "--fp16"]
    assert named(Form.choose("fp16")) == ["--int8-weights"]
    assert named(Form.choose("int8-weights", target="openvino")) == ["--fp16 --target openvino"]
    assert "--bf16 --target tensorrt" in named(Form.choose("int8", target="tensorrt"))
    insisted = named(Form.choose("int8", target="openvino", attention=True, method="entropy"))
    assert insisted[:2] == [
        "--int8 --target openvino --method entropy --no-attention",
        "--int8 --target openvino --method minmax --attention",
    ]
    monkeypatch.setattr("iqa_calibration.jobs.forms.find_spec", lambda _: object())
    assert "--bf16 --target openvino" in named(Form.choose("int8", target="openvino"))
