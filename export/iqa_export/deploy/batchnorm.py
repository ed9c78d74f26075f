"""Fold batch normalisation into the convolution beside it.

In evaluation mode normalisation is s x + t per channel, with s = gamma / sqrt(var + eps) and t = beta - s mean.
After a convolution, s (W x + b) + t is one convolution of weight s W and bias s b + t. Before a 1 x 1 convolution,
W (s x + t) + b is one of weight W s (per input channel) and bias W t + b; before a padded one it is none, for the
padding is zero and not t. Folded in float64.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from iqa_export.models.mobilenet import InvertedResidual, MobileNetV2
from iqa_export.models.resnet import Bottleneck, ResNet50

T = TypeVar("T", bound=MobileNetV2)


def affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return scale and shift of a normalisation in evaluation mode, each (C,), float64."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("batch normalisation without running statistics cannot be folded")
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def bias_of(convolution: nn.Conv2d) -> Tensor:
    """Return the bias in float64, zeros where there is none."""
    if convolution.bias is None:
        return torch.zeros_like(convolution.weight[:, 0, 0, 0], dtype=torch.float64)
    return convolution.bias.double()


def rebuild(convolution: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """Return a convolution of the same stride, padding and kind, without gradients, of given weight and bias."""
    rebuilt, dtype = copy.deepcopy(convolution), convolution.weight.dtype
    rebuilt.weight = nn.Parameter(weight.detach().to(dtype), requires_grad=False)
    rebuilt.bias = nn.Parameter(bias.detach().to(dtype), requires_grad=False)
    rebuilt.out_channels, rebuilt.in_channels = weight.shape[0], weight.shape[1] * convolution.groups
    return rebuilt


def scale_outputs(convolution: nn.Conv2d, scale: Tensor, shift: Tensor | None = None) -> nn.Conv2d:
    """Return one convolution that computes ``scale * convolution(x) + shift`` of each channel; it is left as it is."""
    bias = bias_of(convolution) * scale
    weight = convolution.weight.double() * scale[:, None, None, None]
    return rebuild(convolution, weight, bias if shift is None else bias + shift)


def fold_pair(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Return one convolution that computes ``norm(convolution(x))``; both are left as they are."""
    return scale_outputs(convolution, *affine(norm))


def fold_before(norm: nn.BatchNorm2d, convolution: nn.Conv2d) -> nn.Conv2d:
    """Return one 1 x 1 convolution that computes ``convolution(norm(x))``; both are left as they are."""
    if convolution.kernel_size != (1, 1) or convolution.groups != 1:
        raise ValueError("batch normalisation folds into a following convolution of 1 x 1 alone")
    scale, shift = affine(norm)
    weight = convolution.weight.double()
    return rebuild(convolution, weight * scale[:, None, None], bias_of(convolution) + weight.flatten(1) @ shift)


def fold_sequential(layers: nn.Sequential) -> nn.Sequential:
    """Return the layers with every normalisation folded into the convolution right before it."""
    folded: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d) and folded and isinstance(folded[-1], nn.Conv2d):
            folded[-1] = fold_pair(folded[-1], layer)
        else:
            folded.append(layer)
    return nn.Sequential(*folded)


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


def fold_mobilenet(trunk: T) -> T:
    """Return a copy of the trunk with every batch normalisation folded into its convolution."""
    trunk = copy.deepcopy(trunk).eval()
    for index, layer in enumerate(trunk.features):
        if isinstance(layer, InvertedResidual):
            parts = [fold_sequential(part) if isinstance(part, nn.Sequential) else part for part in layer.conv]
            layer.conv = fold_sequential(nn.Sequential(*parts))
        elif isinstance(layer, nn.Sequential):
            trunk.features[index] = fold_sequential(layer)
    return trunk
