"""Deterministic weights for parity cases: the same key and shape always give the same values.

fill(key, shape, seed) returns float32 values for one entry of a state dict, drawn from
numpy's frozen legacy generator, so any implementation can rebuild them anywhere.
"""

import zlib

import numpy as np


def fill(key: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.RandomState((zlib.crc32(key.encode()) + seed) % 2**32)
    if key.endswith("running_var"):
        values = rng.uniform(0.8, 1.2, shape)
    elif key.endswith("running_mean"):
        values = 0.05 * rng.standard_normal(shape)
    elif len(shape) >= 2:
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    elif key.endswith("weight"):
        values = 1 + 0.1 * rng.standard_normal(shape)
    else:
        values = 0.1 * rng.standard_normal(shape)
    return np.asarray(values, dtype=np.float32)


def image(seed: int, batch: int, height: int = 224, width: int = 224) -> np.ndarray:
    """uint8 RGB crops, shape (batch, height, width, 3): smooth shading plus noise, different in every crop."""
    rng = np.random.RandomState(seed)
    rows = np.linspace(0, 1, height)[None, :, None, None]
    cols = np.linspace(0, 1, width)[None, None, :, None]
    freq = rng.uniform(1, 12, (2, batch, 1, 1, 3))
    phase = rng.uniform(0, 6.28, (2, batch, 1, 1, 3))
    base = 127 + 60 * np.sin(6.28 * freq[0] * rows + phase[0]) + 60 * np.cos(6.28 * freq[1] * cols + phase[1])
    noise = rng.uniform(2, 40, (batch, 1, 1, 1)) * rng.standard_normal((batch, height, width, 3))
    return np.clip(base + noise, 0, 255).astype(np.uint8)
