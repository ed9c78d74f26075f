"""DISTS for deployment: the function of `iqa_export.models.dists` with less rounding, and both pictures in one batch.

1. With m the means of x and y,

       mean(x y) - m_x m_y = mean((x - m_x) (y - m_y))

   and the right side is no difference of two large numbers: where a channel hardly varies, the published form divides
   rounding by rounding, and of a picture with itself this one is exactly 0.
2. Weights are divided by their sum beforehand.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from iqa_export.deploy.pairs import halves, stacked
from iqa_export.models.dists import STABILISER, Dists


class DeployDists(nn.Module):
    """The metric on a batch of two.

    Parameters
    ----------
    network
        As published.
    """

    alpha: Tensor
    beta: Tensor

    def __init__(self, network: Dists) -> None:
        super().__init__()
        self.network = network
        total = network.alpha.sum() + network.beta.sum()
        self.register_buffer("alpha", (network.alpha / total).detach().reshape(1, -1))
        self.register_buffer("beta", (network.beta / total).detach().reshape(1, -1))

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Return the distance, (B,), of pictures in 0..1, (B, 3, H, W)."""
        textures, structures = [], []
        for both in self.network.stages(stacked(image, reference)):
            means = both.mean((2, 3), keepdim=True)
            own, other = halves(both - means)
            mean, reference_mean = halves(means.flatten(1))
            variances = own.square().mean((2, 3)) + other.square().mean((2, 3))
            covariance = (own * other).mean((2, 3))
            textures.append(_ratio(mean * reference_mean, mean.square() + reference_mean.square()))
            structures.append(_ratio(covariance, variances))
        weighted = self.alpha * torch.cat(textures, 1) + self.beta * torch.cat(structures, 1)
        return 1 - weighted.sum(1)


def _ratio(product: Tensor, squares: Tensor) -> Tensor:
    return (2 * product + STABILISER) / (squares + STABILISER)
