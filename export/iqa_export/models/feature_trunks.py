"""The convolutions of AlexNet (arXiv 1404.5997) and VGG16 (arXiv 1409.1556), cut where metrics look at their features.

The names of layers inside a stage are their numbers in torchvision's ``features``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

ALEXNET_CHANNELS = (64, 192, 384, 256, 256)
VGG16_CHANNELS = (64, 128, 256, 512, 512)
_VGG16_CONVOLUTIONS = (2, 2, 3, 3, 3)


class FeatureTrunk(nn.Module):
    """Stages in a row, each of which ends in a rectifier whose output is looked at.

    Parameters
    ----------
    stages
        In their order.
    """

    def __init__(self, stages: list[nn.Sequential]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the output of every stage for (B, 3, H, W): (B, C, h, w) each."""
        taps = []
        for stage in self.stages:
            x = stage(x)
            taps.append(x)
        return taps


def alexnet() -> FeatureTrunk:
    """Return the five convolutions of AlexNet, one a stage; both sides of a picture have 31 pixels or more.

    The second pooling has no place on less: its input is a quarter, then half of the picture, without padding.
    """
    convolutions = [
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.Conv2d(256, 256, 3, padding=1),
    ]
    stages, number = [], 0
    for index, convolution in enumerate(convolutions):
        layers = [nn.MaxPool2d(3, 2)] if index in (1, 2) else []
        stages.append(_numbered([*layers, convolution, nn.ReLU()], number))
        number += len(stages[-1])
    return FeatureTrunk(stages)


def vgg16(pooling: Callable[[int], nn.Module]) -> FeatureTrunk:
    """Return the thirteen convolutions of VGG16 in five stages.

    Parameters
    ----------
    pooling
        Makes what halves the sides before each stage but the first, for a number of channels.
    """
    stages, number, channels = [], 0, 3
    for index, (width, count) in enumerate(zip(VGG16_CHANNELS, _VGG16_CONVOLUTIONS, strict=True)):
        layers: list[nn.Module] = [] if index == 0 else [pooling(channels)]
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        stages.append(_numbered(layers, number))
        number += len(layers)
    return FeatureTrunk(stages)


def _numbered(layers: list[nn.Module], start: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict((str(start + index), layer) for index, layer in enumerate(layers)))
