"""Transposed guidance for less work: products folded, and low rank where the quality representation enters.

The quality representation is a small map, P (channels x p), resized to the trunk's: Q = P U^T with the constant matrix
U (N x p) of bilinear interpolation, p = N / 16. With T the image's features (channels x N), M = Wq^T Wk / sqrt(N) and
c = Wk^T bq / sqrt(N) as in `iqa_export.deploy.attention`, the logits are

    queries from the quality:   Q M T^T + 1 (T c)^T = [P | 1] (T [M^T U | c])^T
    queries from the image:     T M Q^T + 1 (Q c)^T = (T M U + 1 (U^T c)^T) P^T

so that one projection of T to p + 1 or p features replaces two of N, and nothing is resized. In the second form the
values are of low rank as well, and since every row of the attention A sums to one,

    A (Q Wv^T + 1 bv^T) = (A P) (Wv U)^T + 1 bv^T
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from iqa_export.deploy.attention import fold_products, linear
from iqa_export.models.dri import GuidedStage, TransposedGuidance


def interpolation(coarse: int, fine: int) -> Tensor:
    """Return the matrix U, (fine^2, coarse^2) float64, of bilinear interpolation between square maps."""
    basis = torch.eye(coarse**2, dtype=torch.float64).reshape(-1, 1, coarse, coarse)
    return functional.interpolate(basis, (fine, fine), mode="bilinear", align_corners=False).flatten(1).T


class GuidedByQuality(nn.Module):
    """Queries from the quality representation, keys and values from the image."""

    def __init__(self, guidance: TransposedGuidance, upsampling: Tensor) -> None:
        super().__init__()
        product, row = fold_products(guidance)
        dtype = guidance.value.weight.dtype
        self.key = linear(torch.cat([upsampling.T @ product, row[None]]), None, dtype)
        self.value = guidance.value

    def forward(self, image: Tensor, quality: Tensor) -> Tensor:
        """Guide (B, dim, N) by (B, dim, p)."""
        query = functional.pad(quality, (0, 1), value=1.0)
        logits = query @ self.key(image).transpose(-2, -1)
        guided: Tensor = image + logits.softmax(-1) @ self.value(image)
        return guided


class GuidedByImage(nn.Module):
    """Queries from the image, keys and values from the quality representation."""

    def __init__(self, guidance: TransposedGuidance, upsampling: Tensor) -> None:
        super().__init__()
        product, row = fold_products(guidance)
        dtype = guidance.value.weight.dtype
        self.query = linear((product @ upsampling).T, upsampling.T @ row, dtype)
        self.value = linear(guidance.value.weight.double() @ upsampling, guidance.value.bias, dtype)

    def forward(self, image: Tensor, quality: Tensor) -> Tensor:
        """Guide (B, dim, N) by (B, dim, p)."""
        logits = self.query(image) @ quality.transpose(-2, -1)
        guided: Tensor = image + self.value(logits.softmax(-1) @ quality)
        return guided


class FoldedGuidedStage(nn.Module):
    """A stage of the trunk that takes the quality representation as it comes, without resizing it."""

    def __init__(self, stage: GuidedStage, coarse: int) -> None:
        super().__init__()
        upsampling = interpolation(coarse, stage.size)
        self.project = stage.project
        by_position = cast(Iterable[TransposedGuidance], stage.guidance)  # the edge variant's other kind is not folded
        self.guidance = nn.ModuleList(
            (GuidedByQuality if guidance.query_from == "quality" else GuidedByImage)(guidance, upsampling)
            for guidance in by_position
        )
        self.swin = stage.swin

    def forward(self, features: Tensor, quality_map: Tensor) -> Tensor:
        """Map (B, dim, size, size), guided by (B, 1024, size / 4, size / 4), to the same shape."""
        quality, tokens = self.project(quality_map).flatten(2), features.flatten(2)
        for guidance in self.guidance:
            tokens = guidance(tokens, quality)
        guided: Tensor = self.swin(tokens.reshape(features.shape))
        return guided
