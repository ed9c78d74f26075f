"""The deploy form of MFE-Net: its rewrites in float64, where rounding is far away, then the exported graph."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import iqa_export
from iqa_export.checkpoints import KeyMap, load_into, random_checkpoint
from iqa_export.deploy.batchnorm import fold_before, fold_pair, fold_sequential, scale_outputs
from iqa_export.deploy.mfe import (
    FoldedInception,
    PlainOctave,
    TanhAdaptiveFusion,
    TanhAttentionalFusion,
    deploy_mfe,
)
from iqa_export.deploy.van import FoldedVanBlock, fold_van
from iqa_export.exporting import Request, export
from iqa_export.listing import measure
from iqa_export.models.fusion import AdaptiveFusion, AttentionalFusion
from iqa_export.models.mfe import CONFIGS, HighFrequencyModule, Inception, Mfe, MfeConfig
from iqa_export.models.van import SIZES, Van, VanBlock
from iqa_export.systems import GraphChoice
from iqa_export.systems.mfe import MfeSystem
from iqa_export.weights import load_checkpoint
from iqa_runtime import PatchPlan, Scorer, read_contract
from iqa_runtime.errors import UsageError
from iqa_runtime.scoring.patch_plans import positions
from iqa_runtime.scoring.resizing import format_resize

PARITY = 1e-4
"""Absolute, of values of about one in float32 after some hundred layers."""
FLOAT64 = 1e-12
"""Of the largest value: exact algebra in float64 leaves rounding alone."""
NR = GraphChoice(variant="van_b2", task="nr")
FEATURE = GraphChoice(variant="van_b2", task="nr", extras=("distortion_feature",))
NAMED = GraphChoice(variant="edge", task="nr", extras=("distortion_feature", "distortions"))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(3)
    with torch.no_grad():
        yield


def filled(module: nn.Module) -> nn.Module:
    """Every tensor at random, statistics of normalisations included; float64, evaluation mode."""
    load_into(module, random_checkpoint(module, 0, KeyMap()), KeyMap())
    return module.double().eval().requires_grad_(False)


def maps(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=FLOAT64 * float(expected.abs().max()))


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize("bias", [True, False])
def test_normalisation_before_a_convolution(bias):
    norm, convolution = filled(nn.BatchNorm2d(3)), filled(nn.Conv2d(3, 5, 1, 2, bias=bias))
    x = maps(2, 3, 6, 6)
    close(fold_before(norm, convolution)(x), convolution(norm(x)))


@pytest.mark.parametrize("convolution", [nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1, groups=4)])
def test_normalisation_before_other_convolutions(convolution):
    with pytest.raises(ValueError, match="1 x 1 alone"):
        fold_before(nn.BatchNorm2d(4), convolution)


@pytest.mark.parametrize("groups", [1, 4])
def test_scaled_outputs(groups):
    convolution = filled(nn.Conv2d(4, 4, 3, 2, 1, groups=groups))
    x, scale, shift = maps(2, 4, 7, 7), maps(4), maps(4)
    per_channel = scale[:, None, None], shift[:, None, None]
    close(scale_outputs(convolution, scale, shift)(x), per_channel[0] * convolution(x) + per_channel[1])
    close(scale_outputs(convolution, scale)(x), per_channel[0] * convolution(x))


def test_depthwise_pair():
    convolution, norm = filled(nn.Conv2d(4, 4, 5, padding=2, groups=4)), filled(nn.BatchNorm2d(4))
    x = maps(2, 4, 7, 7)
    close(fold_pair(convolution, norm)(x), norm(convolution(x)))


def test_sequence():
    layers = filled(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.2)))
    folded, x = fold_sequential(layers), maps(2, 3, 8, 8)
    assert [type(layer) for layer in folded] == [nn.BatchNorm2d, nn.Conv2d, nn.LeakyReLU]
    close(folded(x), layers(x))


def test_van_block():
    block = filled(VanBlock(8, 32, 0.1))
    x = maps(2, 8, 9, 9)
    close(FoldedVanBlock(block)(x), block(x))


def test_van():
    trunk = filled(Van(SIZES["b0"], 0.1))
    folded, x = fold_van(trunk), maps(1, 3, 64, 64)
    assert norms(folded) == 0
    assert norms(trunk) == 2 * sum(SIZES["b0"].depths) + 4
    for actual, expected in zip(folded(x), trunk(x), strict=True):
        close(actual, expected)


@pytest.mark.parametrize(("low", "out_low", "stride"), [(0, 2, 1), (2, 2, 2), (2, 0, 2), (0, 2, 2)])
def test_octave_convolution(low, out_low, stride):
    module = filled(HighFrequencyModule(6, 8, low, out_low, stride, 0.2))
    high, low_map = maps(2, 6 - low, 8, 8), maps(2, low, 4, 4) if low else None
    plain = PlainOctave(module)
    assert sum(isinstance(part, nn.Conv2d) for part in plain.modules()) == (3 if out_low else 2)
    for actual, expected in zip(plain(high, low_map), module(high, low_map), strict=True):
        if expected is None:
            assert actual is None
        else:
            close(actual, expected)


def test_octave_convolution_that_is_no_plain_one():
    with pytest.raises(ValueError, match="stride is two"):
        PlainOctave(HighFrequencyModule(6, 8, 2, 2, 1, 0.2))


@pytest.mark.parametrize(
    ("fusion", "deployed"), [(AdaptiveFusion, TanhAdaptiveFusion), (AttentionalFusion, TanhAttentionalFusion)]
)
def test_fusion(fusion, deployed):
    module = filled(fusion(8, 4))
    x, y = maps(2, 2, 8, 5, 5)
    expected = module(x, y)
    assert (expected - x - y).abs().max() > 0.1
    close(deployed(module)(x, y), expected)


@pytest.mark.parametrize("size", [7, 8])
def test_inception(size):
    inception = filled(Inception(4))
    x = maps(2, 4, size, size)
    close(FoldedInception(inception)(x), inception(x))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return filled(Mfe(MfeConfig(van="b0")))


@pytest.mark.parametrize("next_stage", ["guided", "quality", "aware"])
def test_network(network, next_stage, monkeypatch):
    monkeypatch.setattr(network, "config", MfeConfig(van="b0", next_stage=next_stage))
    before = norms(network)
    deployed, image = deploy_mfe(network), maps(2, 3, 64, 64).sigmoid()
    assert norms(deployed) == 0
    assert norms(network) == before
    for actual, expected in zip(deployed(image)[:2], network(image)[:2], strict=True):
        close(actual, expected)


def test_edge_network():
    network = filled(Mfe(CONFIGS["edge"]))
    before = norms(network)
    deployed, image = deploy_mfe(network), maps(2, 3, 64, 64).sigmoid()
    assert norms(deployed) == 0
    assert norms(network) == before
    for actual, expected in zip(deployed(image), network(image), strict=True):
        close(actual, expected)


def test_edge_work():
    parameters, written, deployed = measure(MfeSystem(), NAMED)
    assert parameters == 3_076_463
    assert (round(written, 3), round(deployed, 3)) == (0.588, 0.576)


def test_edge_contract():
    system = MfeSystem()
    system.check(NAMED)
    with pytest.raises(UsageError, match="``distortions``: mfe van_b2 has no such output, edge does; leave it out, or"):
        system.check(GraphChoice(variant="van_b2", task="nr", extras=("distortions",)))
    feature, named = system.extras_of("edge")
    assert (feature.shape, named.shape) == ((312,), (8,))
    assert named.labels == ("none", "blur", "noise", "compression", "exposure", "contrast", "color", "spatial")
    assert system.patch_plan_of("edge") == PatchPlan(kind="five", size=224)
    assert system.patch_plan_of("van_b2").count == 50
    assert format_resize(system.resize_of(NAMED)) == "shorter:512:bicubic:shrink:draft"
    assert system.resize_of(NR) is None
    for variant in system.tasks:
        keys = random_checkpoint(system.build(variant), 0, KeyMap()).entries.keys()
        assert system.variant_of(keys) == variant
    assert "our own network" in system.faithful_of("edge")
    assert "full-reference metrics" in system.score_of("edge").scale


def test_work():
    parameters, written, deployed = measure(MfeSystem(), NR)
    assert parameters == 68_839_591
    assert (round(written, 2), round(deployed, 2)) == (10.45, 10.32)


def test_contract():
    system = MfeSystem()
    system.check(FEATURE)
    with pytest.raises(UsageError, match="``restored``: mfe has no such output"):
        system.check(GraphChoice(variant="van_b2", task="nr", extras=("restored",)))
    with pytest.raises(UsageError, match="``maps``"):
        system.check(GraphChoice(variant="van_b2", task="nr", maps=True))
    assert "in concept" in system.faithful
    assert "no checkpoint was published" in system.weights_source


@pytest.mark.slow
@pytest.mark.long
def test_export(tmp_path):
    system, path = MfeSystem(), tmp_path / "mfe.onnx"
    checkpoint = load_checkpoint(system, "random:0", None)
    report = export(
        Request(system=system, choice=FEATURE, checkpoint=checkpoint, output=path, patch_plan=system.patch_plan)
    )
    assert {(row.output, row.batch) for row in report.parity} == {
        (name, batch) for name in ("score", "distortion_feature") for batch in (1, 4)
    }
    contract = read_contract(path)
    assert contract.extras == system.extra_outputs
    assert not contract.weights.trained
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    image = np.random.RandomState(0).uniform(size=(3, 3, 224, 224)).astype(np.float32)
    score, feature = session.run(None, {"image": image})
    assert score.shape == (3,)
    assert feature.shape == (3, 2048)
    np.testing.assert_allclose(np.linalg.norm(feature, axis=1), 1, rtol=1e-5)


@pytest.mark.slow
def test_export_of_the_edge_variant(tmp_path):
    """What the artefact says of a picture is the mean of what the network says of its crops."""
    path = tmp_path / "mfe-edge.onnx"
    with pytest.warns(UserWarning, match="untrained"):
        report = iqa_export.export("mfe", variant="edge", weights="random:0", output=path, distortions=True)
    assert {row.output for row in report.parity} == {"score", "distortions"}
    system = MfeSystem()
    network = system.build("edge")
    load_into(network, random_checkpoint(network, 0, KeyMap()), KeyMap())
    picture = np.random.RandomState(0).randint(0, 256, (300, 400, 3), np.uint8)
    with Scorer(path) as scorer:
        result = scorer.score(picture)
        places = positions(scorer.patch_plan, 300, 400).tolist()
    crops = np.stack([picture[top : top + 224, left : left + 224].transpose(2, 0, 1) for top, left in places])
    output = network(torch.from_numpy(crops) / 255)
    expected = output.distortion_logits.sigmoid().mean(0)
    assert result.value == pytest.approx(output.score.mean().item(), abs=PARITY)
    assert list(result.distortions) == list(read_contract(path).extras[0].labels)
    assert list(result.distortions.values()) == pytest.approx(expected.tolist(), abs=PARITY)
