"""The score and the weight of each token from one product instead of two.

The hidden layers of both heads are stacked, [Ws; Ww]; the last ones become a block-diagonal matrix of two rows, whose
zeros add nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from iqa_export.deploy.attention import linear
from iqa_export.models.heads import TokenHead


class StackedHeads(nn.Module):
    """Two token heads of equal sizes as one network."""

    def __init__(self, score: TokenHead, weight: TokenHead) -> None:
        super().__init__()
        hidden, last = (score.hidden, weight.hidden), (score.last, weight.last)
        dtype = last[0].weight.dtype
        hidden_bias = torch.cat([layer.bias for layer in hidden])
        self.hidden = linear(torch.cat([layer.weight for layer in hidden]), hidden_bias, dtype)
        zeros = torch.zeros_like(last[0].weight)
        block_diagonal = torch.cat([torch.cat([last[0].weight, zeros], 1), torch.cat([zeros, last[1].weight], 1)])
        self.last = linear(block_diagonal, torch.cat([layer.bias for layer in last]), dtype)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return both values of (B, T, dim), each (B, T), before their last activations."""
        values = self.last(torch.relu(self.hidden(tokens)))
        return values[..., 0], values[..., 1]
