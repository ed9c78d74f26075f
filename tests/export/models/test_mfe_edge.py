"""MFE-Net at edge size: its size, the state it starts training in, and that no branch is idle."""

import numpy as np
import pytest
import torch
from torch import nn

from iqa_export.checkpoints import KeyMap, load_into, random_checkpoint, read_checkpoint
from iqa_export.models.mfe import CONFIGS, DISTORTIONS, Mfe
from iqa_export.models.mobilenet import MobileNetV2, MobileNetV2Pyramid
from iqa_export.systems import find_system
from iqa_runtime import Scorer

MOST_PARAMETERS = 5_000_000
SIDE = 64
"""Of the crops here: the layers take any multiple of 32."""
HALF = 2e-3
"""Absolute: what rounding the weights of the graph to float16 moves scores and probabilities by at most."""
ROUNDING = 1e-6
"""Absolute, for values of about one in float32."""


@pytest.fixture(scope="module")
def network() -> Mfe:
    network = Mfe(CONFIGS["edge"]).eval()
    load_into(network, random_checkpoint(network, 0, KeyMap()), KeyMap())
    return network


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_size():
    with torch.device("meta"):
        network = Mfe(CONFIGS["edge"]).eval()
    parts = {name: round(parameters(module) / 1e6, 2) for name, module in network.named_children()}
    assert parts == {
        "quality": 0.7,
        "high_frequency": 0.22,
        "guide": 0.18,
        "distortion": 0.7,
        "project": 0.04,
        "aware": 0.04,
        "inception": 1.02,
        "regressor": 0.18,
        "naming": 0.0,
    }
    assert parameters(network) == 3_076_463 <= MOST_PARAMETERS


def test_branches_agree_on_shapes():
    with torch.device("meta"):
        network = Mfe(CONFIGS["edge"]).eval()
    crop = torch.empty(1, 3, 224, 224, device="meta")
    expected = [(24, 56, 56), (32, 28, 28), (96, 14, 14), (160, 7, 7)]
    projected = [project(stage) for project, stage in zip(network.project, network.distortion(crop), strict=True)]
    for maps in (network.quality(crop), network.high_frequency(crop), projected):
        assert [tuple(stage.shape[1:]) for stage in maps] == expected
    output = network(crop)
    assert output.score.shape == (1,)
    assert output.distortion_feature.shape == (1, 24 + 32 + 96 + 160)
    assert output.distortion_logits.shape == (1, len(DISTORTIONS))


def test_pyramid_is_the_trunk_unrearranged(crops):
    """The trunk rearranges its fine maps onto the grid of stride 8: the same values at other places."""
    pyramid, trunk = MobileNetV2Pyramid().eval(), MobileNetV2().eval()
    trunk.load_state_dict(pyramid.state_dict())
    with torch.no_grad():
        four, eight, sixteen, thirty_two = pyramid(crops)
        fine, *coarse = trunk(crops)
    assert torch.equal(fine[:, 16 * 16 : 16 * 16 + 24 * 4], nn.functional.pixel_unshuffle(four, 2))
    assert torch.equal(fine[:, 16 * 16 + 24 * 4 :], eight)
    assert torch.equal(coarse[0], sixteen)
    assert torch.equal(coarse[1], thirty_two)


def test_starts_as_the_quality_branch_alone(crops):
    torch.manual_seed(0)
    network = Mfe(CONFIGS["edge"]).eval()
    seen = []
    for guide in network.guide:
        guide.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    with torch.no_grad():
        network(crops)
        alone = network.quality((crops - network.mean) / network.std)
    assert len(seen) == 4
    for (quality, guided), stage in zip(seen, alone, strict=True):
        assert torch.equal(guided, quality)
        torch.testing.assert_close(guided, stage, rtol=0, atol=10 * ROUNDING)


def test_names_start_at_one_in_eight(crops):
    torch.manual_seed(0)
    with torch.no_grad():
        logits = Mfe(CONFIGS["edge"]).eval()(crops).distortion_logits
    # Far from a half: the trunk starts at random, too, and moves the logits by less than one.
    assert logits.sigmoid().mean().item() == pytest.approx(1 / len(DISTORTIONS), abs=0.05)


def test_gradient_reaches_every_tensor(network, crops):
    output = network(crops)
    (output.score.sum() + output.distortion_logits.sum()).backward()
    idle = [name for name, parameter in network.named_parameters() if not parameter.grad.any()]
    network.zero_grad()
    assert idle == []


def test_names_come_of_the_feature_before_it_is_scaled(network, crops):
    with torch.no_grad():
        output, maps = network(crops), network.distortion(crops)
        feature = torch.cat([each.mean((2, 3)) for each in maps], 1)
        torch.testing.assert_close(output.distortion_logits, network.naming(feature))
    unit = feature / feature.norm(dim=1, keepdim=True)
    torch.testing.assert_close(output.distortion_feature, unit, rtol=0, atol=ROUNDING)


def test_the_bundled_graph_is_the_bundled_weights():
    """What the package scores with is what its PyTorch weights compute, but for the rounding of its weights."""
    system = find_system("mfe")
    trained = system.build("edge").requires_grad_(False)
    load_into(trained, read_checkpoint(system.bundled["edge"]), system.key_map("edge"))
    pixels = np.random.default_rng(5).integers(0, 256, (28, 28, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with torch.no_grad():
        expected = trained(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    with Scorer("mfe-edge", crops="center") as scorer:
        result = scorer.score(pixels)
    assert result.value == pytest.approx(float(expected.score), abs=HALF)
    probabilities = torch.sigmoid(expected.distortion_logits)[0].tolist()
    assert result.distortions == pytest.approx(dict(zip(DISTORTIONS, probabilities, strict=True)), abs=HALF)
