"""Scale Swin blocks of MANIQA (Yang et al., arXiv 2204.08958): Swin layers that end in a convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from iqa_export.models.containers import Layers
from iqa_export.models.swin import SwinBlock


class ScaleSwinLayer(nn.Module):
    """Swin blocks, every odd one with shifted windows, then a 3 x 3 convolution and ReLU.

    Parameters
    ----------
    dim, heads, size, window, hidden
        Channels, heads, side of the map, side of a window, features inside the MLPs.
    drop_paths
        Probability of dropping a branch, for each block.
    """

    def __init__(self, dim: int, heads: int, size: int, window: int, hidden: int, drop_paths: Sequence[float]) -> None:
        super().__init__()
        self.blocks = Layers[SwinBlock](
            SwinBlock(dim, heads, size, window // 2 * (index % 2), window=window, hidden=hidden, drop_path=drop_path)
            for index, drop_path in enumerate(drop_paths)
        )
        self.convolution = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, size, size) to the same shape."""
        y = x.permute(0, 2, 3, 1)
        for block in self.blocks:
            y = block(y)
        return torch.relu(self.convolution(y.permute(0, 3, 1, 2)))


class ScaleSwin(nn.Module):
    """Layers behind residuals, each layer's output multiplied by `scale` before it is added.

    Parameters
    ----------
    dim, heads, size, window, hidden
        As those of `ScaleSwinLayer`.
    depths
        Blocks of each layer.
    scale
        Factor of every layer's output.
    dropout
        Of the incoming map.
    drop_path
        Probability of dropping a branch of the last block; it grows linearly from 0 in the first.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        size: int,
        *,
        window: int,
        hidden: int,
        depths: Sequence[int],
        scale: float,
        dropout: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        blocks = sum(depths)
        drop_paths = iter(drop_path * index / max(blocks - 1, 1) for index in range(blocks))
        self.layers = Layers[ScaleSwinLayer](
            ScaleSwinLayer(dim, heads, size, window, hidden, [next(drop_paths) for _ in range(depth)])
            for depth in depths
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, size, size) to the same shape."""
        x = self.dropout(x)
        for layer in self.layers:
            x = self.scale * layer(x) + x
        return x
