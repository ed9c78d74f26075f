"""The few photographs that come with the package: parity is checked on them, and calibration falls back on them."""

from __future__ import annotations

from importlib import resources

import numpy as np
from numpy.typing import NDArray


def packaged_photographs() -> list[bytes]:
    """Return the photographs as files, sorted by name; their licences are in ``LICENCES.md`` beside them."""
    entries = sorted(resources.files(__name__).iterdir(), key=lambda entry: entry.name)
    return [entry.read_bytes() for entry in entries if entry.name.endswith(".jpg")]


def repeated(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Cut a picture, H x W x 3, to a height and width from its upper left corner; repeat one that is too small."""
    tiles = (-(-height // pixels.shape[0]), -(-width // pixels.shape[1]), 1)
    return np.tile(pixels, tiles)[:height, :width]
