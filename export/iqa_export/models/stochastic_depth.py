"""Stochastic depth (Huang et al., arXiv 1603.09382): training leaves residual branches out at random."""

from __future__ import annotations

from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """Drop a whole branch of single samples while training, and scale the kept ones up to the same expectation.

    Parameters
    ----------
    probability
        Of dropping, in [0, 1).
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        """Map (B, ...) to the same shape; the identity in evaluation mode."""
        if not self.training or self.probability == 0:
            return branch
        kept = 1 - self.probability
        mask = branch.new_empty(branch.shape[0], *(1 for _ in branch.shape[1:])).bernoulli_(kept)
        return branch * mask / kept
