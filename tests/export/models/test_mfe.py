"""MFE-Net as written: sizes, the state it starts training in, and that no branch is idle."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional

from iqa_export.checkpoints import KeyMap, load_into, random_checkpoint
from iqa_export.models.fusion import AdaptiveFusion, AttentionalFusion
from iqa_export.models.mfe import Mfe, MfeConfig
from iqa_export.models.octave import OctaveConv
from iqa_export.models.van import SIZES, Van
from iqa_export.parity import TOLERANCE
from iqa_runtime.errors import UsageError

SMALL = 64
"""Side of the crops here: the layers take any multiple of 32, and this one costs a twelfth of 224."""
MOVED = 100 * TOLERANCE
"""Of the largest score: what switching a branch off must change, so that parity would notice its loss."""
ROUNDING = 1e-6
"""Absolute, for values of about one in float32."""


@pytest.fixture(scope="module")
def network() -> Mfe:
    network = Mfe().eval()
    load_into(network, random_checkpoint(network, 0, KeyMap()), KeyMap())
    return network


def pictures(count: int) -> torch.Tensor:
    """Return `count` smooth pictures and as many of noise, (2 count, 3, 64, 64), in [0, 1]."""
    generator = torch.Generator().manual_seed(4)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    smooth = functional.interpolate(coarse, size=SMALL, mode="bilinear")
    return torch.cat([smooth, torch.rand(count, 3, SMALL, SMALL, generator=generator)])


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On maps this small, threads wait for each other longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    return pictures(1)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def meta() -> Mfe:
    with torch.device("meta"):
        return Mfe().eval()


def test_parameters():
    network = meta()
    parts = {name: round(parameters(module) / 1e6, 2) for name, module in network.named_children()}
    assert parts == {
        "quality": 26.07,
        "high_frequency": 2.33,
        "guide": 1.93,
        "distortion": 23.51,
        "project": 1.46,
        "aware": 0.39,
        "inception": 10.79,
        "regressor": 2.36,
    }
    assert parameters(network) == 68_839_591


@pytest.mark.parametrize(("size", "published"), [("b0", 4.1), ("b1", 13.9), ("b2", 26.6), ("b3", 44.8)])
def test_van_has_the_published_sizes(size, published):
    with torch.device("meta"):
        trunk = Van(SIZES[size], 0.1)
        classifier = nn.Linear(SIZES[size].channels[-1], 1000)
    assert round((parameters(trunk) + parameters(classifier)) / 1e6, 1) == published
    if size == "b2":
        assert parameters(trunk) == 26_065_472


def test_branches_agree_on_shapes():
    network = meta()
    crop = torch.empty(1, 3, network.config.crop, network.config.crop, device="meta")
    expected = [(64, 56, 56), (128, 28, 28), (320, 14, 14), (512, 7, 7)]
    projected = [project(stage) for project, stage in zip(network.project, network.distortion(crop), strict=True)]
    for maps in (network.quality(crop), network.high_frequency(crop), projected):
        assert [tuple(stage.shape[1:]) for stage in maps] == expected
    output = network(crop)
    assert output.score.shape == (1,)
    assert output.distortion_feature.shape == (1, 2048)


def test_drop_path_grows_linearly():
    trunk = Van(SIZES["b0"], 0.1)
    rates = [block.drop_path.probability for index in range(1, 5) for block in getattr(trunk, f"block{index}")]
    torch.testing.assert_close(rates, torch.linspace(0, 0.1, 13).tolist())


@pytest.mark.parametrize(("low", "out_low", "stride"), [(0, 2, 1), (2, 2, 1), (2, 2, 2), (2, 0, 2), (0, 2, 2)])
def test_octave_convolution(low, out_low, stride):
    torch.manual_seed(0)
    octave = OctaveConv(6, 8, low, out_low, stride)
    high, high_pooled = torch.randn(2, 6 - low, 8, 8), None
    low_map = torch.randn(2, low, 4, 4) if low else None
    with torch.no_grad():
        actual_high, actual_low = octave(high, low_map)
        if stride == 2:
            high = functional.avg_pool2d(high, 2)
        high_pooled = functional.avg_pool2d(high, 2)
        expected_high = functional.conv2d(high, octave.high_to_high.weight, padding=1)
        if low_map is not None:
            raised = functional.conv2d(low_map, octave.low_to_high.weight, padding=1)
            expected_high += raised.repeat_interleave(2, 2).repeat_interleave(2, 3) if stride == 1 else raised
        torch.testing.assert_close(actual_high, expected_high)
        assert (actual_low is None) == (out_low == 0)
        if actual_low is not None:
            expected_low = functional.conv2d(high_pooled, octave.high_to_low.weight, padding=1)
            if low_map is not None:
                halved = low_map if stride == 1 else functional.avg_pool2d(low_map, 2)
                expected_low += functional.conv2d(halved, octave.low_to_low.weight, padding=1)
            torch.testing.assert_close(actual_low, expected_low)


@pytest.mark.parametrize("fusion", [AdaptiveFusion, AttentionalFusion])
def test_weights_of_a_pair_add_up_to_two(fusion):
    module = fusion(8, 4).eval()
    load_into(module, random_checkpoint(module, 0, KeyMap()), KeyMap())
    x, y = torch.randn(2, 2, 8, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(module(x, x), 2 * x, rtol=0, atol=10 * ROUNDING)
        assert not torch.allclose(module(x, y), x + y, rtol=0, atol=0.1)


def test_starts_as_the_quality_branch_alone(crops):
    torch.manual_seed(0)
    network = Mfe(MfeConfig(van="b0")).eval()
    seen = []
    for guide in network.guide:
        guide.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    with torch.no_grad():
        network(crops)
        alone = network.quality((crops - network.mean) / network.std)
    assert len(seen) == 4
    for (quality, guided), stage in zip(seen, alone, strict=True):
        assert torch.equal(guided, quality)
        # Another memory layout comes out of the fusion, and convolutions round by layout.
        torch.testing.assert_close(guided, stage, rtol=0, atol=10 * ROUNDING)
        assert guided.std() > 0.1


def test_gradient_reaches_every_tensor(network, crops):
    network.zero_grad()
    network(crops).score.sum().backward()
    idle = [name for name, parameter in network.named_parameters() if not parameter.grad.any()]
    network.zero_grad()
    assert idle == []


def branches(network: Mfe) -> dict[str, list[nn.Module]]:
    """Every branch by name: the modules whose outputs are zero when it is switched off."""
    found: dict[str, list[nn.Module]] = {"distortion": [network.distortion.layer1]}
    for index in range(4):
        level = network.high_frequency.levels[index]
        octave, aware, inception = level.convolution, network.aware[index], network.inception[index]
        found |= {f"tap {index}": [level.tap_norm], f"guide {index}": [network.guide[index].weigh]}
        for path in ("high_to_high", "high_to_low", "low_to_high", "low_to_low"):
            if getattr(octave, path) is not None:
                found[f"octave {index} {path}"] = [getattr(octave, path)]
        found |= {f"project {index}": [network.project[index]]}
        found |= {f"aware {index} {part}": [getattr(aware, part)] for part in ("local", "whole")}
        views = ("point", "small", "large", "average")
        found |= {f"inception {index} {view}": [getattr(inception, view)] for view in views}
        blocks = list(getattr(network.quality, f"block{index + 1}"))
        found[f"van {index} gate"] = [block.attn.spatial_gating_unit for block in blocks]
        for number, block in enumerate(blocks):
            found |= {f"van {index} {number} {part}": [getattr(block, part)] for part in ("attn", "mlp")}
    return found


def switched_off(network: Mfe, modules: list[nn.Module], crops: torch.Tensor) -> torch.Tensor:
    hooks = [module.register_forward_hook(lambda *event: torch.zeros_like(event[-1])) for module in modules]
    try:
        return network(crops).score
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@torch.no_grad()
def test_every_branch_moves_the_score(network):
    crops = pictures(2)
    score = network(crops).score
    moved = {name: (switched_off(network, off, crops) - score).abs().max() for name, off in branches(network).items()}
    assert len(moved) == 95
    assert [name for name, change in moved.items() if change < MOVED * score.abs().max()] == []


@pytest.mark.parametrize("wanted", ["pixels", "normalised"])
def test_normalisation_is_inside(network, crops, wanted, monkeypatch):
    monkeypatch.setattr(network, "config", MfeConfig(distortion_input=wanted))
    seen = {}
    entries = {"vision": network.quality.patch_embed1, "high": network.high_frequency, "distortion": network.distortion}
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
        for name, module in entries.items()
    ]
    with torch.no_grad():
        network(crops)
    for hook in hooks:
        hook.remove()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (crops - mean[:, None, None]) / std[:, None, None]
    expected = {"vision": normalised, "high": normalised, "distortion": crops if wanted == "pixels" else normalised}
    for name, image in expected.items():
        torch.testing.assert_close(seen[name], image)


@pytest.mark.parametrize(
    "change", [{"next_stage": "quality"}, {"next_stage": "aware"}, {"distortion_input": "normalised"}], ids=str
)
def test_choices_change_the_score(network, crops, change, monkeypatch):
    with torch.no_grad():
        score = network(crops).score
        monkeypatch.setattr(network, "config", MfeConfig(**change))
        assert (network(crops).score - score).abs().max() > MOVED * score.abs().max()


def test_distortion_feature(network, crops, monkeypatch):
    with torch.no_grad():
        feature = network(crops).distortion_feature
        *fine, last = network.distortion(crops)
    torch.testing.assert_close(feature.norm(dim=1), torch.ones(2), rtol=0, atol=ROUNDING)
    torch.testing.assert_close(feature, functional.normalize(last.mean((2, 3)), dim=1), rtol=0, atol=ROUNDING)
    monkeypatch.setattr(network, "config", MfeConfig(unit_feature=False))
    with torch.no_grad():
        torch.testing.assert_close(network(crops).distortion_feature, last.mean((2, 3)))
    monkeypatch.setattr(network, "config", MfeConfig(feature_maps="all"))
    torch.testing.assert_close(network.pool([*fine, last]), torch.cat([each.mean((2, 3)) for each in (*fine, last)], 1))


def test_dropout_acts_in_training_alone(network):
    features = torch.randn(1, 4096)
    with torch.no_grad():
        assert torch.equal(network.regressor(features), network.regressor(features))
        network.regressor.train()
        try:
            assert not torch.equal(network.regressor(features), network.regressor(features))
        finally:
            network.regressor.eval()


@pytest.mark.parametrize(("field", "value"), [("crop", 100), ("crop", 0), ("low_share", 1.0), ("low_share", 0)])
def test_refused_configs(field, value):
    with pytest.raises(UsageError, match=f"{field} {value}"):
        MfeConfig(**{field: value})
