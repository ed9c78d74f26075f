"""Pictures of one value and of all values."""

import numpy as np

from iqa_training.distortions import MIN_SIDE


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def flat(value: int, size: int = 256) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def mean_square(image, other) -> float:
    return float(np.mean((image.astype(float) - other) ** 2))


def ramp(height: int = MIN_SIDE) -> np.ndarray:
    """Every grey, in every row."""
    return np.repeat(np.tile(np.arange(256, dtype=np.uint8), (height, 1))[..., None], 3, axis=2)
