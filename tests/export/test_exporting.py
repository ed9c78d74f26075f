"""The export job on small stand-ins for a system: forms of an artefact, files, reports, refusals."""

import json
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from iqa_export.checkpoints import Checkpoint, CheckpointError, KeyMap, random_checkpoint
from iqa_export.exporting import Request, export
from iqa_export.outputs import ExportError
from iqa_export.parity import ParityError
from iqa_export.samples import sample_photographs
from iqa_export.systems import GraphChoice, System, find_system
from iqa_export.weights import load_checkpoint
from iqa_runtime import Scorer, read_contract
from iqa_runtime.contract import MapOutput, PatchPlan, Resize, ScoreOutput
from iqa_runtime.errors import ArtefactError, FileError, UsageError

SCORE_SHARE = 1e-4
"""Between an artefact scored by the runtime and PyTorch: the promise made to users."""


class Network(nn.Module):
    """Mean of gated differences of a convolution's maps: small, and sensitive to all it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, 2, 1)

    def features(self, image):
        return torch.tanh(self.convolution(image))

    def forward(self, image, features):
        difference = self.features(image) - 0.5 * features
        return difference.square().mean((1, 2, 3)), difference.square().mean(1)


class Graph(nn.Module):
    def __init__(self, network, maps, encode):
        super().__init__()
        self.network, self.maps, self.encode = network, maps, encode

    def forward(self, image, other=None):
        features = self.network.features(other if other is not None else image) if self.encode else other
        score, quality = self.network(image, features)
        return (score, quality) if self.maps else (score,)


class Baked(nn.Module):
    def __init__(self, network, features):
        super().__init__()
        self.network = network
        self.register_buffer("features", features)

    def forward(self, image):
        count = len(self.features)
        features = self.features.expand(image.shape[0], *self.features.shape).flatten(0, 1)
        return (self.network(image.flatten(0, 1), features)[0].reshape(-1, count).mean(1),)


class Features(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        return self.network.features(image)


class Small(System):
    name = "small"
    title = "Small"
    paper = code = licence = weights_source = "none"
    faithful = "a stand-in"
    tasks: ClassVar = {"plain": ("nr", "fr")}
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)
    crop = 32
    patch_plan = PatchPlan(kind="five", size=32)
    score = ScoreOutput(low=0, high=1, higher_is_better=True, bounded=False, scale="none")
    map_outputs = (MapOutput(name="quality_map", rows=16, columns=16),)
    feature_shape = (4, 16, 16)

    def build(self, variant):
        return Network().eval()

    def key_map(self, variant):
        return KeyMap()

    def variant_of(self, keys):
        return None

    def as_written(self, network, choice):
        return Graph(network, choice.maps, encode=True)

    def deployed(self, network, choice):
        return Graph(network, choice.maps, encode=True)

    def reference_split(self, network, choice):
        return Features(network), Graph(network, choice.maps, encode=False)

    def baked(self, network, choice, features):
        return Baked(network, features)

    def baked_crops(self, task, plan_count):
        return plan_count


class Swapped(Small):
    """Its network was trained on BGR, with constants of its own for each channel."""

    mean = (0.2, 0.5, 0.7)
    std = (0.3, 0.5, 0.9)

    def crop_input(self, name, crops=None):
        return replace(super().crop_input(name, crops), color="BGR")


class Wrong(Small):
    """Its deploy form computes something else."""

    def deployed(self, network, choice):
        network = Network().eval().requires_grad_(False)
        return Graph(network, choice.maps, encode=True)


def request(tmp_path, system=None, task="nr", maps=False, **changes) -> Request:
    system = system or Small()
    fields = {
        "system": system,
        "choice": GraphChoice(variant="plain", task=task, maps=maps),
        "checkpoint": random_checkpoint(Network(), 0, KeyMap()),
        "output": tmp_path / "small.onnx",
        "patch_plan": system.patch_plan,
    }
    return Request(**(fields | changes))


@pytest.fixture
def photograph(tmp_path):
    import cv2

    path = tmp_path / "reference.png"
    cv2.imwrite(str(path), sample_photographs()[0][:90, :120, ::-1])
    return path


def pytorch_score(image, reference=None):
    """The score of the network as written over the five crops, in PyTorch alone."""
    network = Network().eval()
    network.load_state_dict(random_checkpoint(network, 0, KeyMap()).entries)
    height, width = image.shape[:2]
    tops = [0, 0, height - 32, height - 32, height // 2 - 16]
    lefts = [0, width - 32, 0, width - 32, width // 2 - 16]

    def crops(pixels):
        cut = [pixels[top : top + 32, left : left + 32] for top, left in zip(tops, lefts, strict=True)]
        return torch.from_numpy(np.stack(cut).transpose(0, 3, 1, 2).astype(np.float32) / 255 * 2 - 1)

    with torch.no_grad():
        return float(
            Graph(network, False, True)(crops(image), crops(image if reference is None else reference))[0].mean()
        )


def test_artefact_report_and_nothing_else(tmp_path):
    report = export(request(tmp_path, maps=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.onnx", "small.report.json"]
    written = json.loads((tmp_path / "small.report.json").read_text(encoding="utf-8"))
    assert written["passed"] is True
    assert [row["output"] for row in written["parity"]] == ["score", "quality_map"] * 4
    assert [row["samples"] for row in written["parity"]] == ["photographs", "photographs", "plain", "plain"] * 2
    assert [row["batch"] for row in written["parity"]] == [1] * 4 + [4] * 4
    low, high = written["scores"]
    assert 0 < low < high < 1
    contract = read_contract(tmp_path / "small.onnx")
    assert contract == report.contract
    assert contract.weights.trained is False
    assert contract.weights.file == "random:0"
    assert written["graphs"][0]["bytes"] == (tmp_path / "small.onnx").stat().st_size


def test_scores_are_pytorchs(tmp_path):
    export(request(tmp_path))
    image = sample_photographs()[1]
    with Scorer(tmp_path / "small.onnx") as scorer:
        result = scorer.score(image)
    assert result.value == pytest.approx(pytorch_score(image), rel=SCORE_SHARE)
    assert result.patches == 5
    assert "untrained" in str(result)


def scores_of_every_form(tmp_path, image, photograph, **changes):
    """Export with the reference as an input, cached and baked; yield the form, its scorer and what it gives."""
    forms = {"inputs": {}, "cached": {"cache_reference": True}, "baked": {"reference_image": photograph}}
    for form, choices in forms.items():
        output = tmp_path / f"{form}.onnx"
        export(request(tmp_path, task="fr", output=output, **choices, **changes))
        with Scorer(output) as scorer:
            result = scorer.score(image) if form == "baked" else scorer.score(image, photograph)
        yield form, scorer, result.value


def test_every_form_with_a_reference_scores_alike(tmp_path, photograph):
    import cv2

    reference = cv2.imread(str(photograph))[..., ::-1]
    image = np.ascontiguousarray(np.clip(reference.astype(int) + 20, 0, 255).astype(np.uint8))
    expected = pytorch_score(image, reference)
    for form, _, value in scores_of_every_form(tmp_path, image, photograph):
        assert value == pytest.approx(expected, rel=SCORE_SHARE), form
    assert (tmp_path / "cached.reference.onnx").exists()
    baked = read_contract(tmp_path / "baked.onnx")
    assert baked.baked_reference.file == "reference.png"
    assert (baked.baked_reference.width, baked.baked_reference.height) == (120, 90)
    assert baked.inputs[0].shape == ("batch", 5, 3, 32, 32)


def test_every_form_resizes_alike(tmp_path, photograph):
    reference = np.asarray(Image.open(photograph))
    image = np.ascontiguousarray(np.clip(reference.astype(int) + 20, 0, 255).astype(np.uint8))
    small = [
        np.asarray(Image.fromarray(pixels).resize((60, 45), Image.Resampling.BOX)) for pixels in (image, reference)
    ]
    expected = pytorch_score(*small)
    resize = Resize(to="shorter", size=45, filter="box", when="shrink")
    for form, scorer, value in scores_of_every_form(tmp_path, image, photograph, resize=resize):
        assert value == pytest.approx(expected, rel=SCORE_SHARE), form
        assert {tensor.resize for tensor in scorer.contract.inputs if tensor.layout != "features"} == {resize}
    baked = read_contract(tmp_path / "baked.onnx").baked_reference
    assert (baked.width, baked.height) == (120, 90), "what is compared is the picture's own size"


def test_a_baked_reference_has_the_channel_order_of_the_network(tmp_path, photograph):
    image = sample_photographs()[1][:90, :120]
    forms = {"inputs": {}, "baked": {"reference_image": photograph}}
    scores = {}
    for form, changes in forms.items():
        output = tmp_path / f"{form}.onnx"
        export(request(tmp_path, system=Swapped(), task="fr", output=output, **changes))
        with Scorer(output) as scorer:
            scores[form] = scorer.score(image, *([photograph] if form == "inputs" else [])).value
    assert scores["baked"] == pytest.approx(scores["inputs"], rel=SCORE_SHARE)


def test_the_contract_counts_the_work_of_the_graph_that_ships(tmp_path, photograph):
    one = 4 * 16 * 16 * 3 * 3 * 3 / 1e9  # maps x positions x channels x kernel, of one crop
    works = {"inputs": ({}, 2), "cached": ({"cache_reference": True}, 1), "baked": ({"reference_image": photograph}, 5)}
    for form, (changes, convolutions) in works.items():
        output = tmp_path / f"{form}.onnx"
        report = export(request(tmp_path, task="fr", output=output, **changes))
        assert read_contract(output).gmac == report.graphs[0].gmac == pytest.approx(convolutions * one), form


def test_baked_reference_of_a_single_crop(tmp_path, photograph):
    plan = PatchPlan(kind="center", size=32)
    report = export(request(tmp_path, task="fr", reference_image=photograph, patch_plan=plan))
    assert report.contract.inputs[0].shape == ("batch", 1, 3, 32, 32)


def test_failed_parity_leaves_the_report_alone(tmp_path):
    with pytest.raises(ParityError, match=r"small\.onnx: the graph differs.*score \(batch 1\)"):
        export(request(tmp_path, system=Wrong()))
    assert [path.name for path in tmp_path.iterdir()] == ["small.report.json"]
    assert json.loads((tmp_path / "small.report.json").read_text(encoding="utf-8"))["passed"] is False


def test_failed_parity_keeps_an_older_artefact(tmp_path):
    (tmp_path / "small.onnx").write_bytes(b"older")
    with pytest.raises(ParityError):
        export(request(tmp_path, system=Wrong()))
    assert (tmp_path / "small.onnx").read_bytes() == b"older"


def test_dead_network_fails(tmp_path):
    checkpoint = random_checkpoint(Network(), 0, KeyMap())
    dead = Checkpoint({key: torch.zeros_like(value) for key, value in checkpoint.entries.items()}, "dead.pth", "")
    with pytest.raises(ParityError):
        export(request(tmp_path, checkpoint=dead))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"choice": GraphChoice(variant="other", task="nr")}, UsageError, "variant=other"),
        ({"choice": GraphChoice(variant="plain", task="nar")}, UsageError, "task=nar"),
        ({"choice": GraphChoice(variant="plain", task="nr", segment="joint")}, UsageError, "``segment``"),
        ({"choice": GraphChoice(variant="plain", task="nr", extras=("restored",))}, UsageError, "``restored``"),
        ({"choice": GraphChoice(variant="plain", task="fr", segment="joint")}, UsageError, "no segment embedding"),
        ({"output": "small.plan"}, UsageError, r"must end in \.onnx"),
        ({"output": "absent/small.onnx"}, FileError, "no such folder"),
    ],
)
def test_refusals(tmp_path, changes, error, message):
    if "output" in changes:
        changes = {"output": tmp_path / changes["output"]}
    with pytest.raises(error, match=message):
        export(request(tmp_path, **changes))
    assert list(tmp_path.iterdir()) == []


class Returning(Small):
    """A network of one output that a test chooses."""

    def __init__(self, returned, **declared):
        self._returned = returned
        for name, value in declared.items():
            setattr(self, name, value)

    def as_written(self, network, choice):
        return Returned(network, self._returned)

    deployed = as_written


class Returned(nn.Module):
    def __init__(self, network, returned):
        super().__init__()
        self.network, self.returned = network, returned

    def forward(self, image):
        return self.returned(Graph(self.network, maps=False, encode=True)(image)[0], image)


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


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TorchScript, by PyTorch
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


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"score": ScoreOutput(low=5, high=1, higher_is_better=True, bounded=True, scale="")}, "not a range"),
        ({"score": ScoreOutput(low=0, high=np.inf, higher_is_better=True, bounded=False, scale="")}, "not a range"),
        ({"patch_plan": PatchPlan(kind="five", size=64)}, r"patch_plan\.size.*crops of 64 x 64"),
        ({"std": (0.5, 0.0, 0.5)}, "not within"),
    ],
)
def test_declarations_that_make_no_contract(tmp_path, declared, message):
    with pytest.raises(UsageError, match=message):
        export(request(tmp_path, system=Returning(lambda score, _: score, **declared)))
    assert list(tmp_path.iterdir()) == []


def test_a_score_beyond_its_bounds(tmp_path):
    bounded = ScoreOutput(low=0, high=1, higher_is_better=True, bounded=True, scale="")
    with pytest.raises(ArtefactError, match=r"bounded to 0 to 1, and photographs and plain crops score .* to .*;"):
        export(request(tmp_path, system=Returning(lambda score, _: 50 + score, score=bounded)))
    assert [path.name for path in tmp_path.iterdir()] == ["small.report.json"]


def test_a_flat_crop_beyond_the_bounds(tmp_path):
    bounded = ScoreOutput(low=0, high=1, higher_is_better=True, bounded=True, scale="")

    def leaps(score, image):
        return torch.sigmoid(score) + 3 * (image.amax((1, 2, 3)) == image.amin((1, 2, 3)))

    with pytest.raises(ArtefactError, match=r"score 0\.\d* to 3\.\d*; correct"):
        export(request(tmp_path, system=Returning(leaps, score=bounded)))


def test_networks_that_overflow_or_say_nothing_are_named(tmp_path):
    with pytest.raises(ParityError, match="itself computes NaN or infinity"):
        export(request(tmp_path, system=Returning(lambda score, _: score * torch.inf - torch.inf)))
    with pytest.raises(ParityError, match=r"computes 1 in score whatever the picture"):
        export(request(tmp_path, system=Returning(lambda score, _: torch.sigmoid(score + 100))))


class Forgetful(Returning):
    """Its deploy form lacks the constant that keeps flat crops from 0 / 0."""

    def __init__(self, epsilon):
        super().__init__(lambda score, image: score + contrast(image, 1e-8))
        self._epsilon = epsilon

    def deployed(self, network, choice):
        return Returned(network, lambda score, image: score + contrast(image, self._epsilon))


def contrast(image, epsilon):
    mean = image.mean((1, 2, 3))
    spread = image.amax((1, 2, 3)) - image.amin((1, 2, 3))
    return mean * spread / (spread + epsilon)


def test_parity_feels_a_missing_constant(tmp_path):
    with pytest.raises(ParityError, match="black, white, flat"):
        export(request(tmp_path, system=Forgetful(0.0)))
    assert export(request(tmp_path, system=Forgetful(1e-8))).passed


def test_what_float32_cannot_tell_on_flat_crops_is_no_fault(tmp_path):
    """Of a flat crop, local contrast normalisation divides rounding by rounding."""

    def normalised(score, image):
        mean = image.mean((2, 3), keepdim=True)
        deviation = ((image - mean) ** 2).mean((2, 3), keepdim=True).sqrt()
        return score + ((image - mean) / (deviation + 1e-8)).abs().mean((1, 2, 3))

    assert export(request(tmp_path, system=Returning(normalised))).passed


def test_what_was_taken_of_a_checkpoint_is_in_contract_and_report(tmp_path):
    from io import StringIO

    from rich.console import Console

    state = {f"module.{name}": value for name, value in Network().state_dict().items()}
    averaged = {name: value + 1 for name, value in state.items()}
    content = {"params": state | {"criterion.weight": torch.ones(1)}, "params_ema": averaged}
    torch.save(content, tmp_path / "small.pth")
    system = Small()
    with pytest.raises(CheckpointError, match="weights_key"):
        load_checkpoint(system, str(tmp_path / "small.pth"), None)
    checkpoint = load_checkpoint(system, str(tmp_path / "small.pth"), None, weights_key="params")
    report = export(request(tmp_path, system=system, checkpoint=checkpoint))
    assert read_contract(tmp_path / "small.onnx").weights.entry == "params.module"
    console = Console(file=StringIO(), width=200)
    report.show(console)
    assert "small.pth, entry params.module; ignored beside it: criterion.weight" in console.file.getvalue()


def test_work_that_cannot_be_counted_stops_nothing(tmp_path):
    def ordered(score, image):
        return score + image.flatten(1).sort(1)[0][:, -8:] @ torch.ones(8)

    report = export(request(tmp_path, system=Returning(ordered)))
    assert report.graphs[0].gmac is None
    assert read_contract(tmp_path / "small.onnx").gmac is None


def test_plan_must_make_whole_items(tmp_path):
    cvrkd = find_system("cvrkd")
    choice = GraphChoice(variant="student", task="nar")
    plan = PatchPlan(kind="five", size=224)
    with pytest.raises(UsageError, match="5 crops, cvrkd takes 10 at a time"):
        export(request(tmp_path, system=cvrkd, choice=choice, patch_plan=plan))


def test_output_that_cannot_be_written(tmp_path):
    (tmp_path / "small.onnx").mkdir()
    with pytest.raises(FileError, match=r"small\.onnx: cannot write there"):
        export(request(tmp_path))


def test_cache_and_bake_exclude_each_other(tmp_path, photograph):
    with pytest.raises(UsageError, match="choose"):
        export(request(tmp_path, task="fr", cache_reference=True, reference_image=photograph))
