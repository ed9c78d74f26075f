"""Cut token maps into non-overlapping windows and put them back, by reshape and transpose alone.

`torch.nn.functional.unfold` and `fold` would compute the same, but `fold` exports as Col2Im, which TensorRT has not.
"""

from __future__ import annotations

from torch import Tensor


def cut(tokens: Tensor, size: int, windows: int) -> Tensor:
    """Cut the tokens of a square map into `windows` x `windows` contiguous blocks.

    Parameters
    ----------
    tokens
        (B, size^2, C), row-major, or the same as a map, (B, size, size, C).
    size
        Side of the map, a multiple of `windows`.
    windows
        Blocks along each axis.

    Returns
    -------
    Tensor
        (B, windows^2, (size / windows)^2, C), blocks row-major, tokens of a block row-major.
    """
    side, channels = size // windows, tokens.shape[-1]
    x = tokens.reshape(-1, windows, side, windows, side, channels)
    return x.transpose(2, 3).reshape(-1, windows * windows, side * side, channels)


def join(blocks: Tensor, size: int, windows: int) -> Tensor:
    """Undo `cut`: (B, windows^2, (size / windows)^2, C) to (B, size^2, C)."""
    side, channels = size // windows, blocks.shape[-1]
    x = blocks.reshape(-1, windows, windows, side, side, channels)
    return x.transpose(2, 3).reshape(-1, size * size, channels)
