"""What a network may return, and what it may not do, is said before anything is compared."""

import pytest
import torch
from torch import nn

from iqa_export.exporting import export
from iqa_export.outputs import ExportError
from iqa_export.parity import ParityError
from iqa_export.samples import sample_photographs
from iqa_runtime import Scorer
from small_system import Graph, Network, Returned, Returning, Small, request

TAKEN = {
    "tensor": lambda score, _: score,
    "column": lambda score, _: score[:, None],
    "tuple": lambda score, _: (score,),
    "list": lambda score, _: [score[:, None]],
    "dict": lambda score, _: {"features": score[:, None] * 2, "score": score},
    "changed in place": lambda score, image: score + image.mul_(0.5).mean((1, 2, 3)),
}


@pytest.mark.parametrize("form", TAKEN)
def test_what_a_network_may_return(tmp_path, form):
    report = export(request(tmp_path, system=Returning(TAKEN[form])))
    assert report.passed
    with Scorer(tmp_path / "small.onnx") as scorer:
        assert scorer.score(sample_photographs()[1]).patches == 5


def three_axes(_, image):
    return nn.functional.scaled_dot_product_attention(image[:, 0], image[:, 0], image[:, 0]).mean((1, 2))


def undecided(score, _):
    if score.mean() > 0:
        score = score * 2
    return score


REFUSED = {
    "two values": (lambda score, _: (score, score), "returns 2 values where its graph has 1: score"),
    "another dict": (lambda score, _: {"quality": score}, "dict without 'score'; it has quality"),
    "text": (lambda *_: "good", "returns str"),
    "a number": (lambda *_: (0.5,), "type float"),
    "a distribution": (lambda score, _: score[:, None] * torch.ones(10), "mean of a distribution over 10 grades"),
    "one for the batch": (lambda score, _: score.mean(), "not one for the whole batch"),
    "integers": (lambda score, _: (score * 100).long(), "is int64; return float32"),
    "half precision": (lambda score, _: score.bfloat16(), r"is bfloat16; return it as float32: add \.float\(\)"),
    "double precision": (lambda score, _: score.double(), r"is float64; return it as float32: add \.float\(\)"),
    "no axis for a batch of one": (
        lambda score, _: score[:, None].squeeze(),
        r"is \[\] for a batch of 1.*squeeze\(-1\)",
    ),
    "no batch of one": (lambda score, _: score.squeeze().flip(0)[[0, 1]], r"fails on a batch of one.*squeeze\(-1\)"),
    "an error": (lambda score, _: score.reshape(1), "fails on a batch of 2 crops: RuntimeError"),
    "no operator": (lambda score, image: score + torch.linalg.svdvals(image[:, 0]).mean(1), "_linalg_svd"),
    "three axes": (three_axes, r"scaled_dot_product_attention.* cannot become ONNX: only 4D"),
    "a decision": (undecided, r"decides by the values of its input.*torch\.where"),
    "chance": (
        lambda score, image: score + nn.functional.dropout(image, 0.5).mean((1, 2, 3)),
        "another score each time",
    ),
}
LONG = {"no operator", "three axes", "a decision"}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_network_may_not_do(tmp_path, case):
    returned, message = REFUSED[case]
    with pytest.raises(ExportError, match=message) as caught:
        export(request(tmp_path, system=Returning(returned)))
    assert len(str(caught.value).splitlines()) == 1
    written = [path.name for path in tmp_path.iterdir()]
    assert written == (["small.error.txt"] if case in LONG else [])
    if case in LONG:
        assert "small.error.txt" in str(caught.value)
        assert "Traceback" in (tmp_path / "small.error.txt").read_text(encoding="utf-8")


BUILT = {
    "in half precision": (lambda network: network.half(), r"built in float16 \(convolution\.weight\).*\.float\(\)"),
    "in bfloat16": (lambda network: network.bfloat16(), r"built in bfloat16.*\.float\(\)"),
    "in double precision": (lambda network: network.double(), r"built in float64.*\.float\(\)"),
    "without values": (lambda network: network.to("meta"), r"on the device meta \(convolution\.weight\); .*the CPU"),
}


@pytest.mark.parametrize("case", BUILT)
def test_a_network_is_built_in_float32_on_the_cpu(tmp_path, case):
    change, message = BUILT[case]

    class Built(Small):
        def build(self, variant):
            return change(Network().eval())

    with pytest.raises(ExportError, match=message):
        export(request(tmp_path, system=Built()))
    assert list(tmp_path.iterdir()) == []


def lower_precision(score, image):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return score + (image.flatten(2) @ image.flatten(2).transpose(1, 2)).float().mean((1, 2))


def double_convolution(score, image):
    weight = torch.ones(1, 3, 3, 3, dtype=torch.float64)
    return score + nn.functional.conv2d(image.double(), weight).mean((1, 2, 3)).float()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lower_precision, r"computes in bfloat16.*without torch\.autocast"),
        (double_convolution, r"^small\.onnx: ONNX Runtime cannot load it .*Conv.*with other operators, in float32"),
        (lambda score, _: score.view(2, 1).squeeze(1), r"fails on a batch of one.*int\(a / b\)"),
        (lambda score, _: score[:1].view(1) * score.view(1, -1)[0, :1], r"for a batch of 2, \[2\] is declared"),
        (lambda score, _: score.view(1), r"fails on a batch of 2 crops.*int\(a / b\)"),
        (lambda score, _: score + torch.zeros(2), r"\[2\] for a batch of 1.*right; a size was fixed"),
        (lambda *_: 1 / 0, r"fails on a batch of 2 crops: ZeroDivisionError.*\[2, 3, 32, 32\] here"),
    ],
)
def test_what_is_wrong_has_a_way_out_that_fits(tmp_path, returned, message):
    with pytest.raises(ExportError, match=message) as caught:
        export(request(tmp_path, system=Returning(returned)))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of TorchScript, by PyTorch
def test_a_torchscript_module_is_named(tmp_path):
    class Scripted(Small):
        def as_written(self, network, choice):
            scripted = Graph(network, maps=False, encode=True)
            scripted.network.convolution = torch.jit.script(network.convolution)
            return scripted

        deployed = as_written

    with pytest.raises(ExportError, match=r"network\.convolution is a TorchScript program"):
        export(request(tmp_path, system=Scripted()))


def test_items_that_are_mixed_are_explained(tmp_path):
    with pytest.raises(ParityError, match="does the network use other items of the batch"):
        export(request(tmp_path, system=Returning(lambda score, _: score + score.mean())))


class Published(Small):
    """Only the network as published drops the axis of the batch."""

    def as_written(self, network, choice):
        return Returned(network, lambda score, _: score.squeeze())


def test_a_published_network_without_a_batch_axis(tmp_path):
    with pytest.raises(ExportError, match=r"as published gives \[\] in 'score' for a batch of 1; write squeeze\(-1\)"):
        export(request(tmp_path, system=Published()))


def test_a_batch_that_was_fixed_is_explained(tmp_path):
    def fixed(score, image):
        return score.reshape(int(len(image) / 1))

    with pytest.raises((ParityError, ExportError), match=r"int\(a / b\)"):
        export(request(tmp_path, system=Returning(fixed)))
    assert not (tmp_path / "small.onnx").exists()
