"""LPIPS, the learned perceptual image patch similarity (Zhang et al., arXiv 1801.03924), version 0.1.

The distance of two pictures is that of their features in a network that was trained to tell what is in a picture, each
channel weighted by what people said of pairs.
"""

from __future__ import annotations

from torch import Tensor, nn

from iqa_export.models.feature_trunks import ALEXNET_CHANNELS, VGG16_CHANNELS, FeatureTrunk, alexnet, vgg16

EPSILON = 1e-10
"""Added to the length of a feature vector, as the authors' code has it: where nothing is active, zero stays zero."""


class Lpips(nn.Module):
    """The metric as published.

    Parameters
    ----------
    variant
        ``alex`` or ``vgg``, the network whose features are compared.
    """

    def __init__(self, variant: str) -> None:
        super().__init__()
        self.trunk: FeatureTrunk
        if variant == "alex":
            self.trunk, channels = alexnet(), ALEXNET_CHANNELS
        else:
            self.trunk, channels = vgg16(lambda _: nn.MaxPool2d(2, 2)), VGG16_CHANNELS
        self.linear = nn.ModuleList(nn.Conv2d(count, 1, 1, bias=False) for count in channels)

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Return the distance, (B,), of pictures normalised as ImageNet's, (B, 3, H, W): equation 1 of the paper."""
        distance = image.new_zeros(len(image))
        for own, other, linear in zip(self.trunk(image), self.trunk(reference), self.linear, strict=True):
            distance = distance + linear((unit(own) - unit(other)) ** 2).mean((1, 2, 3))
        return distance


def unit(features: Tensor) -> Tensor:
    """Scale the vector of channels at each place to length one."""
    return features / (features.square().sum(1, keepdim=True).sqrt() + EPSILON)
