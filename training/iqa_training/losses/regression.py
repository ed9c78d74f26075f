"""Losses between predicted and labelled quality."""

from __future__ import annotations

from torch import Tensor

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
