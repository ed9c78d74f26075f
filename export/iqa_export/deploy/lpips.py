"""LPIPS for deployment: the function of `iqa_export.models.lpips` with both pictures in one batch.

The weights of a convolution are read once for the two, and feature maps go as soon as both are compared.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn

from iqa_export.deploy.pairs import halves, stacked
from iqa_export.models.lpips import Lpips, unit


class DeployLpips(nn.Module):
    """The metric on a batch of two.

    Parameters
    ----------
    network
        As published.
    """

    def __init__(self, network: Lpips) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Return the distance, (B,), of normalised pictures, (B, 3, H, W)."""
        both = stacked(image, reference)
        distances = []
        for stage, linear in zip(self.network.trunk.stages, self.network.linear, strict=True):
            both = stage(both)
            own, other = halves(unit(both))
            distances.append(linear((own - other) ** 2).mean((1, 2, 3)))
        total: Tensor = reduce(torch.add, distances)
        return total
