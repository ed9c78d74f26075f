"""Bits of the headers of coded pictures, the high one of a byte first."""

from __future__ import annotations

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import DAMAGED


class Bits:
    """Numbers of so many bits, one behind the other.

    Parameters
    ----------
    data
        The header.
    complaint
        What is wrong with the file if there are too few: ``AV1 data: a sequence header that ends early``.
    """

    def __init__(self, data: bytes, complaint: str) -> None:
        self._value, self._left, self._complaint = int.from_bytes(data), 8 * len(data), complaint

    def take(self, count: int) -> int:
        """Read a number of so many bits.

        Raises
        ------
        ImageError
            If there are fewer.
        """
        self._left -= count
        if self._left < 0:
            raise ImageError(f"corrupt {self._complaint}; {DAMAGED}")
        return self._value >> self._left & (1 << count) - 1

    def take_zeros(self) -> int:
        """Count zeros up to the next one, which is read, too: how long codes of a growing length are told."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return zeros
