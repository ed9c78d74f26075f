"""Follow the Huffman codes of a JPEG file without making pixels (ITU-T T.81, Annexes F and G).

It tells where coded data ends, bit by bit, and whether every unit is there. That is needed where the strict decoder
cannot be asked: for samplings it has no name for, and for filling between the last bit and the marker after it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import chain, islice

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import DAMAGED
from iqa_runtime.images.jpeg_markers import COEFFICIENTS, DHT, SOS, Frame, Segment

_RESTART = re.compile(rb"\xff+([\xd0-\xd7])")
_SPARE = bytes(8)  # behind the data, so that the last code can be cut out like any other
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

_Table = list[int]
"""By the next 16 bits: the code's length times 256 plus its symbol; 0 where no code begins so."""


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
    kept = []
    for coded in parts[::2]:
        units = min(segment.interval or left, left)
        left -= units
        plain = coded.rstrip(b"\xff").replace(b"\xff\x00", b"\xff")
        scan.restart()
        end = -(-scan.follow(plain + _SPARE, units) // 8)
        if end > len(plain) or len(set(plain[end:])) > 1 or not set(plain[end:]) <= {0, 255}:
            raise ImageError(f"corrupt JPEG: its image data does not end with its last unit; {DAMAGED}")
        kept.append(plain[:end].replace(b"\xff", b"\xff\x00"))
    markers = [b"\xff" + number for number in parts[1::2]]
    return b"".join(chain.from_iterable(zip(kept, [*markers, b""], strict=True)))


def _split_tables(body: bytes) -> dict[int, bytes]:
    """Return the tables of one DHT segment by class and number: 16 counts, then the symbols (B.2.4.2)."""
    tables, position = {}, 0
    while position + 17 <= len(body):
        end = position + 17 + sum(body[position + 1 : position + 17])
        tables[body[position]] = body[position + 1 : end]
        position = end
    return tables


def _huffman_table(stored: bytes) -> _Table:
    """Spread a table over all 16 bits that may come next (Annex C)."""
    table: _Table = []
    symbols = iter(stored[16:])
    for length, count in enumerate(stored[:16], start=1):
        for symbol in islice(symbols, count):
            table += [length << 8 | symbol] * (1 << 16 - length)
        if len(table) > 1 << 16:
            raise ImageError(f"corrupt JPEG: an impossible Huffman table; {DAMAGED}")
    return table + [0] * ((1 << 16) - len(table))


def _code(table: _Table, data: bytes, bit: int) -> int:
    """Look the code at a bit position up."""
    place = bit >> 3
    entry = table[int.from_bytes(data[place : place + 3]) >> 8 - (bit & 7) & 0xFFFF]
    if not entry:
        raise ImageError(f"corrupt JPEG: a code without a meaning in its image data; {DAMAGED}")
    return entry


class _SequentialScan:
    """A scan of a baseline or extended file (F.2.2)."""

    def __init__(self, segment: Segment, frame: Frame, tables: dict[int, bytes], nonzero: dict[int, bytearray]) -> None:
        self._blocks: list[tuple[_Table, _Table]] = []
        self._nonzero = nonzero[segment.components[0]]
        count = len(segment.components)
        self._first, self._last, bits = segment.body[1 + 2 * count : 4 + 2 * count]
        self._refines = bits >> 4 > 0
        self._run = 0
        self._block = 0
        if frame.progressive and self._first > 0 and (count > 1 or self._last >= COEFFICIENTS):
            raise ImageError(f"corrupt JPEG: an impossible scan; {DAMAGED}")
        built = {name: _huffman_table(stored) for name, stored in tables.items()}
        for index, component in enumerate(segment.components):
            number = segment.body[2 + 2 * index]
            pair = built.get(number >> 4, []), built.get(0x10 | number & 15, [])
            h, v = frame.sampling[component] if count > 1 else (1, 1)
            self._blocks += [pair] * (h * v)
        if not all(map(all, self._needed_tables())):
            raise ImageError(f"corrupt JPEG: a Huffman table is missing; {DAMAGED}")

    def _needed_tables(self) -> list[tuple[_Table, ...]]:
        return [*self._blocks]

    def restart(self) -> None:
        """Begin a restart interval."""
        self._run = 0

    def follow(self, data: bytes, units: int) -> int:
        """Return the bit position after so many units; `data` ends with spare bytes."""
        bit, end = 0, 8 * len(data) - 32
        for _ in range(units):
            for dc, ac in self._blocks:
                entry = _code(dc, data, bit)
                bit += (entry >> 8) + (entry & 15)
                place = 1
                while place < COEFFICIENTS:
                    entry = _code(ac, data, bit)
                    size, zeros = entry & 15, entry >> 4 & 15
                    bit += (entry >> 8) + size
                    if not size and zeros < 15:
                        break
                    place += zeros + 1
                if size and place > COEFFICIENTS:
                    raise ImageError(f"corrupt JPEG: more than {COEFFICIENTS} coefficients in a block; {DAMAGED}")
                if bit > end:
                    return bit
        return bit


class _ProgressiveScan(_SequentialScan):
    """A scan of a progressive file (Annex G)."""

    def _needed_tables(self) -> list[tuple[_Table, ...]]:
        if self._first == 0:
            return [] if self._refines else [(dc,) for dc, _ac in self._blocks]
        return [(ac,) for _dc, ac in self._blocks]

    def follow(self, data: bytes, units: int) -> int:
        """Return the bit position after so many units; `data` ends with spare bytes."""
        bit, end = 0, 8 * len(data) - 32
        for _ in range(units):
            if self._first > 0:
                bit = (self._refine if self._refines else self._code_band)(data, bit)
                self._block += COEFFICIENTS
            elif self._refines:
                bit += len(self._blocks)
            else:
                for dc, _ac in self._blocks:
                    entry = _code(dc, data, bit)
                    bit += (entry >> 8) + (entry & 15)
            if bit > end:
                return bit
        return bit

    def _code_band(self, data: bytes, bit: int) -> int:
        """Follow the first scan of a band of one block (G.1.2.2)."""
        if self._run:
            self._run -= 1
            return bit
        table, place = self._blocks[0][1], self._first
        while place <= self._last:
            entry = _code(table, data, bit)
            size, zeros = entry & 15, entry >> 4 & 15
            bit += (entry >> 8) + size
            if not size and zeros < 15:
                self._run = self._read_run(data, bit, zeros) - 1
                return bit + zeros
            place += zeros
            if place > self._last:
                raise ImageError(f"corrupt JPEG: coefficients beyond the band of a scan; {DAMAGED}")
            self._nonzero[self._block + place] = size > 0
            place += 1
        return bit

    def _refine(self, data: bytes, bit: int) -> int:
        """Follow a scan that adds a bit to a band of one block (G.1.2.3)."""
        table, place = self._blocks[0][1], self._first
        known = self._nonzero
        while place <= self._last and not self._run:
            entry = _code(table, data, bit)
            size, zeros = entry & 15, entry >> 4 & 15
            bit += (entry >> 8) + (size > 0)
            if not size and zeros < 15:
                self._run = self._read_run(data, bit, zeros)
                bit += zeros
                break
            while place <= self._last:
                if known[self._block + place]:
                    bit += 1
                elif zeros:
                    zeros -= 1
                else:
                    break
                place += 1
            if place > self._last and size:
                raise ImageError(f"corrupt JPEG: coefficients beyond the band of a scan; {DAMAGED}")
            if place <= self._last and size:
                known[self._block + place] = 1
            place += 1
        if self._run:
            bit += sum(known[self._block + place : self._block + self._last + 1])
            self._run -= 1
        return bit

    @staticmethod
    def _read_run(data: bytes, bit: int, size: int) -> int:
        """Read how many blocks have nothing more in this band."""
        place = bit >> 3
        return (1 << size) + (int.from_bytes(data[place : place + 3]) >> 24 - size - (bit & 7) & (1 << size) - 1)
