"""Heads that turn tokens into numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

DROPOUT = 0.1


class TokenHead(nn.Module):
    """One value per token: `dim` to `hidden` to 1 features, before its last activation.

    Parameters
    ----------
    dim, hidden
        Features of a token, and between the two layers.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, hidden)
        self.dropout = nn.Dropout(DROPOUT)
        self.last = nn.Linear(hidden, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, T, dim) to (B, T)."""
        values: Tensor = self.last(self.dropout(torch.relu(self.hidden(tokens))))
        return values.squeeze(-1)
