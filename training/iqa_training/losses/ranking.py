"""Losses on the order of two pictures of which one is known to be worse."""

from __future__ import annotations

from torch import Tensor


def ranking(better: Tensor, worse: Tensor, margin: float) -> Tensor:
    """Mean of max(0, margin - (b - w)) over the batch; scores, both (B,), higher is better.

    X. Liu, J. van de Weijer and A. Bagdanov, "RankIQA: Learning from rankings for no-reference image quality
    assessment", ICCV 2017, equation 1.
    """
    return (margin - (better - worse)).clamp(min=0).mean()
