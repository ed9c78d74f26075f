"""Both pictures of a pair through one network as one batch: each weight is read once for the two."""

from __future__ import annotations

import torch
from torch import Tensor


def stacked(image: Tensor, reference: Tensor) -> Tensor:
    """Return images and, behind them, references, (2 B, ...)."""
    return torch.cat((image, reference))


def halves(both: Tensor) -> tuple[Tensor, Tensor]:
    """Return what became of images and of references; ``chunk`` would fix the batch to that of the tracing."""
    count = both.shape[0] // 2
    return both[:count], both[count:]
