"""Swin-T encoder (Liu et al., arXiv 2103.14030) in the dense-prediction form.

It differs from the classification form in two ways that change numbers: every odd block shifts its windows, also in
the last stage where one window covers the map, and each stage map has a LayerNorm of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from iqa_export.models import windows
from iqa_export.models.containers import Layers
from iqa_export.models.stochastic_depth import StochasticDepth

EMBED = 96
DEPTHS = (2, 2, 6, 2)
HEADS = (3, 6, 12, 24)
STAGE_CHANNELS = (96, 192, 384, 768)
STAGE_SIZES = (56, 28, 14, 7)
WINDOW = 7
_SHIFT = WINDOW // 2
_MASKED = -100.0


def relative_position_index(window: int) -> Tensor:
    """Index the (2 window - 1)^2 relative positions for every pair of tokens: (window^2, window^2) int64."""
    axis = torch.arange(window)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    rows, columns = rows.flatten(), columns.flatten()
    row_offset = rows[:, None] - rows[None, :] + window - 1
    column_offset = columns[:, None] - columns[None, :] + window - 1
    return row_offset * (2 * window - 1) + column_offset


def shifted_window_mask(size: int, window: int, shift: int) -> Tensor:
    """Additive mask (windows, window^2, window^2) between tokens that only the cyclic shift made neighbours."""
    bands = torch.zeros(size, dtype=torch.int64)
    bands[size - window : size - shift] = 1
    bands[size - shift :] = 2
    regions = windows.cut((bands[:, None] * 3 + bands[None, :])[None, ..., None], size, size // window)[0, ..., 0]
    apart = regions[:, :, None] != regions[:, None, :]
    return torch.where(apart, _MASKED, 0.0)


class WindowAttention(nn.Module):
    """Multi-head attention inside windows with a learned relative-position bias.

    Parameters
    ----------
    dim, heads, window
        Channels, heads, side of the window in tokens.
    mask
        Additive mask (windows of the map, tokens, tokens), or None.
    """

    relative_position_index: Tensor
    mask: Tensor | None

    def __init__(self, dim: int, heads: int, window: int, mask: Tensor | None) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_position_index(window), persistent=False)
        self.register_buffer("mask", mask, persistent=False)

    def position_bias(self) -> Tensor:
        """Bias and mask together: (windows of the map or 1, heads, tokens, tokens)."""
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]
        return bias if self.mask is None else bias + self.mask[:, None]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, windows, tokens, dim) to the same shape."""
        _, count, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(-1, count, tokens, 3, self.heads, dim // self.heads).permute(3, 0, 1, 4, 2, 5)
        logits = (qkv[0] * self.scale) @ qkv[1].transpose(-2, -1) + self.position_bias()
        mixed = logits.softmax(-1) @ qkv[2]
        projected: Tensor = self.proj(mixed.transpose(2, 3).reshape(-1, count, tokens, dim))
        return projected


class Mlp(nn.Module):
    """Two linear layers with the exact (erf) GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        y: Tensor = self.fc2(self.act(self.fc1(x)))
        return y


class SwinBlock(nn.Module):
    """Pre-norm window attention and MLP, each behind a residual.

    Parameters
    ----------
    dim, heads, size
        Channels, heads, side of the map.
    shift
        By how many tokens the windows move, cyclically; 0 leaves them in place.
    window
        Side of a window.
    hidden
        Features inside the MLP; None for the usual four times `dim`.
    drop_path
        Probability that training leaves a branch of a sample out.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        size: int,
        shift: int,
        *,
        window: int = WINDOW,
        hidden: int | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.size, self.shift, self.windows = size, shift, size // window
        self.norm1 = nn.LayerNorm(dim)
        mask = shifted_window_mask(size, window, shift) if shift else None
        self.attn = WindowAttention(dim, heads, window, mask)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim if hidden is None else hidden)
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, size, size, dim) to the same shape."""
        y = self.norm1(x)
        if self.shift:
            y = y.roll((-self.shift, -self.shift), (1, 2))
        y = self.attn(windows.cut(y, self.size, self.windows))
        y = windows.join(y, self.size, self.windows).reshape(x.shape)
        if self.shift:
            y = y.roll((self.shift, self.shift), (1, 2))
        x = x + self.drop_path(y)
        mixed: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return mixed


class PatchMerging(nn.Module):
    """Halve the resolution: 2 x 2 neighbours are concatenated, normalised and projected to twice the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H / 2, W / 2, 2 C)."""
        corners = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        merged: Tensor = self.reduction(self.norm(torch.cat(corners, -1)))
        return merged


class SwinStage(nn.Module):
    """Blocks of one resolution, odd ones shifted, and the merging to the next resolution (not after the last stage).

    Parameters
    ----------
    stage
        Which, from 0.
    drop_paths
        Of each block, the `drop_path` of `SwinBlock`.
    """

    def __init__(self, stage: int, drop_paths: Sequence[float]) -> None:
        super().__init__()
        dim, size = STAGE_CHANNELS[stage], STAGE_SIZES[stage]
        self.blocks = Layers[SwinBlock](
            SwinBlock(dim, HEADS[stage], size, _SHIFT * (index % 2), drop_path=drop_path)
            for index, drop_path in enumerate(drop_paths)
        )
        self.downsample: nn.Module = nn.Identity() if stage == len(DEPTHS) - 1 else PatchMerging(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of the stage, before merging."""
        for block in self.blocks:
            x = block(x)
        return x


class PatchEmbedding(nn.Module):
    """Project non-overlapping 4 x 4 pixels to tokens and normalise them."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, EMBED, 4, 4)
        self.norm = nn.LayerNorm(EMBED)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, H / 4, W / 4, 96)."""
        tokens: Tensor = self.norm(self.proj(image).permute(0, 2, 3, 1))
        return tokens


class SwinT(nn.Module):
    """Swin-T for 224 x 224 crops; parameter names are those of the published ImageNet checkpoint.

    Parameters
    ----------
    drop_path
        Probability that training leaves a branch of the last block out; it rises linearly from 0 in the first, as in
        Swin's own training.
    """

    def __init__(self, drop_path: float = 0.0) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding()
        blocks = sum(DEPTHS)
        rates = [drop_path * block / (blocks - 1) for block in range(blocks)]
        ends = accumulate(DEPTHS)
        self.layers = Layers[SwinStage](
            SwinStage(stage, rates[end - depth : end])
            for stage, (end, depth) in enumerate(zip(ends, DEPTHS, strict=True))
        )
        for stage, channels in enumerate(STAGE_CHANNELS):
            setattr(self, f"norm{stage}", nn.LayerNorm(channels))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the stage maps of (B, 3, 224, 224): 96 x 56 x 56, 192 x 28 x 28, 384 x 14 x 14, 768 x 7 x 7."""
        x = self.patch_embed(image)
        maps = []
        for stage, layer in enumerate(self.layers):
            x = layer(x)
            maps.append(getattr(self, f"norm{stage}")(x).permute(0, 3, 1, 2))
            x = layer.downsample(x)
        return maps
