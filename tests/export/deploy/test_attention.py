"""Deploy rewrites of attention change nothing beyond rounding: shown in float64, where rounding is far away."""

import pytest
import torch

from iqa_export.deploy.attention import KeyFoldedAttention, QueryFoldedAttention, fold_products
from iqa_export.deploy.channel_attention import Folded, LowRank, low_rank_pays
from iqa_export.deploy.yoto import (
    BroadcastCrossScale,
    FoldedCrossScaleAttention,
    FoldedReferenceAttention,
    FusedHead,
)
from iqa_export.models.yoto import (
    LAYOUTS,
    Attention,
    ChannelAttention,
    CrossScaleAttention,
    Head,
    ReferenceAttention,
)

LAYOUT = LAYOUTS["swin_t"]
DIM, SIZES = LAYOUT.dim, LAYOUT.sizes
FLOAT64 = 1e-12
"""Absolute, for values of about one in float64: exact algebra leaves rounding alone."""


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(3)
    with torch.no_grad():
        yield


def double(module):
    """Evaluation mode, float64, biases that matter."""
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return module.double().eval().requires_grad_(False)


def tokens(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=FLOAT64 * float(expected.abs().max()))


@pytest.mark.parametrize("queries", [5, 1])
def test_folded_products_on_either_side(queries):
    attention = double(Attention(8))
    q, k = tokens(2, queries, 8), tokens(2, 6, 8)
    expected = attention(q, k)
    folded = QueryFoldedAttention(attention)
    close(folded(folded.query(q), k), expected)
    close(KeyFoldedAttention(attention)(q, k), expected)


def test_key_bias_vanishes():
    attention = double(Attention(8))
    before = fold_products(attention)
    attention.key.bias.add_(100)
    for one, other in zip(before, fold_products(attention), strict=True):
        assert torch.equal(one, other)


def test_scale_is_inside_product_and_row():
    attention = double(Attention(8))
    product, row = fold_products(attention)
    close(product, attention.query.weight.T @ attention.key.weight / 8**0.5)
    close(row, attention.key.weight.T @ attention.query.bias / 8**0.5)


@pytest.mark.parametrize("form", [Folded, LowRank])
def test_channel_attention(form):
    size, channels = 4, 3
    embed = double(torch.nn.Conv2d(channels, DIM, 1))
    channel = double(ChannelAttention(size * size))
    stage = tokens(2, channels, size, size)
    close(form(embed, channel)(stage), channel(embed(stage).flatten(2)))


def test_low_rank_where_it_pays():
    swin = [
        low_rank_pays(channels, size * size, DIM) for channels, size in zip((96, 192, 384, 768), SIZES, strict=True)
    ]
    assert swin == [True, True, False, False]


@pytest.mark.parametrize("size", [4, 7])
def test_reference_attention(size):
    attention = double(ReferenceAttention(size, DIM))
    x, y = tokens(1, size * size, DIM), tokens(1, size * size, DIM)
    folded = FoldedReferenceAttention(attention)
    close(folded(x, folded.queries(y)), attention(x, y))


def test_cross_scale_attention():
    attention = double(CrossScaleAttention(28, 14, DIM))
    fine, coarse = tokens(1, 28 * 28, DIM), tokens(1, 14 * 14, DIM)
    close(FoldedCrossScaleAttention(attention)(fine, coarse), attention(fine, coarse))


def test_one_key_needs_no_softmax():
    attention = double(CrossScaleAttention(14, 7, DIM))
    fine, coarse = tokens(2, 14 * 14, DIM), tokens(2, 49, DIM)
    close(BroadcastCrossScale(attention)(fine, coarse), attention(fine, coarse))


def test_fused_head():
    head = double(Head(LAYOUT))
    names = [scale + scale for scale in LAYOUT.scales] + list(LAYOUT.pairs)
    maps = {name: tokens(2, SIZES[int(name[0]) - 1] ** 2, DIM) for name in names}
    for actual, expected in zip(FusedHead(head)(maps), head(maps), strict=True):
        close(actual, expected)
