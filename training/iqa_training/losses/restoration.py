"""Losses of DRI-IQA's restoration network: pixels, and what the frozen extractor says of the restored crop."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

RATIO_FLOOR = 1e-2
"""Keeps the ratio form finite at the start, when the restored crop is still the degraded one."""


def restoration_error(restored: Tensor, pristine: Tensor) -> Tensor:
    """Mean of |r - p| over batch, channels and pixels, both (B, 3, H, W): what L2RIRNet, by the same authors, has."""
    return (restored - pristine).abs().mean()


def logarithmic_error(restored: Tensor, pristine: Tensor) -> Tensor:
    """Mean over the batch of the natural logarithm of each crop's squared error, both (B, 3, H, W).

    This is PSNR turned round, but for a factor: to halve the error of a good crop is worth as much as to halve that of
    a bad one. The error of half a step of 8 bits is the least that counts.
    """
    least = (0.5 / 255) ** 2
    return ((restored - pristine).square().mean((1, 2, 3)) + least).log().mean()


def representation_semantic(
    restored: Sequence[Tensor], degraded: Sequence[Tensor], pristine: Sequence[Tensor], temperature: float = 0.1
) -> Tensor:
    r"""Pull a restored crop's representation to that of the pristine crop and off that of the degraded one.

    The mean over halves h and batch of softplus((cos(r_h, d_h) - cos(r_h, p_h)) / t). The paper (arXiv 2411.17390)
    names its "RS loss"; this form is our choice: bounded where the restored crop equals the degraded one, which is
    how training begins, and where it equals the pristine one.

    Parameters
    ----------
    restored, degraded, pristine
        The halves, quality and degradation, (B, D) each, all of the same frozen extractor.
    temperature
        t, above 0.

    Returns
    -------
    Tensor
        Scalar float32: log 2 where the restored crop is as far from the one as from the other.
    """
    losses = []
    for r, d, p in zip(restored, degraded, pristine, strict=True):
        # Float32 whatever the precision around it, because the temperature multiplies the difference's rounding by ten.
        r, d, p = r.float(), d.float(), p.float()
        difference = functional.cosine_similarity(r, d) - functional.cosine_similarity(r, p)
        losses.append(functional.softplus(difference / temperature).mean())
    return torch.stack(losses).mean()


def representation_ratio(restored: Sequence[Tensor], degraded: Sequence[Tensor], pristine: Sequence[Tensor]) -> Tensor:
    """Divide the distance to the pristine crop's representation by that to the degraded one's, summed over the halves.

    Mean over the batch of |r_h - p_h| / (|r_h - d_h| + 0.01), each the mean over features: the ratio of L2RIRNet's
    representation loss, which stood for the RS loss before; its floor of 1e-7 would explode at the start of training.

    Parameters
    ----------
    restored, degraded, pristine
        As in `representation_semantic`.

    Returns
    -------
    Tensor
        Scalar float32, 0 where restored and pristine agree.
    """
    losses = []
    for r, d, p in zip(restored, degraded, pristine, strict=True):
        to_pristine, to_degraded = (r - p).float().abs().mean(1), (r - d).float().abs().mean(1)
        losses.append((to_pristine / (to_degraded + RATIO_FLOOR)).mean())
    return torch.stack(losses).sum()
