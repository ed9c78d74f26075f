"""Octave convolution (Chen et al., arXiv 1904.05049): high-frequency channels and, at half the size, low ones."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class OctaveConv(nn.Module):
    """Four 3 x 3 convolutions, from each frequency to each; those that would have no channels are None.

    A stride of two averages 2 x 2 pixels of every input first, so that the low input already has the size of the high
    output.

    Parameters
    ----------
    channels, out_channels
        Both frequencies together.
    low, out_low
        How many of them are low-frequency.
    stride
        1 or 2.
    """

    def __init__(self, channels: int, out_channels: int, low: int, out_low: int, stride: int) -> None:
        super().__init__()
        self.stride = stride

        def convolution(inputs: int, outputs: int) -> nn.Conv2d | None:
            return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False) if inputs and outputs else None

        high, out_high = channels - low, out_channels - out_low
        self.high_to_high = nn.Conv2d(high, out_high, 3, padding=1, bias=False)
        self.high_to_low = convolution(high, out_low)
        self.low_to_high = convolution(low, out_high)
        self.low_to_low = convolution(low, out_low)

    def forward(self, high: Tensor, low: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Map (B, high, H, W) and (B, low, H / 2, W / 2) to the same pair at sizes divided by the stride."""
        if self.stride == 2:
            high = functional.avg_pool2d(high, 2)
        out_high: Tensor = self.high_to_high(high)
        if low is not None and self.low_to_high is not None:
            out_high = out_high + self._enlarge(self.low_to_high(low))
        if self.high_to_low is None:
            return out_high, None
        out_low: Tensor = self.high_to_low(functional.avg_pool2d(high, 2))
        if low is not None and self.low_to_low is not None:
            out_low = out_low + self.low_to_low(functional.avg_pool2d(low, 2) if self.stride == 2 else low)
        return out_high, out_low

    def _enlarge(self, x: Tensor) -> Tensor:
        return x if self.stride == 2 else functional.interpolate(x, scale_factor=2, mode="nearest")
