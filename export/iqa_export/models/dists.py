"""DISTS, image similarity of deep structure and texture (Ding et al., arXiv 2004.07728).

Of each channel of VGG16, and of the picture itself, the means over the picture are its texture, the correlation with
the reference its structure.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from iqa_export.models.feature_trunks import VGG16_CHANNELS, vgg16

CHANNELS = (3, *VGG16_CHANNELS)
STABILISER = 1e-6
"""c1 and c2 of equations 5 and 6, as the authors' code has them."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_HANNING = 5
_ROOT_FLOOR = 1e-12


class L2Pooling(nn.Module):
    """The root of the local mean of squares, at every other place: no frequency is folded over (equation 3).

    Parameters
    ----------
    channels
        Of its input.
    """

    filter: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = np.hanning(_HANNING)[1:-1]  # those at the ends are zero
        weights = np.outer(taps, taps)
        values = torch.tensor(weights / weights.sum(), dtype=torch.float32)
        self.register_buffer("filter", values.expand(channels, 1, -1, -1).clone())

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, ceil(H / 2), ceil(W / 2))."""
        squares = nn.functional.conv2d(x.square(), self.filter, stride=2, padding=1, groups=x.shape[1])
        return (squares + _ROOT_FLOOR).sqrt()


class Dists(nn.Module):
    """The metric as published, on pictures in 0..1."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.trunk = vgg16(L2Pooling)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).reshape(1, 3, 1, 1))
        self.alpha = nn.Parameter(torch.full((1, sum(CHANNELS), 1, 1), 0.1))
        self.beta = nn.Parameter(torch.full((1, sum(CHANNELS), 1, 1), 0.1))

    def stages(self, image: Tensor) -> list[Tensor]:
        """Return the picture, (B, 3, H, W), and the features of five stages."""
        return [image, *self.trunk((image - self.mean) / self.std)]

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Return the distance, (B,): one minus equation 7."""
        total = self.alpha.sum() + self.beta.sum()
        alphas, betas = (torch.split(weights / total, list(CHANNELS), 1) for weights in (self.alpha, self.beta))
        similarity = image.new_zeros(len(image))
        for own, other, alpha, beta in zip(self.stages(image), self.stages(reference), alphas, betas, strict=True):
            mean, reference_mean = own.mean((2, 3), keepdim=True), other.mean((2, 3), keepdim=True)
            variance = (own - mean).square().mean((2, 3), keepdim=True)
            reference_variance = (other - reference_mean).square().mean((2, 3), keepdim=True)
            covariance = (own * other).mean((2, 3), keepdim=True) - mean * reference_mean
            texture = (2 * mean * reference_mean + STABILISER) / (mean**2 + reference_mean**2 + STABILISER)
            structure = (2 * covariance + STABILISER) / (variance + reference_variance + STABILISER)
            similarity = similarity + (alpha * texture + beta * structure).sum((1, 2, 3))
        return 1 - similarity
