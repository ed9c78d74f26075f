"""ResNet-50 trunk (He et al., arXiv 1512.03385) in the "v1.5" form: the stride sits on the 3 x 3 convolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STEM_CHANNELS = 64
STAGE_CHANNELS = (256, 512, 1024, 2048)
STAGE_BLOCKS = (3, 4, 6, 3)
_EXPANSION = 4


class Bottleneck(nn.Module):
    """1 x 1 reduce, 3 x 3, 1 x 1 expand, each with batch normalisation, around a shortcut.

    Parameters
    ----------
    channels
        Input channels.
    width
        Channels of the 3 x 3 convolution; the output has four times as many.
    stride
        Stride of the 3 x 3 convolution and of the projected shortcut.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        expanded = width * _EXPANSION
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, expanded, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(expanded)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != expanded:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, expanded, 1, stride, bias=False), nn.BatchNorm2d(expanded)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, 4 width, H / stride, W / stride)."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + self.downsample(x))


class ResNet50(nn.Module):
    """The trunk without average pooling and classifier; parameter names are torchvision's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM_CHANNELS, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = STEM_CHANNELS
        for stage, (blocks, out) in enumerate(zip(STAGE_BLOCKS, STAGE_CHANNELS, strict=True), start=1):
            layers = []
            for index in range(blocks):
                stride = 2 if stage > 1 and index == 0 else 1
                layers.append(Bottleneck(channels, out // _EXPANSION, stride))
                channels = out
            setattr(self, f"layer{stage}", nn.Sequential(*layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the four stage maps of (B, 3, H, W): 256, 512, 1024, 2048 channels at strides 4, 8, 16, 32."""
        return self.stages(self.stem(x))

    def stem(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, 64, H / 2, W / 2), the map before max-pooling."""
        return torch.relu(self.bn1(self.conv1(x)))

    def stages(self, x: Tensor) -> list[Tensor]:
        """Return the four stage maps from that of the stem."""
        x = self.maxpool(x)
        maps = []
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
            maps.append(x)
        return maps
