"""Fusion of two maps of one shape, each weighted per channel and pixel; weights of a pair add up to two."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AdaptiveFusion(nn.Module):
    """Weights of both maps from a small network on both, normalised by softmax.

    Parameters
    ----------
    dim
        Channels of each map.
    reduction
        By which the network's hidden layer is smaller than `dim`.
    """

    def __init__(self, dim: int, reduction: int) -> None:
        super().__init__()
        self.dim = dim
        self.reduce = nn.Conv2d(2 * dim, dim // reduction, 1, bias=False)
        self.norm = nn.BatchNorm2d(dim // reduction)
        self.weigh = nn.Conv2d(dim // reduction, 2 * dim, 3, padding=1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Fuse two maps (B, dim, H, W) into one."""
        hidden = torch.relu(self.norm(self.reduce(torch.cat([x, y], 1))))
        weights = self.weigh(hidden).unflatten(1, (2, self.dim)).softmax(1)
        fused: Tensor = 2 * (weights[:, 0] * x + weights[:, 1] * y)
        return fused


class ChannelContext(nn.Sequential):
    """Reduce, ReLU, expand the channels, each batch-normalised: one scale of `AttentionalFusion`."""

    def __init__(self, dim: int, reduction: int) -> None:
        super().__init__(
            nn.Conv2d(dim, dim // reduction, 1),
            nn.BatchNorm2d(dim // reduction),
            nn.ReLU(),
            nn.Conv2d(dim // reduction, dim, 1),
            nn.BatchNorm2d(dim),
        )


class AttentionalFusion(nn.Module):
    """Weights from the sum of the maps, at each pixel and over the whole map ("AFF", Dai et al., arXiv 2009.14082).

    Training needs two items a batch: batch normalisation of the whole map's context sees one pixel each.

    Parameters
    ----------
    dim, reduction
        As those of `AdaptiveFusion`.
    """

    def __init__(self, dim: int, reduction: int) -> None:
        super().__init__()
        self.local = ChannelContext(dim, reduction)
        self.whole = ChannelContext(dim, reduction)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Fuse two maps (B, dim, H, W) into one."""
        total = x + y
        weight = torch.sigmoid(self.local(total) + self.whole(total.mean((2, 3), keepdim=True)))
        return 2 * x * weight + 2 * y * (1 - weight)
