"""CVRKD-IQA: quality beside a reference of other content (Yin et al., AAAI 2022, arXiv 2202.13123).

As published, or in the same form at edge size (our choice). Teacher and student are the same network; the teacher's
reference is the aligned pristine original, the student's any clean photograph. `iqa_export.deploy.cvrkd` computes the
same function with less work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from iqa_export.models import resnet
from iqa_export.models.containers import Layers
from iqa_export.models.mobilenet import PYRAMID_CHANNELS, MobileNetV2Pyramid

CROP = 224
STAGE_DIM = 64
GRID = 7
_EXPANSION = 4


@dataclass(frozen=True, kw_only=True)
class CvrkdConfig:
    """Size of the network; the defaults are the published ones.

    Attributes
    ----------
    trunk
        ``resnet50``, or ``mobilenet_v2`` (our choice for edge devices).
    crops
        Crops of one image that are judged together: they are stacked on the channels. One alone is an item without an
        axis of crops, and the scores of several are averaged.
    dim
        Features of a token.
    distorted_depth, difference_depth
        Blocks of the mixer of the image's features, and of that of the differences.
    """

    trunk: Literal["resnet50", "mobilenet_v2"] = "resnet50"
    crops: int = 10
    dim: int = 256
    distorted_depth: int = 9
    difference_depth: int = 18

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels of the trunk's four maps."""
        return resnet.STAGE_CHANNELS if self.trunk == "resnet50" else PYRAMID_CHANNELS

    @property
    def features(self) -> int:
        """Features of an image at each of its 7 x 7 positions."""
        return len(self.channels) * self.crops * STAGE_DIM


CONFIGS = {
    "published": CvrkdConfig(),
    # A crop for itself, for ten of one small training picture would be nearly the same.
    "edge": CvrkdConfig(trunk="mobilenet_v2", crops=1, dim=128, distorted_depth=3, difference_depth=6),
}
"""The published network, and ours for edge devices."""


class CvrkdOutput(NamedTuple):
    """Scores of a batch of images.

    Attributes
    ----------
    score
        (B,).
    distorted_tokens, difference_tokens
        Output of each mixer block, (blocks, B, 49, dim); distillation compares them.
    """

    score: Tensor
    distorted_tokens: Tensor
    difference_tokens: Tensor


class MixerBlock(nn.Module):
    """MLP-mixer block: mix the 49 tokens, then the features, each pre-norm with a residual."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        tokens = GRID * GRID
        self.token_norm = nn.LayerNorm(dim)
        self.token_mlp = nn.Sequential(
            nn.Conv1d(tokens, _EXPANSION * tokens, 1), nn.GELU(), nn.Conv1d(_EXPANSION * tokens, tokens, 1)
        )
        self.channel_norm = nn.LayerNorm(dim)
        self.channel_mlp = nn.Sequential(nn.Linear(dim, _EXPANSION * dim), nn.GELU(), nn.Linear(_EXPANSION * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 49, dim) to the same shape."""
        x = x + self.token_mlp(self.token_norm(x))
        mixed: Tensor = x + self.channel_mlp(self.channel_norm(x))
        return mixed


class Mixer(nn.Module):
    """A linear layer into `dim` features, `depth` mixer blocks, LayerNorm, mean over the tokens."""

    def __init__(self, features: int, dim: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Linear(features, dim)
        self.blocks = Layers[MixerBlock](MixerBlock(dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, features, 7, 7) to a vector (B, dim) and the blocks' outputs (depth, B, 49, dim)."""
        x = self.embed(features.flatten(2).transpose(1, 2))
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return self.norm(x).mean(1), torch.stack(outputs)


class Cvrkd(nn.Module):
    """The whole network."""

    def __init__(self, config: CvrkdConfig | None = None) -> None:
        super().__init__()
        self.config = config = CvrkdConfig() if config is None else config
        self.trunk: resnet.ResNet50 | MobileNetV2Pyramid
        self.trunk = resnet.ResNet50() if config.trunk == "resnet50" else MobileNetV2Pyramid()
        self.project = Layers[nn.Conv2d](nn.Conv2d(channels, STAGE_DIM, 1) for channels in config.channels)
        self.distorted_mixer = Mixer(config.features, config.dim, config.distorted_depth)
        self.difference_mixer = Mixer(config.features, config.dim, config.difference_depth)
        self.hidden = nn.Linear(2 * config.dim, config.dim)
        self.last = nn.Linear(config.dim, 1)

    def features(self, crops: Tensor) -> Tensor:
        """Encode the crops of each image to (B, features, 7, 7): stage, crop, channel."""
        stages = []
        for stage, project in zip(self.trunk(one_by_one(crops)), self.project, strict=True):
            pooled = nn.functional.adaptive_avg_pool2d(project(stage), GRID)
            stages.append(pooled.reshape(-1, self.config.crops * STAGE_DIM, GRID, GRID))
        return torch.cat(stages, 1)

    def forward(self, image: Tensor, reference: Tensor) -> CvrkdOutput:
        """Score crops of images against crops of their references, ImageNet-normalised.

        Parameters
        ----------
        image, reference
            (B, 10, 3, 224, 224), or of a network that takes one crop at a time (B, 3, 224, 224).
        """
        return self.assess(self.features(image), self.features(reference))

    def assess(self, distorted: Tensor, reference: Tensor) -> CvrkdOutput:
        """Score features of images against features of their references, each (B, features, 7, 7)."""
        distorted_vector, distorted_tokens = self.distorted_mixer(distorted)
        difference_vector, difference_tokens = self.difference_mixer(reference - distorted)
        score = self.last(self.hidden(torch.cat([distorted_vector, difference_vector], 1))).squeeze(-1)
        return CvrkdOutput(score, distorted_tokens, difference_tokens)


def one_by_one(crops: Tensor) -> Tensor:
    """Return the crops of all images one after the other, (N, 3, H, W), as trunks take them."""
    return crops.flatten(0, 1) if crops.ndim == 5 else crops
