"""DRI-IQA at edge size: its size and work, its deploy form, and that weights fit crops of any size."""

from dataclasses import replace

import pytest
import torch

from iqa_export.checkpoints import KeyMap, load_into, random_checkpoint
from iqa_export.deploy.dri import deploy
from iqa_export.listing import measure
from iqa_export.models.dri import ChannelGuidance, Dri
from iqa_export.models.dri_config import CONFIGS, DriConfig
from iqa_export.models.dri_extractor import DualRepresentationExtractor
from iqa_export.systems import GraphChoice, find_system
from iqa_runtime.contract import PatchPlan
from iqa_runtime.errors import UsageError
from iqa_runtime.scoring.resizing import format_resize

MOST_PARAMETERS = 5_000_000
MOST_GMAC, MOST_GMAC_RESTORED = 1.5, 6.0
FLOAT64 = 1e-12
"""Of the largest value, in float64: exact algebra leaves rounding alone."""
SMALL = replace(CONFIGS["edge"], crop=64)
ALONE = GraphChoice(variant="edge", task="nr")


@pytest.fixture(scope="module")
def network() -> Dri:
    network = Dri(SMALL).eval()
    load_into(network, random_checkpoint(network, 0, KeyMap()), KeyMap())
    return network


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_size():
    parameters, written, deployed = measure(find_system("dri"), ALONE)
    assert parameters == 1_130_434 <= MOST_PARAMETERS
    assert deployed < written <= MOST_GMAC
    assert measure(find_system("dri"), replace(ALONE, extras=("restored",)))[1] <= MOST_GMAC_RESTORED


@pytest.mark.parametrize("choices", [{}, {"restorer_input": "normalised", "tgb_query": "image"}])
def test_deploy_form(network, crops, choices):
    network = Dri(replace(SMALL, **choices)).double().eval()
    load_into(network, random_checkpoint(network, 0, KeyMap()), KeyMap())
    with torch.no_grad():
        expected, actual = (form(crops.double(), restore=True) for form in (network, deploy(network)))
    for name in ("score", "restored"):
        values = getattr(expected, name)
        torch.testing.assert_close(getattr(actual, name), values, rtol=0, atol=FLOAT64 * float(values.abs().max()))


def test_weights_fit_other_sizes(network):
    """Training takes smaller crops than are scored."""
    larger = Dri(replace(SMALL, crop=96)).eval()
    larger.load_state_dict(network.state_dict())
    with torch.no_grad():
        output = larger(torch.rand(1, 3, 96, 96), restore=True)
    assert output.score.shape == (1,)
    assert output.restored.shape == (1, 3, 96, 96)


def test_starts_with_the_crop_itself(crops):
    with torch.no_grad():
        assert torch.equal(Dri(SMALL).eval()(crops, restore=True).restored, crops)


def test_gradient_reaches_every_tensor(crops):
    network = Dri(SMALL)
    load_into(network, random_checkpoint(network, 0, KeyMap()), KeyMap())
    output = network(crops, restore=True)
    (output.score.sum() + output.restored.square().mean()).backward()
    assert [name for name, parameter in network.named_parameters() if not parameter.grad.any()] == []


def test_every_representation_matters(network, crops):
    """The score depends on both halves, and on every map of the trunk."""
    with torch.no_grad():
        score = network(crops).score
        for prefix in ("modulation.last", "guided.0.project", "extractor.neck.levels.3", "tap", "decoder.1.tap"):
            changed = Dri(SMALL).eval()
            state = network.state_dict()
            changed.load_state_dict(
                {name: torch.zeros_like(value) if name.startswith(prefix) else value for name, value in state.items()}
            )
            assert ((changed(crops).score - score).abs() > 1e-6).all(), prefix


def test_what_the_score_does_not_depend_on(network, crops):
    assert network.beyond_score == ("decoder.0", "fine_modulation", "out")
    assert Dri(DriConfig(crop=64, width=8)).beyond_score == ("decoder.0", "decoder.1", "out")
    changed = Dri(SMALL).eval()
    changed.load_state_dict(network.state_dict())
    for part in network.beyond_score:
        for parameter in changed.get_submodule(part).parameters():
            parameter.data.mul_(2)
    with torch.no_grad():
        before, after = network(crops, restore=True), changed(crops, restore=True)
    assert torch.equal(after.score, before.score)
    assert not torch.equal(after.restored, before.restored)


def test_extractor():
    config = CONFIGS["edge"]
    extractor = DualRepresentationExtractor(config).eval()
    with torch.no_grad():
        found = extractor(torch.rand(1, 3, 64, 64))
    assert [tuple(tap.shape[1:]) for tap in found.taps] == [(24, 16, 16), (32, 8, 8), (96, 4, 4)]
    assert tuple(channels for channels, *_ in (tap.shape[1:] for tap in found.taps)) == config.tap_channels
    assert found.quality_map.shape == (1, config.half, 2, 2)
    torch.testing.assert_close(found.quality, found.quality_map.mean((2, 3)))


@pytest.mark.parametrize("source", ["quality", "image"])
def test_channel_guidance(source):
    """Against the formula, written out."""
    guidance = ChannelGuidance(DriConfig(width=2, guidance="channels", tgb_query=source)).eval()
    image, quality = torch.rand(2, 16, 25), torch.rand(2, 16, 25)
    asking, asked = (quality, image) if source == "quality" else (image, quality)

    def project(layer: torch.nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        return layer.weight[..., 0, 0] @ x + layer.bias[:, None]

    with torch.no_grad():
        query, key = project(guidance.query, asking), project(guidance.key, asked)
        logits = torch.einsum("bip,bjp->bij", query, key)
        logits /= query.norm(dim=2)[:, :, None] * key.norm(dim=2)[:, None]
        expected = image + (logits * guidance.temperature).softmax(2) @ project(guidance.value, asked)
        torch.testing.assert_close(guidance(image, quality), expected)


@pytest.mark.parametrize("field", ["trunk", "guidance"])
def test_choice_that_there_is_not(field):
    with pytest.raises(UsageError, match=f"{field} 'middle': choose"):
        DriConfig(**{field: "middle"})


def test_variant_and_contract():
    system = find_system("dri")
    assert system.variant_of(system.build("edge").state_dict()) == "edge"
    assert system.variant_of({"extractor.trunk.conv1.weight"}) == "base"
    assert system.variant_of({"features.0.0.weight"}) is None
    assert system.patch_plan_of("edge") == PatchPlan(kind="five", size=224)
    assert format_resize(system.resize_of(ALONE)) == "shorter:512:bicubic:shrink:draft"
    assert system.resize_of(replace(ALONE, variant="base")) is None
    assert "our own network" in system.faithful_of("edge")
    assert "full-reference metrics" in system.score_of("edge").scale
