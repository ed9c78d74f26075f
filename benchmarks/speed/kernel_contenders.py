"""What the contenders of all kernels have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speed.turns import Contender

STORE = "store loop (numpy.fill)"

ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
"""Environment of libraries that do not take their number of threads as an argument."""


def instruction_sets() -> tuple[str, ...]:
    """Return those of this host, the quickest first, and NumPy's twin."""
    try:
        from iqa_runtime import _kernels
    except ImportError:
        return ("numpy",)
    return (*_kernels.instruction_sets(), "numpy")


def kernel_parts(make: str, options: dict[str, Any], names: Iterable[str]) -> list[Contender]:
    """Return our kernel with each of some instruction sets."""
    return [
        Contender(name=f"kernel, {name}", role="part", make=make, options=options, environment={"IQA_KERNELS": name})
        for name in names
    ]


def sample(values: NDArray[Any], count: int = 499) -> list[float]:
    """Return so many values, evenly spread, to be compared with those of others; all where there are fewer."""
    checked: list[float] = values.reshape(-1)[:: max(1, values.size // count)][:count].astype(np.float64).tolist()
    return checked
