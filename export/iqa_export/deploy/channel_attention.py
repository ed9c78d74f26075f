"""Channel attention of YOTO for less work: folded products, and low rank where the channels come from few features.

The input X, 768 x N, of scale i is a 1 x 1 convolution of a stage map with C channels: X = E m with E = [We | be],
768 x r, and m = [stage map; row of ones], r x N, r = C + 1. With M and c of `iqa_export.deploy.attention`,

    logits = X M X^T + 1 (X c)^T = (E G + 1 u) E^T,    G = m M m^T,    u = (m c)^T

    A (X Wv^T + 1 bv^T) = (A E)(m Wv^T) + 1 bv^T        because every row of A sums to one

and the N x N projections run on r rows instead of 768: 97 and 193 for the two finest scales of Swin-T. `LowRank` does
that; `Folded` is for the scales where r is not small, `Normalised` for layouts with a LayerNorm on the embedding, whose
output has no low rank.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from iqa_export.deploy.attention import QueryFoldedAttention, fold_products, linear
from iqa_export.models.yoto import ChannelAttention, normalise_channels


def low_rank_pays(channels: int, positions: int, dim: int) -> bool:
    """Whether `LowRank` multiplies less than `Folded` for a stage of `channels` x `positions` embedded in `dim`."""
    rank = channels + 1
    low_rank = rank * positions * (2 * positions + rank + dim) + rank * dim * (rank + 2 * dim)
    folded = dim * positions * (2 * positions + 2 * dim)
    return low_rank < folded


class Folded(nn.Module):
    """The embedding and channel attention of one scale, with folded products."""

    def __init__(self, embed: nn.Conv2d, channel: ChannelAttention) -> None:
        super().__init__()
        self.embed = embed
        self.attention = QueryFoldedAttention(channel.attention)
        self.gate = channel.attention.gate

    def forward(self, stage: Tensor) -> Tensor:
        """Map a stage map, (B, C, size, size), to tokens, (B, N, dim)."""
        x = self.embed(stage).flatten(2)
        mixed = self.attention(self.attention.query(x), x)
        return gate_and_transpose(x, mixed, self.gate(x))


class Normalised(nn.Module):
    """`Folded` with a LayerNorm before and after the attention."""

    def __init__(
        self, embed: nn.Conv2d, channel: ChannelAttention, embed_norm: nn.LayerNorm, token_norm: nn.LayerNorm
    ) -> None:
        super().__init__()
        self.embed, self.embed_norm, self.token_norm = embed, embed_norm, token_norm
        self.attention = QueryFoldedAttention(channel.attention)
        self.gate = channel.attention.gate

    def forward(self, stage: Tensor) -> Tensor:
        """Map a stage map, (B, C, size, size), to tokens, (B, N, dim)."""
        x = normalise_channels(self.embed_norm, self.embed(stage).flatten(2))
        mixed = self.attention(self.attention.query(x), x)
        tokens: Tensor = self.token_norm(gate_and_transpose(x, mixed, self.gate(x)))
        return tokens


class LowRank(nn.Module):
    """The embedding and channel attention of one scale, through the r x r matrix G."""

    embedding: Tensor
    value_bias: Tensor

    def __init__(self, embed: nn.Conv2d, channel: ChannelAttention) -> None:
        super().__init__()
        attention = channel.attention
        product, row = fold_products(attention)
        if embed.bias is None:
            raise ValueError("the embedding of a scale has a bias")
        embedding = torch.cat([embed.weight.detach().flatten(1), embed.bias.detach()[:, None]], 1)
        self.register_buffer("embedding", embedding)
        dtype = attention.value.weight.dtype
        self.product = linear(product.T, None, dtype)
        self.row = linear(row[None], None, dtype)
        self.value = linear(attention.value.weight.detach(), None, dtype)
        self.register_buffer("value_bias", attention.value.bias.detach())
        self.gate = attention.gate

    def forward(self, stage: Tensor) -> Tensor:
        """Map a stage map, (B, C, size, size), to tokens, (B, N, dim)."""
        flat = stage.flatten(2)
        features = nn.functional.pad(flat, (0, 0, 0, 1), value=1.0)
        x = self.embedding @ features
        gram = self.product(features) @ features.transpose(1, 2)
        logits = (self.embedding @ gram + self.row(features).transpose(1, 2)) @ self.embedding.T
        mixed = (logits.softmax(-1) @ self.embedding) @ self.value(features) + self.value_bias
        return gate_and_transpose(x, mixed, self.gate(x))


def gate_and_transpose(x: Tensor, mixed: Tensor, gate: Tensor) -> Tensor:
    """Finish as published: reinterpret `mixed`, gate it, add twice the input, make positions the tokens."""
    mixed = mixed.transpose(1, 2).reshape(x.shape)
    return (mixed * nn.functional.gelu(gate) + 2 * x).transpose(1, 2)
