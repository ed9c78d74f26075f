import pytest

from iqa_calibration.commands.options import Options, find_photographs, without_form
from iqa_calibration.jobs.forms import Form
from iqa_runtime.errors import FileError, UsageError


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
        ({"precision": "int8", "target": "tpu"}, "--target tpu: choose one of onnxruntime, openvino, tensorrt"),
        ({"precision": "int8", "method": "magic"}, "--method magic: choose one of minmax, percentile, entropy, mse"),
        ({"precision": "fp16", "method": "mse"}, "--method goes with --int8"),
        ({"precision": "int8-weights", "attention": True}, "--attention goes with --int8; leave it out with --int8-w"),
        ({"precision": "fp16", "attention": False}, "--no-attention goes with --int8"),
        ({"precision": "int8-weights", "keep_float": ("a",)}, "arithmetic is float32 already"),
        ({"precision": "bf16", "target": "openvino", "keep_float": ("a",)}, "OpenVINO computes all in bfloat16"),
        ({"precision": "int8", "attention": True}, "choose --target openvino or tensorrt"),
        ({"precision": "bf16"}, "ONNX Runtime has no bfloat16"),
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


def test_options_choose_one_precision_or_none():
    assert Options().form() is None
    assert Options(int8=True, no_search=True).form() == Form.choose("int8", search=False)
    with pytest.raises(UsageError, match="--fp16 and --int8: choose one"):
        Options(fp16=True, int8=True).form()


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
    Options().check_unused()
    with pytest.raises(UsageError, match=f"{option} goes with --fp16"):
        Options(**given).check_unused()


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


def test_photographs_come_from_folders_lists_patterns_and_images_once(photographs, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text(f"{photographs}/texture1.png\n{photographs}/texture0.png\n", encoding="utf-8")
    found = find_photographs([str(listed), f"{photographs}/*[12].png", str(photographs)])
    assert [path.name for path in found] == [f"texture{index}.png" for index in (1, 0, 2, 3, 4, 5)]
    with pytest.raises(FileError, match="cannot read the list of images"):
        find_photographs([str(tmp_path / "absent")])
    with pytest.raises(UsageError, match="the pattern matches nothing"):
        find_photographs([f"{tmp_path}/*.gif"])


def test_without_photographs_the_packaged_ones_serve():
    found = find_photographs([])
    assert len(found) >= 4
    assert all(isinstance(photograph, bytes) for photograph in found)
