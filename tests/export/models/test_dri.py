"""DRI-IQA as specified: sizes, shapes, which parts the score and the gradients reach."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from iqa_export.checkpoints import Checkpoint, CheckpointError, KeyMap, load_into, random_checkpoint
from iqa_export.deploy.dri import deploy
from iqa_export.exporting import Request, export
from iqa_export.models.dri import Dri, weighted_mean
from iqa_export.models.dri_config import DriConfig
from iqa_export.models.dri_extractor import DualRepresentationExtractor, Projector
from iqa_export.parity import TOLERANCE
from iqa_export.samples import crop_items, sample_photographs
from iqa_export.systems import GraphChoice, find_system
from iqa_export.systems.dri import DriSystem
from iqa_export.weights import load_checkpoint
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.contract import ExtraOutput, PatchPlan
from iqa_runtime.errors import UsageError

PARAMETERS = 56_677_102
"""With the projectors of both halves."""
GMAC, GMAC_RESTORED = (36.9, 34.1), (58.3, 54.4)
"""Of a crop: as written, in deploy form."""
SENSITIVITY = 100 * TOLERANCE
"""What leaving a part out must change at least, as a share of the score, for parity to say anything about the part."""
SMALL = {"crop": 64, "width": 8, "swin_hidden": 64}
"""A network that runs in an instant."""


class SmallDri(DriSystem):
    """As another package would register a network of its own."""

    name = "dri_small"
    config = DriConfig(**SMALL)
    crop = 64
    patch_plan = PatchPlan(kind="random", size=64, count=3, seed=0)
    extra_outputs = (ExtraOutput(name="restored", shape=(3, 64, 64)),)


@pytest.fixture(scope="module")
def system() -> DriSystem:
    system = find_system("dri")
    assert isinstance(system, DriSystem)
    return system


@pytest.fixture(scope="module")
def network(system) -> Dri:
    """The default network with random weights."""
    network = system.build("base").requires_grad_(False)
    load_into(network, random_checkpoint(network, 0, KeyMap()), KeyMap())
    return network


@pytest.fixture
def small() -> Dri:
    network = Dri(DriConfig(**SMALL)).eval()
    load_into(network, random_checkpoint(network, 0, KeyMap()), KeyMap())
    return network


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters(network):
    config = DriConfig()
    assert size(network) + 2 * size(Projector(config)) == PARAMETERS
    assert round(size(network.extractor) / 1e6, 2) == 23.51
    taps = size(network.decoder[1].tap) + size(network.decoder[2].tap)
    assert round((size(network.encoder) + size(network.decoder) + size(network.out) - taps) / 1e6, 2) == 6.39
    guidance = sum(size(stage.guidance) for stage in network.guided)
    assert round(guidance / 1e6, 2) == 7.39
    assert round(sum(size(stage.swin) for stage in network.guided) / 1e6, 2) == 14.78


@pytest.mark.parametrize("crop", [64, 96, 224])
def test_shapes(crop):
    config = DriConfig(**SMALL | {"crop": crop})
    network = Dri(config).eval()
    shapes = {}

    def note(name):
        return lambda *call: shapes.update({name: tuple(call[-1].shape[1:])})

    for name in ("encoder.levels.0", "encoder.levels.1", "encoder.levels.2", "encoder.down.2", "guided.1", "decoder.2"):
        network.get_submodule(name).register_forward_hook(note(name))
    with torch.no_grad():
        output = network(torch.rand(2, 3, crop, crop), restore=True)
    assert shapes == {
        "encoder.levels.0": (8, crop, crop),
        "encoder.levels.1": (16, crop // 2, crop // 2),
        "encoder.levels.2": (32, crop // 4, crop // 4),
        "encoder.down.2": (64, crop // 8, crop // 8),
        "guided.1": (64, crop // 8, crop // 8),
        "decoder.2": (32, crop // 4, crop // 4),
    }
    assert output.score.shape == (2,)
    assert output.restored.shape == (2, 3, crop, crop)


def test_representations():
    extractor = DualRepresentationExtractor(DriConfig()).eval()
    other = DualRepresentationExtractor(DriConfig(quality_half="second")).eval()
    other.load_state_dict(extractor.state_dict())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        first, second = extractor(image), other(image)
    assert [tuple(tap.shape[1:]) for tap in first.taps] == [(64, 32, 32), (256, 16, 16), (512, 8, 8)]
    assert first.quality_map.shape == (1, DriConfig().half, 2, 2)
    torch.testing.assert_close(first.quality, first.quality_map.mean((2, 3)))
    assert torch.equal(first.quality, second.degradation)
    assert torch.equal(first.degradation, second.quality)
    assert not torch.equal(first.quality, first.degradation)


def test_projector_compares_directions():
    projector = Projector(DriConfig())
    vector = torch.rand(3, DriConfig().half)
    projected = projector(vector)
    torch.testing.assert_close(projected.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(projector(7 * vector), projected)


def test_score_needs_no_restoration(small):
    image = torch.rand(2, 3, 64, 64)
    ran = []
    small.decoder[1].register_forward_hook(lambda *_: ran.append(True))
    with torch.no_grad():
        score = small(image)
        assert not ran
        assert score.restored is None
        assert torch.equal(score.score, small(image, restore=True).score)
    assert ran


def test_restoration_starts_from_the_image(small):
    nn.init.zeros_(small.out.weight)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(small(image, restore=True).restored, image)


def test_gradient_reaches_every_tensor(small):
    """As training's second stage needs it: a loss on the score and the restored crops."""
    small.train()
    output = small(torch.rand(4, 3, 64, 64), restore=True)
    (output.score.square().sum() + output.restored.square().mean()).backward()
    without = [name for name, parameter in small.named_parameters() if not (parameter.grad != 0).any()]
    # Adding a number to every key of an attention changes no softmax over the keys.
    assert [name for name in without if not name.endswith("key.bias")] == []


def test_gradient_of_contrastive_training():
    config = DriConfig()
    extractor, projector = DualRepresentationExtractor(config), Projector(config)
    projector(extractor(torch.rand(2, 3, 64, 64)).quality)[:, 0].sum().backward()
    assert all((parameter.grad != 0).any() for parameter in projector.parameters())
    assert all((parameter.grad != 0).any() for parameter in extractor.parameters())


def test_weighted_mean():
    score, weight = torch.tensor([[1.0, -5.0, 3.0]]), torch.tensor([[0.0, 0.0, -200.0]])
    # Sigmoid gives 1/2, 1/2 and nothing; ReLU makes the second score zero.
    torch.testing.assert_close(weighted_mean(score, weight), torch.tensor([0.5]))
    assert weighted_mean(score, torch.full((1, 3), -200.0)) == 0


def test_score_is_alive_at_the_start():
    network = Dri(DriConfig(**SMALL))
    assert (network.head.score.last.bias == 0.5).all()
    with torch.no_grad():
        assert network.eval()(torch.rand(1, 3, 64, 64)).score > 0


@pytest.mark.parametrize("choices", [{"crop": 100}, {"crop": 64, "swin_window": 3}])
def test_sizes_that_do_not_divide(choices):
    with pytest.raises(UsageError, match=f"crop {choices['crop']}: choose a multiple of 32"):
        DriConfig(**choices)


@pytest.mark.parametrize("field", ["tgb_query", "quality_half", "restorer_input"])
def test_choice_that_there_is_not(field):
    with pytest.raises(UsageError, match=f"{field} 'middle': choose"):
        DriConfig(**{field: "middle"})


def test_checkpoint_with_projectors(system, small):
    """Training may save them beside the network; scoring has no use for them."""
    entries = small.state_dict() | {"projectors.quality.last.bias": torch.zeros(128)}
    load_into(small, Checkpoint(entries, "dri.pth", ""), system.key_map("base"))
    with pytest.raises(CheckpointError, match=r"1 unexpected \(extra\)"):
        load_into(small, Checkpoint(entries | {"extra": torch.zeros(1)}, "dri.pth", ""), system.key_map("base"))


def test_unknown_extra(system):
    with pytest.raises(UsageError, match="``distortion_feature``"):
        system.check(GraphChoice(variant="base", task="nr", extras=("distortion_feature",)))


def export_request(system, extras, output) -> Request:
    return Request(
        system=system,
        choice=GraphChoice(variant="base", task="nr", extras=extras),
        checkpoint=load_checkpoint(system, "random:0", None),
        output=output,
        patch_plan=system.patch_plan,
    )


@pytest.mark.slow
def test_export_of_another_configuration(tmp_path):
    system = SmallDri()
    report = export(export_request(system, ("restored",), tmp_path / "small.onnx"))
    assert report.passed
    assert {(row.output, row.batch) for row in report.parity} == {
        ("score", 1),
        ("restored", 1),
        ("score", 4),
        ("restored", 4),
    }
    contract = read_contract(tmp_path / "small.onnx")
    assert contract.extras == system.extra_outputs
    assert contract.patch_plan == system.patch_plan
    assert contract.faithful.startswith("in concept")
    assert contract.inputs[0].mean == (0, 0, 0)
    assert contract.inputs[0].std == (1, 1, 1)


@pytest.mark.slow
@pytest.mark.long
def test_export(system, tmp_path):
    report = export(export_request(system, (), tmp_path / "dri.onnx"))
    assert report.passed
    as_written, deployed = GMAC
    assert report.gmac_as_written == pytest.approx(as_written, abs=0.05)
    assert report.graphs[0].gmac == pytest.approx(deployed, abs=0.05)
    assert report.contract.patch_plan.count == 20


@pytest.mark.slow
def test_work_of_restoring(network):
    image = torch.rand(1, 3, 224, 224)
    for form, gmac in zip((network, deploy(network)), GMAC_RESTORED, strict=True):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            form(image, restore=True)
        assert counter.get_total_flops() / 2e9 == pytest.approx(gmac, abs=0.05)


BRANCHES = [
    *(f"encoder.{name}" for name in ("embed", "levels.0", "levels.1", "levels.2", "down.2")),
    *(f"guided.{stage}.project" for stage in range(2)),
    *(
        f"guided.{stage}.guidance.{index}.{name}"
        for stage in range(2)
        for index in range(2)
        for name in ("query", "value")
    ),
    *(
        f"guided.{stage}.swin.layers.{index}.{name}"
        for stage in range(2)
        for index in range(2)
        for name in ("blocks", "convolution")
    ),
    *("tap", "modulation.last", "decoder.2.tap", "decoder.2.up", "decoder.2.reduce", "decoder.2.blocks"),
    *("head.score.last.weight", "head.weight.last.weight"),
    *(f"extractor.trunk.layer{stage}" for stage in (1, 4)),
]
"""All that the score depends on, by the prefix of its parameters."""


@pytest.mark.slow
def test_parity_sees_every_branch(system, network):
    plan = PatchPlan(kind="random", size=system.crop, count=1, seed=20)
    crops = [crop_items(pixels, system.crop_input("image"), plan) for pixels in sample_photographs()[1::2]]
    noise = torch.rand(1, 3, system.crop, system.crop, generator=torch.Generator().manual_seed(0))
    images = [*map(torch.from_numpy, crops), noise]
    blind = []
    with torch.no_grad():
        scores = torch.cat([network(image).score for image in images])
        least = SENSITIVITY * scores.abs().max()
        for branch in BRANCHES:
            parameters = [p for name, p in network.named_parameters() if f"{name}.".startswith(f"{branch}.")]
            kept = [parameter.clone() for parameter in parameters]
            for parameter in parameters:
                parameter.zero_()
            # One image is enough; the next is tried only where it was not.
            seen = any(
                (network(image).score - score).abs() >= least for image, score in zip(images, scores, strict=True)
            )
            for parameter, values in zip(parameters, kept, strict=True):
                parameter.copy_(values)
            if not parameters or not seen:
                blind.append(branch)
    assert not blind
