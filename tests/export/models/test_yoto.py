"""What training alone does in YOTO: dropout and its absence."""

import pytest
import torch
from torch import nn

from iqa_export.models.yoto import Attention, ChannelAttention, Yoto
from iqa_export.systems.yoto import YotoSystem

FUSED = 1e-6
"""Absolute, of values around 0.1: the attention that never holds its logits sums in another order, in float32."""


@pytest.mark.parametrize("queries", [5, 9], ids=["few queries", "more queries than features"])
def test_dropout_leaves_out_mixed_values_in_training_alone(queries):
    torch.manual_seed(0)
    attention = Attention(8, 0.25)
    x, y = torch.randn(2, 3, queries, 8), torch.randn(2, 3, 4, 8)
    whole = attention.eval()(x, y)
    dropped = attention.train()(x, y)
    out = dropped == 0
    assert out.any()
    torch.testing.assert_close(dropped[~out], whole[~out] / 0.75, atol=FUSED, rtol=0)
    attention.dropout.p = 0.0
    torch.testing.assert_close(attention(x, y), whole, atol=FUSED, rtol=0)


def test_channel_attention_drops_a_tenth_before_the_gate():
    torch.manual_seed(0)
    attention = ChannelAttention(9)
    x = torch.randn(64, 16, 9)
    with torch.no_grad():
        out = attention.train()(x) == 2 * x.transpose(1, 2)
    # Five standard deviations of a binomial.
    assert out.float().mean().item() == pytest.approx(0.1, abs=5 * (0.09 / out.numel()) ** 0.5)


def test_dropout_is_where_its_setting_says():
    network = Yoto("edge", attention_dropout=0.3)
    rates = {name: module.p for name, module in network.named_modules() if isinstance(module, nn.Dropout)}
    assert {rate for name, rate in rates.items() if name.startswith(("channel_attention.", "head."))} == {0.1}
    others = {name: rate for name, rate in rates.items() if not name.startswith(("channel_attention.", "head."))}
    # Over the whole map of three scales, in quadrants of the two finer ones, and of three pairs of scales.
    assert len(others) == 3 + 2 + 3
    assert set(others.values()) == {0.3}


def test_a_rate_of_zero_draws_nothing():
    """So that what was trained without it can be trained again, bit for bit."""
    attention = Attention(8, 0.0).train()
    before = torch.get_rng_state()
    attention(torch.randn(1, 9, 8, generator=torch.Generator()), torch.ones(1, 4, 8))
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_exported_has_the_same_entries_and_none_of_it():
    trained, exported = Yoto("edge", attention_dropout=0.1), YotoSystem().build("edge")
    assert trained.state_dict().keys() == exported.state_dict().keys()
    exported.load_state_dict(trained.state_dict())
    crops = torch.rand(2, 2, 3, 224, 224)
    with torch.no_grad():
        ours, theirs = trained.eval()(*crops, 1), exported(*crops, 1)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
