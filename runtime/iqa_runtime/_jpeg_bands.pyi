import numpy as np
from numpy.typing import NDArray

LIBJPEG_TURBO: str

def decode_bands(data: bytes, height: int, bands: NDArray[np.int64], out: NDArray[np.uint8]) -> bool: ...
