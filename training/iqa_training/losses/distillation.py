"""Losses between what a teacher and its student compute inside."""

from __future__ import annotations

from torch import Tensor


def feature_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum over blocks of the mean of (s - t)^2: the distillation term of CVRKD-IQA (Yin et al., arXiv 2202.13123).

    Parameters
    ----------
    student, teacher
        Outputs of the same blocks, (blocks, ...), of equal shape; the mean runs over all axes but the first.

    Returns
    -------
    Tensor
        Scalar float32, whatever the precision of the features: squares of small differences would round to nothing.
    """
    return (student.float() - teacher.float()).square().flatten(1).mean(1).sum()
