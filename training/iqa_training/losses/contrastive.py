"""Contrastive losses: features of the same class together, of different ones apart."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from iqa_runtime.errors import UsageError


def nt_xent(features: Tensor, positives: Tensor, temperature: float = 0.1) -> Tensor:
    """Normalised temperature-scaled cross-entropy with any number of positives an item.

    Item i with positives P_i costs log(sum over j != i of exp(s_ij / t)) - mean over p in P_i of s_ip / t, s being the
    cosine: Madhusudana et al., "Image quality assessment using contrastive learning" (CONTRIQUE), IEEE TIP 2022. With
    one positive an item it is the NT-Xent of SimCLR, or InfoNCE with the rest of the batch as negatives.

    Parameters
    ----------
    features
        (N, D), of any length: they are scaled to unit length here.
    positives
        Bool, (N, N): whether column j is of the class of row i. The diagonal is not read: no item is its own positive.
    temperature
        t, above 0. CONTRIQUE and ARNIQA use 0.1.

    Returns
    -------
    Tensor
        Scalar float32: the mean over the items that have a positive.

    Raises
    ------
    UsageError
        If no item has one, because there is then nothing to learn from.
    """
    # In float32 whatever the precision around it: a rounding of bfloat16, divided by t, would be 4 % of a term.
    with torch.autocast(features.device.type, enabled=False):
        unit = functional.normalize(features.float(), dim=1)
        itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
        # Not minus infinity: its product with the zero of a mask would be no number.
        similarity = (unit @ unit.T / temperature).masked_fill(itself, torch.finfo(torch.float32).min)
        chosen = positives & ~itself
        count = chosen.sum(1)
        anchors = count > 0
        if not bool(anchors.any()):
            raise UsageError("a contrastive batch without any two pictures of one class; use a larger batch")
        attraction = similarity.masked_fill(~chosen, 0.0).sum(1)[anchors] / count[anchors]
        return (similarity.logsumexp(1)[anchors] - attraction).mean()


def same_class(classes: Tensor) -> Tensor:
    """Return which items share a class, bool (N, N): the `positives` of `nt_xent`.

    Parameters
    ----------
    classes
        Integers, (N,), or (N, ...) where a class is made of several; equal ones are the same class.
    """
    codes = classes.reshape(len(classes), -1)
    return (codes[:, None] == codes).all(2)
