"""Kernels chosen by name, and pixels to give them."""

import contextlib
import os
from collections.abc import Iterator
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray

from iqa_runtime.errors import UsageError
from iqa_runtime.kernels import instruction_set

COMPILED = ("avx512", "avx2", "neon", "scalar")


@contextlib.contextmanager
def forced(name: str) -> Iterator[None]:
    """Run kernels of that name; skip the test where this machine has none."""
    with mock.patch.dict(os.environ, {"IQA_KERNELS": name}):
        try:
            instruction_set()
        except UsageError as error:
            pytest.skip(str(error))
        yield


def random_image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return noise of all 256 levels."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
