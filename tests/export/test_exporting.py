"""The export job on small stand-ins for a system: forms of an artefact, files, reports, refusals."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from iqa_export.checkpoints import Checkpoint, CheckpointError, KeyMap, random_checkpoint
from iqa_export.exporting import export
from iqa_export.parity import ParityError
from iqa_export.samples import sample_photographs
from iqa_export.systems import GraphChoice, find_system
from iqa_export.weights import load_checkpoint
from iqa_runtime import Scorer, read_contract
from iqa_runtime.contract import PatchPlan, Resize, ScoreOutput
from iqa_runtime.errors import ArtefactError, FileError, ImageError, UsageError
from small_system import Graph, Network, Returned, Returning, Small, request

SCORE_SHARE = 1e-4
"""Between an artefact scored by the runtime and PyTorch: the promise made to users."""


class Swapped(Small):
    """Its network was trained on BGR, with constants of its own for each channel."""

    mean = (0.2, 0.5, 0.7)
    std = (0.3, 0.5, 0.9)

    def crop_input(self, name, crops=None, *, variant=None):
        return replace(super().crop_input(name, crops, variant=variant), color="BGR")


class Wrong(Small):
    """Its deploy form computes something else."""

    def deployed(self, network, choice):
        network = Network().eval().requires_grad_(False)
        return Graph(network, choice.maps, encode=True)


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


def test_of_an_animation_the_first_frame_is_baked_where_that_is_asked_for(tmp_path):
    frames = [Image.fromarray(pixels[:90, :120]).quantize(200) for pixels in sample_photographs()[:2]]
    animation, still = tmp_path / "moving.gif", tmp_path / "still.png"
    frames[0].save(animation, save_all=True, append_images=frames[1:])
    frames[0].convert("RGB").save(still)
    with pytest.raises(ImageError, match=r"an animated GIF.*``frame=first``"):
        export(request(tmp_path, task="fr", reference_image=animation))
    scores = {}
    for name, file in {"moving": animation, "still": still}.items():
        export(request(tmp_path, task="fr", reference_image=file, frame="first", output=tmp_path / f"{name}.onnx"))
        with Scorer(tmp_path / f"{name}.onnx", threads=1) as scorer:
            scores[name] = scorer.score(sample_photographs()[2][:90, :120]).value
    assert scores["moving"] == scores["still"]


@pytest.mark.parametrize(
    ("options", "says"),
    [({"frame": "first"}, "it is about ``reference_image``"), ({"frame": "last"}, "``frame=last``: give first")],
)
def test_a_frame_of_nothing_is_a_usage_error(tmp_path, options, says):
    with pytest.raises(UsageError, match=says):
        export(request(tmp_path, **options))


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
