"""MFE-Net for less work: the function of `iqa_export.models.mfe` in a sixth fewer operations.

1. Batch normalisation folded into the convolutions (`iqa_export.deploy.batchnorm`, `iqa_export.deploy.van`).
2. Octave convolutions as plain ones. With a stride of two both inputs have one size once the high one is averaged, so
   the two convolutions to an output are one on the concatenation, u = [pool(high); low]:

       high' = A pool(high) + B low             = [A B] u
       low'  = C pool(pool(high)) + D pool(low) = [C D] pool(u)

3. Weights of a pair that add up to two. For the softmax over (a, b) and for the sigmoid of d = a - b alike,

       2 (w x + (1 - w) y) = x + y + tanh(d / 2) (x - y)

   so the last convolution computes (a - b) / 2 alone, half of what it did, and the half of the sigmoid is inside its
   weights.
4. The average in the inception modules as a depthwise convolution of weights 1 / 9, which takes its part of the
   normalisation after the concatenation; the convolutions take theirs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from iqa_export.deploy.batchnorm import (
    affine,
    bias_of,
    fold_mobilenet,
    fold_pair,
    fold_resnet,
    fold_sequential,
    rebuild,
    scale_outputs,
)
from iqa_export.deploy.van import fold_van
from iqa_export.models.containers import Layers, M
from iqa_export.models.fusion import AdaptiveFusion, AttentionalFusion, ChannelContext
from iqa_export.models.mfe import VIEWS, HighFrequencyModule, Inception, Mfe
from iqa_export.models.resnet import ResNet50
from iqa_export.models.van import Van


class PlainOctave(nn.Module):
    """A high-frequency module whose octave convolution is one plain convolution for each output."""

    def __init__(self, module: HighFrequencyModule) -> None:
        super().__init__()
        octave = module.convolution
        self.stride = octave.stride
        if octave.low_to_high is not None and octave.stride != 2:
            raise ValueError("an octave convolution with a low input is a plain one if its stride is two")
        self.high = fold_pair(_join(octave.high_to_high, octave.low_to_high), module.high_norm)
        self.low: nn.Conv2d | None = None
        if octave.high_to_low is not None and module.low_norm is not None:
            self.low = fold_pair(_join(octave.high_to_low, octave.low_to_low), module.low_norm)
        self.activation = module.activation
        self.tap = fold_pair(module.tap, module.tap_norm)

    def forward(self, high: Tensor, low: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return both frequencies and the tapped map, as `HighFrequencyModule` does."""
        x = functional.avg_pool2d(high, 2) if self.stride == 2 else high
        if low is not None:
            x = torch.cat([x, low], 1)
        high = self.activation(self.high(x))
        low = None if self.low is None else self.activation(self.low(functional.avg_pool2d(x, 2)))
        return high, low, self.tap(high)


class TanhAdaptiveFusion(nn.Module):
    """`AdaptiveFusion` from half the difference of its weights' logits."""

    def __init__(self, fusion: AdaptiveFusion) -> None:
        super().__init__()
        self.reduce = fold_pair(fusion.reduce, fusion.norm)
        weights, biases = fusion.weigh.weight.double().chunk(2), bias_of(fusion.weigh).chunk(2)
        self.weigh = rebuild(fusion.weigh, (weights[0] - weights[1]) / 2, (biases[0] - biases[1]) / 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Fuse two maps (B, dim, H, W) into one."""
        share = torch.tanh(self.weigh(torch.relu(self.reduce(torch.cat([x, y], 1)))))
        return x + y + share * (x - y)


class TanhAttentionalFusion(nn.Module):
    """`AttentionalFusion` from half of its weight's logit."""

    def __init__(self, fusion: AttentionalFusion) -> None:
        super().__init__()
        self.local = _halved(fusion.local)
        self.whole = _halved(fusion.whole)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Fuse two maps (B, dim, H, W) into one."""
        total = x + y
        share = torch.tanh(self.local(total) + self.whole(total.mean((2, 3), keepdim=True)))
        return total + share * (x - y)


class FoldedInception(nn.Module):
    """`Inception` with each view's part of the normalisation inside its last convolution."""

    def __init__(self, inception: Inception) -> None:
        super().__init__()
        scales, shifts = (values.chunk(VIEWS) for values in affine(inception.norm))
        self.point = scale_outputs(inception.point, scales[0], shifts[0])
        self.small = scale_outputs(inception.small, scales[1], shifts[1])
        first, last = inception.large
        self.large = nn.Sequential(first, scale_outputs(cast(nn.Conv2d, last), scales[2], shifts[2]))
        self.average = _average(inception.small, scales[3], shifts[3])
        self.activation = inception.activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to (B, 4 dim, ceil(H / 2), ceil(W / 2))."""
        views = torch.cat([self.point(x), self.small(x), self.large(x), self.average(x)], 1)
        activated: Tensor = self.activation(views)
        return activated


def deploy_mfe(network: Mfe) -> Mfe:
    """Return a copy of the network, in evaluation mode, with cheaper modules of the same interfaces."""
    network = copy.deepcopy(network).eval()
    quality, distortion = network.quality, network.distortion
    network.quality = fold_van(quality) if isinstance(quality, Van) else fold_mobilenet(quality)
    network.distortion = fold_resnet(distortion) if isinstance(distortion, ResNet50) else fold_mobilenet(distortion)
    branch = network.high_frequency
    branch.stem = fold_sequential(branch.stem)
    _replace(branch.levels, PlainOctave)
    _replace(network.guide, TanhAdaptiveFusion)
    _replace(network.project, fold_sequential)
    _replace(network.aware, TanhAttentionalFusion)
    _replace(network.inception, FoldedInception)
    return network.requires_grad_(False)


def _replace(layers: Layers[M], deployed: Callable[[M], nn.Module]) -> None:
    for index, layer in enumerate(layers):
        layers[index] = deployed(layer)


def _join(high: nn.Conv2d, low: nn.Conv2d | None) -> nn.Conv2d:
    """Return the convolution that computes ``high(x) + low(y)`` from the concatenation of both."""
    if low is None:
        return high
    return rebuild(high, torch.cat([high.weight, low.weight], 1).double(), bias_of(high) + bias_of(low))


def _halved(context: ChannelContext) -> nn.Sequential:
    """Return the context, normalisations folded, with half its values."""
    layers = fold_sequential(context)
    last = cast(nn.Conv2d, layers[-1])
    layers[-1] = scale_outputs(last, torch.full_like(bias_of(last), 0.5))
    return layers


def _average(like: nn.Conv2d, scale: Tensor, shift: Tensor) -> nn.Conv2d:
    """Return the scaled and shifted average over 3 x 3 pixels, zeros of the border included, of each channel."""
    dim = like.out_channels
    average = nn.Conv2d(dim, dim, 3, 2, 1, groups=dim, dtype=like.weight.dtype, device=like.weight.device)
    return rebuild(average, (scale / 9)[:, None, None, None].expand_as(average.weight), shift)
