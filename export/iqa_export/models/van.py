"""VAN, the visual attention network (Guo et al., arXiv 2202.09741): convolutions whose output gates their input.

Parameter names are those of the published ImageNet checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from iqa_export.models.restormer import ChannelNorm
from iqa_export.models.stochastic_depth import StochasticDepth

_LAYER_SCALE = 1e-2
"""Initial factor of every residual branch, the authors'."""
_NORM_EPSILON = 1e-6
EXPANSIONS = (8, 8, 4, 4)


@dataclass(frozen=True)
class VanSize:
    """Channels and blocks of the four stages."""

    channels: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]


SIZES = {
    "b0": VanSize((32, 64, 160, 256), (3, 3, 5, 2)),
    "b1": VanSize((64, 128, 320, 512), (2, 2, 4, 2)),
    "b2": VanSize((64, 128, 320, 512), (3, 3, 12, 3)),
    "b3": VanSize((64, 128, 320, 512), (3, 5, 27, 3)),
}


class LargeKernelAttention(nn.Module):
    """Gate a map by itself, filtered as if by a 21 x 21 kernel: 5 x 5, 7 x 7 of dilation 3, then across channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv_spatial = nn.Conv2d(dim, dim, 7, padding=9, groups=dim, dilation=3)
        self.conv1 = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        gate: Tensor = self.conv1(self.conv_spatial(self.conv0(x)))
        return x * gate


class SpatialAttention(nn.Module):
    """Large-kernel attention between two projections, behind a residual."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj_1 = nn.Conv2d(dim, dim, 1)
        self.activation = nn.GELU()
        self.spatial_gating_unit = LargeKernelAttention(dim)
        self.proj_2 = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        mixed: Tensor = self.proj_2(self.spatial_gating_unit(self.activation(self.proj_1(x))))
        return mixed + x


class DepthwiseConvolution(nn.Module):
    """A 3 x 3 convolution of each channel by itself."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        filtered: Tensor = self.dwconv(x)
        return filtered


class ConvolutionalMlp(nn.Module):
    """Expand the channels, filter each, GELU, reduce."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.dwconv = DepthwiseConvolution(hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        y: Tensor = self.fc2(self.act(self.dwconv(self.fc1(x))))
        return y


class VanBlock(nn.Module):
    """Attention and MLP, each behind batch normalisation, a factor per channel, and a residual."""

    def __init__(self, dim: int, hidden: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(dim)
        self.attn = SpatialAttention(dim)
        self.norm2 = nn.BatchNorm2d(dim)
        self.mlp = ConvolutionalMlp(dim, hidden)
        self.layer_scale_1 = nn.Parameter(torch.full((dim,), _LAYER_SCALE))
        self.layer_scale_2 = nn.Parameter(torch.full((dim,), _LAYER_SCALE))
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        x = x + self.drop_path(self.layer_scale_1[:, None, None] * self.attn(self.norm1(x)))
        y: Tensor = x + self.drop_path(self.layer_scale_2[:, None, None] * self.mlp(self.norm2(x)))
        return y


class PatchEmbedding(nn.Module):
    """An overlapping strided convolution, batch-normalised."""

    def __init__(self, channels: int, dim: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, kernel, stride, kernel // 2)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, dim, H / stride, W / stride)."""
        embedded: Tensor = self.norm(self.proj(x))
        return embedded


class Van(nn.Module):
    """The trunk without classifier.

    Parameters
    ----------
    size
        One of `SIZES`.
    drop_path
        Probability that training leaves a branch of the last block out; it grows linearly from 0 in the first.
    """

    def __init__(self, size: VanSize, drop_path: float = 0.0) -> None:
        super().__init__()
        self.channels = size.channels
        count = sum(size.depths)
        rates = (drop_path * index / (count - 1) for index in range(count))
        previous = 3
        for stage, (dim, depth, expansion) in enumerate(zip(size.channels, size.depths, EXPANSIONS, strict=True), 1):
            kernel, stride = (7, 4) if stage == 1 else (3, 2)
            setattr(self, f"patch_embed{stage}", PatchEmbedding(previous, dim, kernel, stride))
            blocks = nn.ModuleList(VanBlock(dim, expansion * dim, next(rates)) for _ in range(depth))
            setattr(self, f"block{stage}", blocks)
            setattr(self, f"norm{stage}", ChannelNorm(dim, eps=_NORM_EPSILON))
            previous = dim

    def stage(self, index: int, x: Tensor) -> Tensor:
        """Run one stage, 1 to 4, on the map of the stage before, or on (B, 3, H, W)."""
        x = getattr(self, f"patch_embed{index}")(x)
        for block in getattr(self, f"block{index}"):
            x = block(x)
        normalised: Tensor = getattr(self, f"norm{index}")(x)
        return normalised

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the stage maps of (B, 3, H, W), of VAN-B2 64, 128, 320 and 512 channels at strides 4, 8, 16 and 32."""
        maps = []
        for index in range(1, len(self.channels) + 1):
            x = self.stage(index, x)
            maps.append(x)
        return maps
