"""MobileNetV2 trunk (Sandler et al., arXiv 1801.04381), cut after its first block at stride 32.

Parameter names are torchvision's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_BLOCKS = (
    # expansion, channels, blocks, stride of the first
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 1, 2),
)
"""Table 2 of the paper without what follows: the last blocks tell what is in a picture, hold most of the parameters
and add little to how good it looks (our choice, to keep an edge model small)."""
_STEM_CHANNELS = 32
_TAPS = (1, 3, 6, 13, 14)
"""The layers whose outputs are the last of their resolution: strides 2, 4, 8, 16, 32."""
STAGE_CHANNELS = (16 * 16 + 24 * 4 + 32, 96, 160)
PYRAMID_STRIDES = (4, 8, 16, 32)
PYRAMID_CHANNELS = (24, 32, 96, 160)
"""Of the maps that are no rearrangement, and their channels."""
_PYRAMID = ((0, 4), (4, 7), (7, 14), (14, 15))
"""First layer of each stage that ends in one of these maps, and the layer after its last."""


class InvertedResidual(nn.Module):
    """1 x 1 expand, depthwise 3 x 3, 1 x 1 project, each with batch normalisation, around a shortcut where shapes fit.

    Parameters
    ----------
    channels, out
        Input and output channels.
    stride
        Of the depthwise convolution.
    expansion
        Width of the depthwise convolution as a multiple of `channels`; 1 leaves the first convolution out.
    """

    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = channels * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [_normalised(channels, width, 1)]
        layers.append(_normalised(width, width, 3, stride, groups=width))
        layers += [nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)]
        self.conv = nn.Sequential(*layers)
        self.shortcut = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, out, H / stride, W / stride)."""
        y: Tensor = self.conv(x)
        return x + y if self.shortcut else y


class MobileNetV2(nn.Module):
    """The trunk; fine maps are rearranged onto the grid of stride 8, so that nothing they hold is lost by pooling."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_normalised(3, _STEM_CHANNELS, 3, 2)]
        channels = _STEM_CHANNELS
        for expansion, out, blocks, stride in _BLOCKS:
            for index in range(blocks):
                layers.append(InvertedResidual(channels, out, stride if index == 0 else 1, expansion))
                channels = out
        self.features = nn.Sequential(*layers)

    @property
    def stem(self) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
        """The first convolution and the normalisation after it."""
        convolution, norm = list(self.features[0].children())[:2]
        if not isinstance(convolution, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
            raise TypeError("the trunk's normalisation is folded; take the network as published")
        return convolution, norm

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return three maps of (B, 3, H, W): 384 channels at stride 8 (of strides 2, 4 and 8), 96 at 16, 160 at 32."""
        taps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in _TAPS:
                taps.append(x)
        fine = [nn.functional.pixel_unshuffle(taps[0], 4), nn.functional.pixel_unshuffle(taps[1], 2), taps[2]]
        return [torch.cat(fine, 1), taps[3], taps[4]]


class MobileNetV2Pyramid(MobileNetV2):
    """The trunk, its maps as they are."""

    def stage(self, index: int, x: Tensor) -> Tensor:
        """Run one stage, 1 to 4, on the map of the stage before, or on (B, 3, H, W)."""
        for layer in range(*_PYRAMID[index - 1]):
            x = self.features[layer](x)
        return x

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return four maps of (B, 3, H, W): 24, 32, 96 and 160 channels at strides 4, 8, 16 and 32."""
        maps = []
        for index in range(1, len(_PYRAMID) + 1):
            x = self.stage(index, x)
            maps.append(x)
        return maps


def _normalised(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU6())
