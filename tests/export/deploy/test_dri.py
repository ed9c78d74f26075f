"""Deploy rewrites of DRI-IQA change nothing beyond rounding: shown in float64, where rounding is far away."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from iqa_export.checkpoints import KeyMap, load_into, random_checkpoint
from iqa_export.deploy.dri import FoldedDecoderLevel, StackedQualityHead, deploy, fold_division
from iqa_export.deploy.guidance import FoldedGuidedStage, GuidedByImage, GuidedByQuality, interpolation
from iqa_export.deploy.restormer import FoldedTransposedAttention, PaddedFeedForward, fold_level, fold_reduction
from iqa_export.models import restormer
from iqa_export.models.dri import DecoderLevel, Dri, GuidedStage, QualityHead, TransposedGuidance
from iqa_export.models.dri_config import DriConfig

FLOAT64 = 1e-12
"""Of the largest value, in float64: exact algebra leaves rounding alone."""
SMALL = {"crop": 64, "width": 8, "swin_hidden": 64}
"""A network whose float64 copies run in an instant."""


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(3)
    with torch.no_grad():
        yield


def filled(module):
    """Evaluation mode, float64, every tensor at random."""
    load_into(module, random_checkpoint(module, 3, KeyMap()), KeyMap())
    return module.double().eval().requires_grad_(False)


def values(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=FLOAT64 * float(expected.abs().max()))


@pytest.mark.parametrize(("dim", "heads"), [(8, 1), (12, 3)])
def test_transposed_attention(dim, heads):
    attention = filled(restormer.TransposedAttention(dim, heads))
    # Steep, so that the attention is far from uniform and a wrong length would show.
    attention.temperature.mul_(100)
    x = values(2, dim, 6, 4)
    close(FoldedTransposedAttention(attention, 24)(x), attention(x))


def test_transposed_attention_to_nothing():
    """A map of zeros has rows of no length: both forms divide by the same least one."""
    attention = filled(restormer.TransposedAttention(8, 2))
    x = torch.zeros(1, 8, 4, 4, dtype=torch.float64)
    assert torch.equal(FoldedTransposedAttention(attention, 16)(x), attention(x))


def test_transposed_attention_is_left_alone():
    attention = filled(restormer.TransposedAttention(8, 2))
    before = {name: tensor.clone() for name, tensor in attention.state_dict().items()}
    FoldedTransposedAttention(attention, 16)
    assert all(torch.equal(tensor, before[name]) for name, tensor in attention.state_dict().items())


@pytest.mark.parametrize(("dim", "padded"), [(12, 32), (6, 16)])
def test_feed_forward_on_padded_channels(dim, padded):
    feed_forward = filled(restormer.GatedFeedForward(dim, 2.66))
    folded = PaddedFeedForward(feed_forward)
    assert folded.project.in_channels == padded
    x = values(2, dim, 6, 6)
    close(folded(x), feed_forward(x))


def test_level():
    level = filled(restormer.level(8, 2, 2, 2.66))
    x = values(2, 8, 6, 6)
    close(fold_level(level, 36)(x), level(x))


def test_reduction_before_shuffling():
    up, reduction = filled(restormer.upsample(16)), filled(nn.Conv2d(16, 8, 1, bias=False))
    x, skip = values(2, 16, 4, 4), values(2, 8, 8, 8)
    folded_up, folded_skip = fold_reduction(up, reduction)
    close(folded_up(x) + folded_skip(skip), reduction(torch.cat([up(x), skip], 1)))


@pytest.mark.parametrize("taps", [True, False])
def test_decoder_level(taps):
    level = filled(DecoderLevel(DriConfig(**SMALL, extractor_taps=taps), 2))
    x, skip, tap = values(2, 64, 8, 8), values(2, 32, 16, 16), values(2, 256, 16, 16)
    close(FoldedDecoderLevel(level, level.reduce)(x, skip, tap), level(x, skip, tap))


def test_interpolation():
    coarse = values(1, 3, 7, 7)
    resized = functional.interpolate(coarse, (28, 28), mode="bilinear", align_corners=False)
    close(coarse.flatten(2) @ interpolation(7, 28).T, resized.flatten(2))
    close(interpolation(7, 28).sum(1), torch.ones(784, dtype=torch.float64))


@pytest.mark.parametrize(("query", "form"), [("quality", GuidedByQuality), ("image", GuidedByImage)])
def test_guidance(query, form):
    guidance = filled(TransposedGuidance(DriConfig(**SMALL, tgb_query=query)))
    image, quality = values(2, 5, 64), values(2, 5, 4)
    upsampling = interpolation(2, 8)
    close(form(guidance, upsampling)(image, quality), guidance(image, quality @ upsampling.T))


def test_guidance_projects_to_the_size_of_the_small_map():
    guidance = TransposedGuidance(DriConfig(**SMALL))
    assert GuidedByQuality(guidance, interpolation(2, 8)).key.out_features == 4 + 1


@pytest.mark.parametrize("query", ["quality", "image"])
def test_guided_stage(query):
    stage = filled(GuidedStage(DriConfig(**SMALL, tgb_query=query)))
    features, quality = values(2, 64, 8, 8), values(2, DriConfig().half, 2, 2)
    close(FoldedGuidedStage(stage, 2)(features, quality), stage(features, quality))


def test_head():
    head = filled(QualityHead(DriConfig(**SMALL)))
    tokens = values(2, 64, 64)
    close(StackedQualityHead(head)(tokens), head(tokens))


def test_division_is_exact_at_the_border():
    """Zeros are padded after both: a scale moves through padding, the mean would not."""
    convolution, std = filled(nn.Conv2d(3, 4, 3, padding=1, bias=False)), values(3, 1, 1).abs() + 0.1
    x = values(2, 3, 6, 6)
    close(fold_division(convolution, std)(x), convolution(x / std))


CONFIGS = {
    "default": {},
    "the other way": {"tgb_query": "image", "quality_half": "second", "restorer_input": "normalised"},
    "less guidance": {"extractor_taps": False, "modulation": False, "guided_stages": 1, "swin_depths": (2,)},
    "larger restorer": {"full_restormer": True, "decoder_in_score": False},
}


@pytest.mark.parametrize("choices", CONFIGS.values(), ids=CONFIGS)
def test_every_configuration(choices):
    network = filled(Dri(DriConfig(**SMALL, **choices)))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    deployed = deploy(network)
    image = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    expected = network(image, restore=True)
    actual = deployed(image, restore=True)
    close(actual.score, expected.score)
    close(actual.restored, expected.restored)
    close(deployed(image).score, expected.score)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_no_batch_normalisation_is_left():
    deployed = deploy(Dri(DriConfig(**SMALL)))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in deployed.modules())
