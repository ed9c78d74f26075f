"""CVRKD-IQA for less work: the function of `iqa_export.models.cvrkd`, half of it computed once per reference.

1. Batch normalisation folded into the convolutions (`iqa_export.deploy.batchnorm`).
2. Average pooling before the 1 x 1 projections instead of after: both are linear and act on different axes, so they
   commute, and the projection runs on 7 x 7 positions.
3. The two last linear layers as one: W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2).
4. The reference enters through its features alone: `ReferenceEncoder` computes them once per reference.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from iqa_export.deploy import batchnorm
from iqa_export.deploy.attention import linear
from iqa_export.models.cvrkd import GRID, STAGE_DIM, Cvrkd, CvrkdOutput, one_by_one
from iqa_export.models.resnet import ResNet50


class ReferenceEncoder(nn.Module):
    """The crops of an image to its features; the same network serves distorted images and references."""

    def __init__(self, network: Cvrkd) -> None:
        super().__init__()
        trunk = network.trunk
        self.trunk = batchnorm.fold_resnet(trunk) if isinstance(trunk, ResNet50) else batchnorm.fold_mobilenet(trunk)
        self.project = network.project
        self.channels = network.config.crops * STAGE_DIM

    def forward(self, crops: Tensor) -> Tensor:
        """Map (B, 10, 3, 224, 224), or (B, 3, 224, 224) where crops are judged alone, to (B, features, 7, 7)."""
        stages = []
        for stage, project in zip(self.trunk(one_by_one(crops)), self.project, strict=True):
            pooled = nn.functional.avg_pool2d(stage, stage.shape[-1] // GRID)
            stages.append(project(pooled).reshape(-1, self.channels, GRID, GRID))
        return torch.cat(stages, 1)


class DeployCvrkd(nn.Module):
    """The deploy form, scoring against the reference's features."""

    def __init__(self, network: Cvrkd) -> None:
        super().__init__()
        self.encoder = ReferenceEncoder(network)
        self.distorted_mixer = network.distorted_mixer
        self.difference_mixer = network.difference_mixer
        hidden, last = network.hidden, network.last
        weight = last.weight.double() @ hidden.weight.double()
        bias = last.weight.double() @ hidden.bias.double() + last.bias.double()
        self.regressor = linear(weight, bias, last.weight.dtype)

    def forward(self, image: Tensor, reference_features: Tensor) -> CvrkdOutput:
        """Score crops of images, as `ReferenceEncoder` takes them, against features, (B or 1, features, 7, 7)."""
        distorted = self.encoder(image)
        distorted_vector, distorted_tokens = self.distorted_mixer(distorted)
        difference_vector, difference_tokens = self.difference_mixer(reference_features - distorted)
        score = self.regressor(torch.cat([distorted_vector, difference_vector], 1)).squeeze(-1)
        return CvrkdOutput(score, distorted_tokens, difference_tokens)
