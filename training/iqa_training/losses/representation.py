"""The contrastive loss of DRI-IQA's extractor: each half of the representation has positives of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from iqa_training.losses.contrastive import nt_xent, same_class

PICTURES = 3
"""Of a triple: a content under two degradations, and another content under a third."""
PATCHES = 2
"""Of each picture."""


def triple_classes(triples: int, *, same_kind: bool) -> tuple[Tensor, Tensor]:
    """Return which patches are alike in quality, and which in degradation.

    DRI-IQA (arXiv 2411.17390) shows it in its figure 3, whose cells are not in the public text: this is our reading of
    what that text says. Two patches of a picture are alike in both. The first two pictures of a triple, degraded in the
    same kinds but to other levels, are alike in degradation and not in quality. Whatever is left is a negative, in
    other triples too.

    Parameters
    ----------
    triples
        T.
    same_kind
        Whether the first two pictures were degraded in the same kinds; otherwise the two halves have the same
        positives.

    Returns
    -------
    tuple of Tensor
        Classes by quality and by degradation, int64 (6 T,); patches in the order triple, picture, patch.
    """
    pictures = torch.arange(PICTURES * triples)
    degradations = pictures - (pictures % PICTURES == 1).long() if same_kind else pictures
    return pictures.repeat_interleave(PATCHES), degradations.repeat_interleave(PATCHES)


def dual_contrast(
    quality: Tensor, degradation: Tensor, *, same_kind: bool, temperature: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Contrast the patches of triples by each half of their representation, with `nt_xent`.

    Parameters
    ----------
    quality, degradation
        (6 T, D), in the order of `triple_classes`.
    same_kind, temperature
        As `triple_classes` and `nt_xent`.

    Returns
    -------
    tuple of Tensor
        Loss of the quality half and of the degradation half, scalars.
    """
    halves = (quality, degradation)
    classes = triple_classes(len(quality) // (PICTURES * PATCHES), same_kind=same_kind)
    by_quality, by_degradation = (
        nt_xent(half, same_class(labels.to(half.device)), temperature)
        for half, labels in zip(halves, classes, strict=True)
    )
    return by_quality, by_degradation
