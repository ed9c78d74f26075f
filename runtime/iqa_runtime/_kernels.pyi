from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_THREADS: int
TAPS: int
WEIGHT_BITS: int

def instruction_sets() -> tuple[str, ...]: ...
def extract_patches(
    image: NDArray[np.uint8],
    positions: NDArray[np.int64],
    table: NDArray[Any],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    swap_channels: bool,
    out: NDArray[Any],
    threads: int,
    instruction_set: str,
) -> None: ...
def formula_is_exact(
    table: NDArray[Any],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    swap_channels: bool,
    instruction_set: str,
) -> bool: ...
def resize(
    image: NDArray[np.uint8],
    rows: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]] | None,
    columns: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]] | None,
    out: NDArray[np.uint8],
    instruction_set: str,
) -> None: ...
def to_srgb(
    image: NDArray[np.uint8],
    linear: NDArray[np.uint16],
    matrix: NDArray[np.int16],
    shift: int,
    lines: NDArray[np.uint8],
    encode: NDArray[np.uint8],
    instruction_set: str,
) -> None: ...
def sines(x: NDArray[np.float64], out: NDArray[np.float64]) -> None: ...
def cosines(x: NDArray[np.float64], out: NDArray[np.float64]) -> None: ...
