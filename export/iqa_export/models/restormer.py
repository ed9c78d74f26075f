"""Blocks of Restormer (Zamir et al., arXiv 2111.09881): attention between channels, gated feed-forward, resampling.

No convolution has a bias; maps are (B, C, H, W) throughout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of a map."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TransposedAttention(nn.Module):
    """Multi-head attention with channels as tokens and pixels as features ("MDTA").

    Queries and keys have unit length over the pixels; a learned temperature for each head takes the place of the usual
    scale.

    Parameters
    ----------
    dim, heads
        Channels, and the groups of them that attend to each other.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.depthwise = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=False)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.project = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        _, dim, height, width = x.shape
        qkv = self.depthwise(self.qkv(x)).reshape(-1, 3, self.heads, dim // self.heads, height * width)
        query, key, value = qkv.unbind(1)
        logits = functional.normalize(query, dim=-1) @ functional.normalize(key, dim=-1).transpose(-2, -1)
        mixed = (logits * self.temperature).softmax(-1) @ value
        projected: Tensor = self.project(mixed.reshape(-1, dim, height, width))
        return projected


class GatedFeedForward(nn.Module):
    """Two depthwise-filtered projections, one gating the other through GELU ("GDFN")."""

    def __init__(self, dim: int, expansion: float) -> None:
        super().__init__()
        hidden = int(expansion * dim)
        self.expand = nn.Conv2d(dim, 2 * hidden, 1, bias=False)
        self.depthwise = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project = nn.Conv2d(hidden, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        gate, content = self.depthwise(self.expand(x)).chunk(2, 1)
        projected: Tensor = self.project(functional.gelu(gate) * content)
        return projected


class TransformerBlock(nn.Module):
    """Pre-norm transposed attention, then gated feed-forward, each behind a residual."""

    def __init__(self, dim: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(dim)
        self.attention: nn.Module = TransposedAttention(dim, heads)
        self.norm2 = ChannelNorm(dim)
        self.feed_forward: nn.Module = GatedFeedForward(dim, expansion)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        x = x + self.attention(self.norm1(x))
        y: Tensor = x + self.feed_forward(self.norm2(x))
        return y


def level(dim: int, heads: int, blocks: int, expansion: float) -> nn.Sequential:
    """Return the blocks of one resolution."""
    return nn.Sequential(*(TransformerBlock(dim, heads, expansion) for _ in range(blocks)))


def downsample(dim: int) -> nn.Sequential:
    """Return a layer to half the resolution and twice the channels."""
    return nn.Sequential(nn.Conv2d(dim, dim // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))


def upsample(dim: int) -> nn.Sequential:
    """Return a layer to twice the resolution and half the channels."""
    return nn.Sequential(nn.Conv2d(dim, 2 * dim, 3, padding=1, bias=False), nn.PixelShuffle(2))
