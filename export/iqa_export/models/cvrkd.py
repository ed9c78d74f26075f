"""CVRKD-IQA: quality beside a reference of other content (Yin et al., AAAI 2022, arXiv 2202.13123), as published.

Teacher and student are the same network; the teacher's reference is the aligned pristine original, the student's any
clean photograph. `iqa_export.deploy.cvrkd` computes the same function with less work.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from iqa_export.models import resnet
from iqa_export.models.containers import Layers

CROP = 224
CROPS = 10
"""Crops of one image; they are stacked on the channels, so the number is part of the network."""
STAGE_DIM = 64
GRID = 7
FEATURES = len(resnet.STAGE_CHANNELS) * CROPS * STAGE_DIM
DIM = 256
DISTORTED_DEPTH = 9
DIFFERENCE_DEPTH = 18
_EXPANSION = 4


class CvrkdOutput(NamedTuple):
    """Scores of a batch of images.

    Attributes
    ----------
    score
        (B,).
    distorted_tokens, difference_tokens
        Output of each mixer block, (blocks, B, 49, 256); distillation compares them.
    """

    score: Tensor
    distorted_tokens: Tensor
    difference_tokens: Tensor


class MixerBlock(nn.Module):
    """MLP-mixer block: mix the 49 tokens, then the 256 features, each pre-norm with a residual."""

    def __init__(self) -> None:
        super().__init__()
        tokens = GRID * GRID
        self.token_norm = nn.LayerNorm(DIM)
        self.token_mlp = nn.Sequential(
            nn.Conv1d(tokens, _EXPANSION * tokens, 1), nn.GELU(), nn.Conv1d(_EXPANSION * tokens, tokens, 1)
        )
        self.channel_norm = nn.LayerNorm(DIM)
        self.channel_mlp = nn.Sequential(nn.Linear(DIM, _EXPANSION * DIM), nn.GELU(), nn.Linear(_EXPANSION * DIM, DIM))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 49, 256) to the same shape."""
        x = x + self.token_mlp(self.token_norm(x))
        mixed: Tensor = x + self.channel_mlp(self.channel_norm(x))
        return mixed


class Mixer(nn.Module):
    """A linear layer into 256 features, `depth` mixer blocks, LayerNorm, mean over the tokens."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, DIM)
        self.blocks = Layers[MixerBlock](MixerBlock() for _ in range(depth))
        self.norm = nn.LayerNorm(DIM)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, 2560, 7, 7) to a vector (B, 256) and the blocks' outputs (depth, B, 49, 256)."""
        x = self.embed(features.flatten(2).transpose(1, 2))
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return self.norm(x).mean(1), torch.stack(outputs)


class Cvrkd(nn.Module):
    """The whole network."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = resnet.ResNet50()
        self.project = Layers[nn.Conv2d](nn.Conv2d(channels, STAGE_DIM, 1) for channels in resnet.STAGE_CHANNELS)
        self.distorted_mixer = Mixer(DISTORTED_DEPTH)
        self.difference_mixer = Mixer(DIFFERENCE_DEPTH)
        self.hidden = nn.Linear(2 * DIM, DIM)
        self.last = nn.Linear(DIM, 1)

    def features(self, crops: Tensor) -> Tensor:
        """Encode the crops of each image, (B, 10, 3, 224, 224), to (B, 2560, 7, 7): stage, crop, channel."""
        stages = []
        for stage, project in zip(self.trunk(crops.flatten(0, 1)), self.project, strict=True):
            pooled = nn.functional.adaptive_avg_pool2d(project(stage), GRID)
            stages.append(pooled.reshape(-1, CROPS * STAGE_DIM, GRID, GRID))
        return torch.cat(stages, 1)

    def forward(self, image: Tensor, reference: Tensor) -> CvrkdOutput:
        """Score crops of images against crops of their references, each (B, 10, 3, 224, 224), ImageNet-normalised."""
        distorted = self.features(image)
        difference = self.features(reference) - distorted
        distorted_vector, distorted_tokens = self.distorted_mixer(distorted)
        difference_vector, difference_tokens = self.difference_mixer(difference)
        score = self.last(self.hidden(torch.cat([distorted_vector, difference_vector], 1))).squeeze(-1)
        return CvrkdOutput(score, distorted_tokens, difference_tokens)
