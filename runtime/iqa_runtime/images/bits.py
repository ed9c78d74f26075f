"""Bits of the headers of coded pictures."""

from __future__ import annotations

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import DAMAGED


class Bits:
    """Numbers of so many bits, one behind the other, the high bit of a byte first.

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


class LowBits:
    """Numbers of so many bits, one behind the other, the low bit of a byte first.

    Parameters
    ----------
    data
        The whole file, of which no more is looked at than is read.
    start
        The byte that the first bit is in.
    complaint
        What is wrong with the file if it ends too early: ``JPEG XL: its header ends early``.
    """

    def __init__(self, data: bytes, start: int, complaint: str) -> None:
        self._data, self._position, self._complaint = data, 8 * start, complaint

    def take(self, count: int) -> int:
        """Read a number of so many bits.

        Raises
        ------
        ImageError
            If there are fewer.
        """
        begin = self._position
        self.skip(count)
        part = int.from_bytes(self._data[begin >> 3 : self._position + 7 >> 3], "little")
        return part >> (begin & 7) & (1 << count) - 1

    def skip(self, count: int) -> None:
        """Pass over so many bits, as `take` does."""
        self._position += count
        if self._position > 8 * len(self._data):
            raise ImageError(f"truncated or corrupt {self._complaint}; {DAMAGED}")

    def next_byte(self) -> int:
        """Pass over the rest of a byte that was begun, and return where the next one lies."""
        self._position = self._position + 7 & ~7
        return self._position >> 3
