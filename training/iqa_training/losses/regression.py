"""Losses between predictions and labels of single pictures."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

_EPSILON = 1e-6


def squared_error(predicted: Tensor, label: Tensor) -> Tensor:
    """Mean of (p - l)^2 over the batch; both (B,). What YOTO regresses with, and here DRI-IQA."""
    return (predicted - label).square().mean()


def absolute_error(predicted: Tensor, label: Tensor) -> Tensor:
    """Mean of |p - l| over the batch; both (B,). What CVRKD-IQA regresses with, and here MFE-Net."""
    return (predicted - label).abs().mean()


def decorrelation(predicted: Tensor, label: Tensor) -> Tensor:
    """(1 - r) / 2 with Pearson's r over the batch: 0 where the order and spacing agree, whatever the scale.

    Li, Jiang and Jiang, "Norm-in-norm loss with faster convergence and better performance for image quality
    assessment", ACM Multimedia 2020, equation 10 (the "PLCC-induced loss"). Both (B,), B of at least 2.
    """
    p = predicted - predicted.mean()
    q = label - label.mean()
    # Inside the roots, so that a batch of equal scores has a gradient too.
    correlation = (p * q).sum() / ((p.square().sum() + _EPSILON) * (q.square().sum() + _EPSILON)).sqrt()
    loss: Tensor = (1 - correlation) / 2
    return loss


def naming(logits: Tensor, named: Tensor) -> Tensor:
    """Cross-entropy of each name by itself, for several may be right at once, averaged over names and batch.

    Parameters
    ----------
    logits
        (B, N), of the probability of each name.
    named
        (B, N), 1 for names that are right and 0 for others, of any type.
    """
    # In float32 whatever the precision around it: near 0 and 1 the probabilities of bfloat16 are all alike.
    return functional.binary_cross_entropy_with_logits(logits.float(), named.float())
