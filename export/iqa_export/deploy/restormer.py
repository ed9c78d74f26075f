"""Restormer's blocks for less work.

1. Transposed attention normalises queries and keys to unit length over the pixels, then multiplies them. Lengths are
   numbers of a row, so they divide the small product instead of the two long factors:
   (q_i / |q_i|) . (k_j / |k_j|) = (q_i . k_j) / (|q_i| |k_j|).
2. The output projection W and the attention A of each head act on channels alone, so they are multiplied with each
   other, dim x dim, before the long values: W (A v) = (W A) v.
3. Both sides of 1 are scaled alike by 1 / sqrt(pixels), inside the depthwise weights: the ratio stays, and sums over
   50176 pixels become means, which float16 can hold.
4. Convolutions whose output is cut into parts on its channels are cut themselves, so that nothing is copied.
5. The 127, 255 and 510 channels of the gated feed-forward get companions of zero weight up to a multiple of 16:
   a gate of zero times zero, then a zero column. Convolutions on vector units work on blocks of 8 or 16 channels;
   with others ONNX Runtime takes its slow path, twice the time of the whole feed-forward at full resolution.
6. A 1 x 1 convolution after pixel shuffling moves before it: it is applied to each of the four sub-pixels, inside the
   weights of the 3 x 3 convolution that makes them.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from iqa_export.models.containers import Layers
from iqa_export.models.restormer import GatedFeedForward, TransformerBlock, TransposedAttention

_BLOCK = 16
_LEAST_LENGTH = 1e-12
"""Below which `torch.nn.functional.normalize` divides by this instead of the length."""


def cut_filters(pointwise: nn.Conv2d, depthwise: nn.Conv2d, parts: int, block: int = 1) -> Layers[nn.Sequential]:
    """Cut a 1 x 1 and a depthwise convolution into `parts` pairs, each padded to a multiple of `block` channels.

    A pair's first outputs are those of its part, in order; what padding adds is zero.
    """
    pairs = []
    for weights in zip(pointwise.weight.chunk(parts), depthwise.weight.chunk(parts), strict=True):
        channels = -(-len(weights[0]) // block) * block
        pair = nn.Sequential(
            nn.Conv2d(pointwise.in_channels, channels, 1, bias=False),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        ).to(pointwise.weight.dtype)
        with torch.no_grad():
            for padded, weight in zip(pair.parameters(), weights, strict=True):
                padded.zero_()
                padded[: len(weight)] = weight
        pairs.append(pair)
    return Layers[nn.Sequential](pairs)


class FoldedTransposedAttention(nn.Module):
    """Transposed attention on maps of a known size.

    Parameters
    ----------
    attention
        As written; it is left as it is.
    pixels
        Of the maps.
    """

    project: Tensor

    def __init__(self, attention: TransposedAttention, pixels: int) -> None:
        super().__init__()
        self.heads = attention.heads
        self.least_length = _LEAST_LENGTH * pixels**-0.5
        self.query, self.key, self.value = cut_filters(attention.qkv, attention.depthwise, 3)
        self.temperature = attention.temperature
        with torch.no_grad():
            for filters in (self.query, self.key):
                cast(nn.Conv2d, filters[1]).weight.mul_(pixels**-0.5)
        weight = attention.project.weight.detach()
        dim = len(weight)
        by_head = weight.reshape(dim, self.heads, dim // self.heads).transpose(0, 1)
        self.register_buffer("project", by_head.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        _, dim, height, width = x.shape
        rows = (-1, self.heads, dim // self.heads, height * width)
        query, key = self.query(x).reshape(rows), self.key(x).reshape(rows)
        logits = query @ key.transpose(-2, -1) * (self.temperature / self._length(query))
        attention = (logits / self._length(key).transpose(-2, -1)).softmax(-1)
        mixing = (self.project @ attention).transpose(1, 2).reshape(-1, dim, dim)
        mixed: Tensor = (mixing @ self.value(x).reshape(-1, dim, height * width)).reshape(x.shape)
        return mixed

    def _length(self, rows: Tensor) -> Tensor:
        lengths: Tensor = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
        return lengths.clamp_min(self.least_length)


class PaddedFeedForward(nn.Module):
    """The gated feed-forward with its two projections apart, on padded channels."""

    def __init__(self, feed_forward: GatedFeedForward) -> None:
        super().__init__()
        self.gate, self.content = cut_filters(feed_forward.expand, feed_forward.depthwise, 2, _BLOCK)
        project = feed_forward.project
        padded = cast(nn.Conv2d, self.gate[0]).out_channels
        self.project = nn.Conv2d(padded, project.out_channels, 1, bias=False, dtype=project.weight.dtype)
        with torch.no_grad():
            self.project.weight.zero_()
            self.project.weight[:, : project.in_channels] = project.weight

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        projected: Tensor = self.project(functional.gelu(self.gate(x)) * self.content(x))
        return projected


def fold_level(blocks: nn.Sequential, pixels: int) -> nn.Sequential:
    """Return a copy of the blocks of one resolution, each in its deploy form."""
    folded = copy.deepcopy(blocks)
    for module in folded:
        block = cast(TransformerBlock, module)
        block.attention = FoldedTransposedAttention(cast(TransposedAttention, block.attention), pixels)
        block.feed_forward = PaddedFeedForward(cast(GatedFeedForward, block.feed_forward))
    return folded


def fold_reduction(upsample: nn.Sequential, reduction: nn.Conv2d) -> tuple[nn.Sequential, nn.Conv2d]:
    """Split a reduction of upsampled and skipped maps, concatenated: into the upsampling, and into one of the skip.

    Returns
    -------
    upsample, skip
        Their outputs' sum is what the reduction returned.
    """
    convolution, shuffle = cast(nn.Conv2d, upsample[0]), upsample[1]
    dim = reduction.out_channels
    weight = reduction.weight.double()[..., 0, 0]
    folded = copy.deepcopy(convolution)
    skip = nn.Conv2d(dim, dim, 1, bias=False, dtype=reduction.weight.dtype)
    with torch.no_grad():
        by_channel = convolution.weight.double().reshape(dim, -1)
        folded.weight.copy_((weight[:, :dim] @ by_channel).reshape(convolution.weight.shape))
        skip.weight.copy_(reduction.weight[:, dim:])
    return nn.Sequential(folded, shuffle), skip
