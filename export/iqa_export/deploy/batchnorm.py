"""Fold batch normalisation into the convolution before it.

In evaluation mode the pair computes gamma (W x - mean) / sqrt(var + eps) + beta, which is one convolution of weight
W gamma / sqrt(var + eps) and bias beta - gamma mean / sqrt(var + eps), per output channel. Folded in float64.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from iqa_export.models.resnet import Bottleneck, ResNet50


def fold_pair(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Return one convolution that computes ``norm(convolution(x))``; both are left as they are."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("batch normalisation without running statistics cannot be folded")
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() - norm.running_mean.double() * scale
    if convolution.bias is not None:
        shift = shift + convolution.bias.double() * scale
    folded = copy.deepcopy(convolution)
    with torch.no_grad():
        folded.weight.copy_(convolution.weight.double() * scale[:, None, None, None])
        folded.bias = nn.Parameter(shift.to(convolution.weight.dtype))
    return folded


def fold_resnet(trunk: ResNet50) -> ResNet50:
    """Return a copy of the trunk with every batch normalisation folded into its convolution."""
    trunk = copy.deepcopy(trunk).eval()
    for module in trunk.modules():
        if isinstance(module, ResNet50 | Bottleneck):
            for index in ("1", "2", "3") if isinstance(module, Bottleneck) else ("1",):
                folded = fold_pair(getattr(module, f"conv{index}"), getattr(module, f"bn{index}"))
                setattr(module, f"conv{index}", folded)
                setattr(module, f"bn{index}", nn.Identity())
        if isinstance(module, Bottleneck) and isinstance(module.downsample, nn.Sequential):
            convolution, norm = module.downsample
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module.downsample = fold_pair(convolution, norm)
    return trunk
