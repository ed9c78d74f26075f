"""DRI-IQA for less work: the function of `iqa_export.models.dri`, 34 instead of 37 GMAC a crop.

1. Batch normalisation folded into the extractor's convolutions (`iqa_export.deploy.batchnorm`), and the division by
   the standard deviation into the first ones. The subtraction of the mean stays: those convolutions pad with zeros
   after it, so that a bias would be wrong at the border.
2. Guidance with folded products of low rank (`iqa_export.deploy.guidance`).
3. Restormer's blocks with folded attention, reductions inside the upsampling (`iqa_export.deploy.restormer`).
4. The two token heads as one (`iqa_export.deploy.heads`).
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from iqa_export.deploy.batchnorm import fold_mobilenet, fold_resnet, fold_sequential
from iqa_export.deploy.guidance import FoldedGuidedStage
from iqa_export.deploy.heads import StackedHeads
from iqa_export.deploy.restormer import fold_level, fold_reduction
from iqa_export.models.dri import DecoderLevel, Dri, QualityHead, weighted_mean
from iqa_export.models.dri_config import EXTRACTOR_STRIDE
from iqa_export.models.dri_extractor import DualRepresentationExtractor
from iqa_export.models.mobilenet import MobileNetV2Pyramid


class FoldedDecoderLevel(nn.Module):
    """A level of the decoder with its reduction inside the upsampling."""

    def __init__(self, level: DecoderLevel, reduction: nn.Conv2d) -> None:
        super().__init__()
        self.up, self.skip = fold_reduction(level.up, reduction)
        self.tap = level.tap
        self.blocks = level.blocks

    def forward(self, x: Tensor, skip: Tensor, tap: Tensor) -> Tensor:
        """Map (B, 2 dim, H, W) to (B, dim, 2 H, 2 W)."""
        x = self.up(x) + self.skip(skip)
        if self.tap is not None:
            x = x + self.tap(tap)
        decoded: Tensor = self.blocks(x)
        return decoded


class StackedQualityHead(nn.Module):
    """The head with both token networks as one."""

    def __init__(self, head: QualityHead) -> None:
        super().__init__()
        self.heads = StackedHeads(head.score, head.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, T, dim) to scores, (B,)."""
        return weighted_mean(*self.heads(tokens))


def fold_division(convolution: nn.Conv2d, std: Tensor) -> nn.Conv2d:
    """Return a convolution that computes of x what `convolution` does of x / std, (channels, 1, 1).

    It may see several pixels of a channel side by side, as `torch.nn.functional.pixel_unshuffle` puts them.
    """
    folded = copy.deepcopy(convolution)
    with torch.no_grad():
        std = std.double().repeat_interleave(convolution.in_channels // len(std), 0)
        folded.weight.copy_(convolution.weight.double() / std)
    return folded


def fold_extractor(extractor: DualRepresentationExtractor) -> DualRepresentationExtractor:
    """Return a copy of the extractor without batch normalisation, and without a division by the standard deviation."""
    folded = copy.deepcopy(extractor)
    if isinstance(extractor.trunk, MobileNetV2Pyramid):
        folded.trunk = trunk = fold_mobilenet(extractor.trunk)
        stem = cast(nn.Sequential, trunk.features[0])
        if extractor.std is not None:
            stem[0] = fold_division(cast(nn.Conv2d, stem[0]), extractor.std)
    else:
        folded.trunk = fold_resnet(extractor.trunk)
        if extractor.std is not None:
            folded.trunk.conv1 = fold_division(folded.trunk.conv1, extractor.std)
    if folded.neck is not None:
        for index, level in enumerate(folded.neck.levels):
            folded.neck.levels[index] = fold_sequential(level)
    folded.std = None
    return folded


def deploy(network: Dri) -> Dri:
    """Return the deploy form of a network, which is left as it is; it scores and restores as that does."""
    config = network.config
    folded = copy.deepcopy(network).eval()
    folded.extractor = fold_extractor(folded.extractor)
    std = network.extractor.std
    if std is not None and config.restorer_input == "normalised":
        folded.encoder.embed = fold_division(folded.encoder.embed, std)
    if config.guidance == "positions":
        for index, stage in enumerate(network.guided):
            folded.guided[index] = FoldedGuidedStage(stage, config.crop // EXTRACTOR_STRIDE)
    for index, (blocks, level) in enumerate(zip(network.encoder.levels, folded.decoder, strict=True)):
        pixels = (config.crop // config.restorer_stride >> index) ** 2
        folded.encoder.levels[index] = fold_level(blocks, pixels)
        level.blocks = fold_level(level.blocks, pixels)
        if level.reduce is not None:
            folded.decoder[index] = FoldedDecoderLevel(level, level.reduce)
    folded.head = StackedQualityHead(cast(QualityHead, network.head))
    return folded
