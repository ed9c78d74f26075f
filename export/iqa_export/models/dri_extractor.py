"""DRI-IQA's extractor of two representations ("DRE-Net"), and what contrastive training projects them with."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from iqa_export.models.containers import Layers
from iqa_export.models.dri_config import EXTRACTOR_STRIDE, DriConfig
from iqa_export.models.mobilenet import PYRAMID_CHANNELS, PYRAMID_STRIDES, MobileNetV2Pyramid
from iqa_export.models.resnet import ResNet50


class Representations(NamedTuple):
    """What the extractor makes of a batch of images.

    Attributes
    ----------
    taps
        Maps for the restorer, finest first: of `DriConfig.tap_channels`.
    quality_map
        (B, half, H / 32, W / 32).
    quality, degradation
        (B, half), the spatial means of the two halves.
    """

    taps: tuple[Tensor, Tensor, Tensor]
    quality_map: Tensor
    quality: Tensor
    degradation: Tensor


class Neck(nn.Module):
    """One map of those of a small trunk, whose last one alone holds too little of grain and blur.

    Each is projected and made positive before it is averaged to the last one's resolution: grain has no mean, but that
    of its size has one.
    """

    def __init__(self, config: DriConfig) -> None:
        super().__init__()
        width = config.half // 2
        self.levels = Layers[nn.Sequential](
            nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for channels in PYRAMID_CHANNELS
        )
        self.mix = nn.Conv2d(len(PYRAMID_CHANNELS) * width, 2 * config.half, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Map those of (B, 3, H, W) to (B, 2 half, H / 32, W / 32)."""
        averaged = [
            functional.avg_pool2d(level(each), EXTRACTOR_STRIDE // stride)
            for level, each, stride in zip(self.levels, maps, PYRAMID_STRIDES, strict=True)
        ]
        mixed: Tensor = self.mix(torch.cat(averaged, 1))
        return mixed


class DualRepresentationExtractor(nn.Module):
    """A trunk whose last map is split on its channels into a quality and a degradation half.

    Averaging is linear, so a loss on the two vectors also trains the maps they are the means of.
    """

    mean: Tensor
    std: Tensor | None

    def __init__(self, config: DriConfig) -> None:
        super().__init__()
        self.quality_first = config.quality_half == "first"
        self.trunk: ResNet50 | MobileNetV2Pyramid
        self.neck: Neck | None
        if config.trunk == "mobilenet_v2":
            self.trunk, self.neck = MobileNetV2Pyramid(), Neck(config)
        else:
            self.trunk, self.neck = ResNet50(), None
        for name, values in (("mean", config.extractor_mean), ("std", config.extractor_std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def normalise(self, image: Tensor) -> Tensor:
        """Normalise RGB in [0, 1], (B, 3, H, W); without `std` the first convolutions divide."""
        centred = image - self.mean
        return centred if self.std is None else centred / self.std

    def forward(self, image: Tensor) -> Representations:
        """Represent RGB images in [0, 1], (B, 3, H, W)."""
        return self.represent(self.normalise(image))

    def represent(self, normalised: Tensor) -> Representations:
        """Represent normalised images."""
        taps, last = self._maps(normalised)
        halves = last.chunk(2, 1)
        quality_map, degradation_map = halves if self.quality_first else halves[::-1]
        means = quality_map.mean((2, 3)), degradation_map.mean((2, 3))
        return Representations(taps, quality_map, *means)

    def _maps(self, normalised: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        if isinstance(self.trunk, ResNet50):
            stem = self.trunk.stem(normalised)
            stage1, stage2, _, stage4 = self.trunk.stages(stem)
            return (stem, stage1, stage2), stage4
        maps = self.trunk(normalised)
        return (maps[0], maps[1], maps[2]), maps[-1] if self.neck is None else self.neck(maps)


class Projector(nn.Module):
    """One half of the representation to the unit vectors that contrastive training compares; no part of scoring."""

    def __init__(self, config: DriConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.half, config.half)
        self.last = nn.Linear(config.half, config.projection)

    def forward(self, representation: Tensor) -> Tensor:
        """Map (B, half) to (B, projection), both L2-normalised."""
        hidden = torch.relu(self.hidden(functional.normalize(representation, dim=-1)))
        return functional.normalize(self.last(hidden), dim=-1)
