"""Follow the Huffman codes of a JPEG file without making pixels (ITU-T T.81, Annexes F and G).

It tells where coded data ends, bit by bit, and whether every unit is there. That is needed where the strict decoder
cannot be asked: for samplings it has no name for, and for filling between the last bit and the marker after it.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import DAMAGED
from iqa_runtime.images.jpeg_markers import COEFFICIENTS, DHT, SOS, Frame, Segment

_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_SPARE = 512  # bytes behind the data, so that the codes of a block that ends beyond it can be cut out like any other
_VALUE = 1 << 16
_LUMINANCE_AC = (
    "0002010303020403050504040000017d01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a"
    "161718191a25262728292a3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a8384858687"
    "88898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7"
    "e8e9eaf1f2f3f4f5f6f7f8f9fa"
)
_CHROMINANCE_AC = (
    "00020102040403040705040400010277000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a1624"
    "34e125f11718191a262728292a35363738393a434445464748494a535455565758595a636465666768696a737475767778797a82838485"
    "868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6"
    "e7e8e9eaf2f3f4f5f6f7f8f9fa"
)
_STANDARD_TABLES = {
    0x00: bytes.fromhex("00010501010101010100000000000000000102030405060708090a0b"),
    0x01: bytes.fromhex("00030101010101010101010000000000000102030405060708090a0b"),
    0x10: bytes.fromhex(_LUMINANCE_AC),
    0x11: bytes.fromhex(_CHROMINANCE_AC),
}
"""Of Annex K.3: frames of Motion JPEG, as cameras send them, have no tables and mean these."""

_Windows: TypeAlias = "array[int]"
_Table: TypeAlias = "array[int]"
"""By the next 16 bits: what the code means; 0 where no code begins so."""
_Meaning = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]
"""From the lengths of codes and their symbols to what is looked up."""


def follow_scans(segments: list[Segment], frame: Frame) -> list[Segment]:
    """Check that every unit of every scan is coded, and take the filling out.

    Parameters
    ----------
    segments
        Of a file that `jpeg_markers.read_markers` has accepted.
    frame
        Of the same file.

    Returns
    -------
    list of Segment
        The same, their coded data without the filling before restart markers and after its end.

    Raises
    ------
    ImageError
        If a code has no meaning, units are missing, or what follows the last one is more than filling: bytes that are
        all 0 or all 255.
    """
    has_tables = any(segment.marker == DHT for segment in segments)
    tables = {} if has_tables else dict(_STANDARD_TABLES)
    blocks = {component: frame.units([component]) * frame.progressive for component in frame.sampling}
    nonzero = {component: bytearray(COEFFICIENTS * count) for component, count in blocks.items()}
    followed = []
    for segment in segments:
        if segment.marker == DHT:
            tables.update(_split_tables(segment.body))
        elif segment.marker == SOS:
            scan = _ProgressiveScan if frame.progressive else _SequentialScan
            segment = replace(segment, coded=_without_filling(segment, scan(segment, frame, tables, nonzero), frame))
        followed.append(segment)
    return followed


def _without_filling(segment: Segment, scan: _SequentialScan, frame: Frame) -> bytes:
    left = frame.units(list(segment.components))
    parts = _RESTART.split(segment.coded) if segment.interval else [segment.coded]
    plain = [coded.rstrip(b"\xff").replace(b"\xff\x00", b"\xff") for coded in parts[::2]]
    windows, start = _windows(b"".join(plain)), 0
    kept = []
    for part in plain:
        units = min(segment.interval or left, left)
        left -= units
        end = -(-scan.follow(windows, 8 * start, 8 * (start + len(part)), units) // 8) - start
        if end > len(part) or len(set(part[end:])) > 1 or not set(part[end:]) <= {0, 255}:
            raise ImageError(f"corrupt JPEG: its image data does not end with its last unit; {DAMAGED}")
        kept.append(part[:end].replace(b"\xff", b"\xff\x00"))
        start += len(part)
    markers = [b"\xff" + number for number in parts[1::2]]
    return b"".join(chain.from_iterable(zip(kept, [*markers, b""], strict=True)))


def _windows(data: bytes) -> _Windows:
    """Return the 24 bits that begin at each byte."""
    padded = np.frombuffer(data + bytes(_SPARE), np.uint8).astype(np.uint32)
    return array("I", (padded[:-2] << 16 | padded[1:-1] << 8 | padded[2:]).tobytes())


def _split_tables(body: bytes) -> dict[int, bytes]:
    """Return the tables of one DHT segment by class and number: 16 counts, then the symbols (B.2.4.2)."""
    tables, position = {}, 0
    while position + 17 <= len(body):
        end = position + 17 + sum(body[position + 1 : position + 17])
        tables[body[position]] = body[position + 1 : end]
        position = end
    return tables


@lru_cache(maxsize=8)  # the strips of a TIFF file share theirs
def _huffman_table(stored: bytes, meaning: _Meaning) -> _Table:
    """Spread what codes mean over all 16 bits that may come next (Annex C)."""
    symbols = np.frombuffer(stored, np.uint8, offset=16).astype(np.int64)
    lengths = np.repeat(np.arange(1, 17), np.frombuffer(stored, np.uint8, 16))[: len(symbols)]
    table = np.zeros(1 << 16, np.uint32)
    places = 1 << 16 - lengths
    if places.sum() > len(table):
        raise ImageError(f"corrupt JPEG: an impossible Huffman table; {DAMAGED}")
    table[: places.sum()] = np.repeat(meaning(lengths, symbols), places)
    return array("I", table.tobytes())


def _of_dc(lengths: NDArray[np.int64], symbols: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bits that each code of a DC table takes, those of its difference included."""
    return lengths + (symbols & 15)


def _of_ac(lengths: NDArray[np.int64], symbols: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the same of an AC table, times 256, plus how many coefficients each code goes on.

    A coefficient has `_VALUE` on top: it must be one of the block. The end of a block goes beyond all.
    """
    sizes, zeros = symbols & 15, symbols >> 4
    steps = np.where((sizes == 0) & (zeros < 15), COEFFICIENTS, zeros + 1)
    return lengths + sizes << 8 | steps | np.where(sizes > 0, _VALUE, 0)


def _of_band(lengths: NDArray[np.int64], symbols: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what a progressive scan needs: the length of each code times 256, plus its symbol."""
    return lengths << 8 | symbols


def _meaningless() -> ImageError:
    return ImageError(f"corrupt JPEG: a code without a meaning in its image data; {DAMAGED}")


class _SequentialScan:
    """A scan of a baseline or extended file (F.2.2)."""

    def __init__(self, segment: Segment, frame: Frame, tables: dict[int, bytes], nonzero: dict[int, bytearray]) -> None:
        self._nonzero = nonzero[segment.components[0]]
        count = len(segment.components)
        self._first, self._last, bits = segment.body[1 + 2 * count : 4 + 2 * count]
        self._refines = bits >> 4 > 0
        self._block = 0
        if frame.progressive and self._first > 0 and (count > 1 or self._last >= COEFFICIENTS):
            raise ImageError(f"corrupt JPEG: an impossible scan; {DAMAGED}")
        self._blocks: list[tuple[_Table, ...]] = []
        for index, component in enumerate(segment.components):
            number = segment.body[2 + 2 * index]
            needed = self._needed_tables(number >> 4, 0x10 | number & 15)
            if not all(tables.get(place) for place, _ in needed):
                raise ImageError(f"corrupt JPEG: a Huffman table is missing; {DAMAGED}")
            h, v = frame.sampling[component] if count > 1 else (1, 1)
            self._blocks += [tuple(_huffman_table(tables[place], meaning) for place, meaning in needed)] * (h * v)

    def _needed_tables(self, dc: int, ac: int) -> list[tuple[int, _Meaning]]:
        """Say which tables of a component are needed, and what for."""
        return [(dc, _of_dc), (ac, _of_ac)]

    def follow(self, windows: _Windows, bit: int, end: int, units: int) -> int:
        """Return the bit position after so many units from `bit` on; beyond `end` it is any."""
        for _ in range(units):
            for dc, ac in self._blocks:
                entry = dc[windows[bit >> 3] >> 8 - (bit & 7) & 0xFFFF]
                if not entry:
                    raise _meaningless()
                bit += entry
                place = 1
                while place < COEFFICIENTS:
                    entry = ac[windows[bit >> 3] >> 8 - (bit & 7) & 0xFFFF]
                    if not entry:
                        raise _meaningless()
                    bit += entry >> 8 & 255
                    place += entry & 255
                if place > COEFFICIENTS and entry & _VALUE:
                    raise ImageError(f"corrupt JPEG: more than {COEFFICIENTS} coefficients in a block; {DAMAGED}")
                if bit > end:
                    return bit
        return bit


class _ProgressiveScan(_SequentialScan):
    """A scan of a progressive file (Annex G)."""

    def _needed_tables(self, dc: int, ac: int) -> list[tuple[int, _Meaning]]:
        if self._first == 0:
            return [] if self._refines else [(dc, _of_dc)]
        return [(ac, _of_band)]

    def follow(self, windows: _Windows, bit: int, end: int, units: int) -> int:
        """Return the bit position after so many units from `bit` on; beyond `end` it is any."""
        if self._first == 0 and self._refines:
            return bit + units * len(self._blocks)
        if self._first > 0:
            return self._follow_bands(windows, bit, end, units)
        tables = [table for (table,) in self._blocks]
        for _ in range(units):
            for dc in tables:
                entry = dc[windows[bit >> 3] >> 8 - (bit & 7) & 0xFFFF]
                if not entry:
                    raise _meaningless()
                bit += entry
            if bit > end:
                return bit
        return bit

    def _follow_bands(self, windows: _Windows, bit: int, end: int, units: int) -> int:
        """Follow a band, block by block where they have codes, run by run where they have none."""
        code = self._refine if self._refines else self._code_band
        while units > 0 and bit <= end:
            bit, run = code(windows, bit)
            run = min(run, units - 1)  # a run ends with its restart interval
            self._block += 1
            if self._refines and run:
                bit += self._count_nonzero(run)
            self._block += run
            units -= 1 + run
        return bit

    def _code_band(self, windows: _Windows, bit: int) -> tuple[int, int]:
        """Follow the first scan of a band of one block (G.1.2.2); return how many after it have nothing in the band."""
        ((table,),), place, block = self._blocks, self._first, COEFFICIENTS * self._block
        while place <= self._last:
            entry = table[windows[bit >> 3] >> 8 - (bit & 7) & 0xFFFF]
            if not entry:
                raise _meaningless()
            size, zeros = entry & 15, entry >> 4 & 15
            bit += (entry >> 8) + size
            if not size and zeros < 15:
                return bit + zeros, self._read_run(windows, bit, zeros) - 1
            place += zeros
            if place > self._last:
                raise ImageError(f"corrupt JPEG: coefficients beyond the band of a scan; {DAMAGED}")
            self._nonzero[block + place] = size > 0
            place += 1
        return bit, 0

    def _refine(self, windows: _Windows, bit: int) -> tuple[int, int]:
        """Follow a scan that adds a bit to a band of one block (G.1.2.3); return as `_code_band`."""
        ((table,),), place, block = self._blocks, self._first, COEFFICIENTS * self._block
        known = self._nonzero
        while place <= self._last:
            entry = table[windows[bit >> 3] >> 8 - (bit & 7) & 0xFFFF]
            if not entry:
                raise _meaningless()
            size, zeros = entry & 15, entry >> 4 & 15
            bit += (entry >> 8) + (size > 0)
            if not size and zeros < 15:
                run = self._read_run(windows, bit, zeros) - 1
                return bit + zeros + known.count(1, block + place, block + self._last + 1), run
            while place <= self._last:
                if known[block + place]:
                    bit += 1
                elif zeros:
                    zeros -= 1
                else:
                    break
                place += 1
            if place > self._last and size:
                raise ImageError(f"corrupt JPEG: coefficients beyond the band of a scan; {DAMAGED}")
            if place <= self._last and size:
                known[block + place] = 1
            place += 1
        return bit, 0

    def _count_nonzero(self, run: int) -> int:
        """Count the coefficients of a run of blocks, in the band, that have one more bit: those that are not zero."""
        known, start, end = self._nonzero, COEFFICIENTS * self._block, COEFFICIENTS * (self._block + run)
        if run <= self._last - self._first:
            blocks = range(start, end, COEFFICIENTS)
            return sum(known.count(1, block + self._first, block + self._last + 1) for block in blocks)
        return sum(known[start + place : end : COEFFICIENTS].count(1) for place in range(self._first, self._last + 1))

    @staticmethod
    def _read_run(windows: _Windows, bit: int, size: int) -> int:
        """Read how many blocks, this one included, have nothing more in this band."""
        return (1 << size) + (windows[bit >> 3] >> 24 - size - (bit & 7) & (1 << size) - 1)
