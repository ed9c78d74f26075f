"""NIMA on MobileNetV1, as Keras computes it: ``iqa-export --module nima:NimaMobileNet --contract nima.toml``.

H. Talebi, P. Milanfar, NIMA: neural image assessment, IEEE Transactions on Image Processing 27(8), 2018;
A. G. Howard et al., MobileNets, arXiv:1704.04861.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
"""Channels after each of the 13 separable convolutions."""
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
FIRST_WIDTH = 32
GRADES = 10
EPSILON = 1e-3
"""Of the batch normalisation in Keras's MobileNet; PyTorch's default is 1e-5."""


class KerasConvolution(nn.Module):
    """A convolution without bias, its normalisation and ReLU6; `groups` of one channel each make it depthwise.

    With a stride of 2 Keras pads a row at the bottom and a column at the right alone, where PyTorch's own padding
    would add one on each side and see other pixels.
    """

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, *, depthwise: bool = False) -> None:
        super().__init__()
        before, after = (0, 1) if stride > 1 else (size // 2, size // 2)
        self.padding = (before, after, before, after)
        self.convolution = nn.Conv2d(inputs, outputs, size, stride, groups=inputs if depthwise else 1, bias=False)
        self.normalisation = nn.BatchNorm2d(outputs, eps=EPSILON)

    def forward(self, values: Tensor) -> Tensor:
        padded = functional.pad(values, self.padding)
        return functional.relu6(self.normalisation(self.convolution(padded)))


class NimaMobileNet(nn.Module):
    """Probabilities of the grades 1 to 10, (N, 10), of crops (N, 3, 224, 224), RGB from -1 to 1."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [KerasConvolution(3, FIRST_WIDTH, 3, 2)]
        inputs = FIRST_WIDTH
        for outputs, stride in zip(WIDTHS, STRIDES, strict=True):
            layers += [KerasConvolution(inputs, inputs, 3, stride, depthwise=True)]
            layers += [KerasConvolution(inputs, outputs, 1, 1)]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.grades = nn.Linear(inputs, GRADES)

    def forward(self, image: Tensor) -> Tensor:
        return torch.softmax(self.grades(self.layers(image).mean((2, 3))), 1)
