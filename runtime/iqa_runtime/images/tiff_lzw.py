"""Decode LZW data of TIFF files (TIFF 6.0, section 13).

Codes grow from 9 to 12 bits at fixed places behind a Clear code, so all codes up to the next Clear are cut out at once.
A code above 257 stands for the string of an earlier code of the same stretch and the byte after it, which lie side by
side in what is decoded: each byte of its string has a place to be copied from. All bytes are followed back to plain
codes together, by doubling the steps. Short data, and data that clears its table often, goes code by code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import DAMAGED

_CLEAR, _END, _FIRST = 256, 257, 258
_TABLE_CODES = 4096 - _FIRST + 1  # codes that make entries; the first after a Clear makes none
_SPARE_CODES = 1024  # read by libtiff beyond a full table, because some writers clear it late
_MOST_CODES = _TABLE_CODES + _SPARE_CODES
# Codes are a bit wider from the moment the table lacks one entry of the old width ("early change").
_WIDTHS = np.searchsorted([2**bits - _FIRST for bits in (9, 10, 11)], np.arange(_MOST_CODES), side="right") + 9
_STARTS = np.concatenate([[0], np.cumsum(_WIDTHS)[:-1]])
_WIDTH_LIST: list[int] = _WIDTHS.tolist()
_SHORT = 512  # coded bytes below which setting arrays up costs more than going code by code
_BYTES_PER_CLEAR = 256  # coded bytes; a table is full after some 5000


def decode_lzw(coded: bytes, wanted: int, most: int) -> bytes:
    """Decode LZW data.

    Parameters
    ----------
    coded
        One strip or tile, high bit first.
    wanted
        Bytes it should decode to; data without an end code counts up to here.
    most
        Bytes after which decoding stops, once there are more.

    Returns
    -------
    bytes
        Up to the end code or the end of the data.

    Raises
    ------
    ImageError
        If a code has no meaning.
    """
    if len(coded) >= _SHORT and (decoded := _decode_by_stretches(coded, wanted, most)) is not None:
        return decoded
    return _decode_by_codes(coded, wanted, most)


def _meaningless() -> ImageError:
    return ImageError(f"corrupt TIFF: an LZW code without a meaning; {DAMAGED}")


def _bits(coded: bytes, start: int, count: int) -> int:
    """Cut out up to 12 bits; beyond the data they are zero."""
    place = start >> 3
    return int.from_bytes(coded[place : place + 3].ljust(3, b"\0")) >> 24 - (start & 7) - count & (1 << count) - 1


def _decode_by_codes(coded: bytes, wanted: int, most: int) -> bytes:
    decoded = bytearray()
    strings: list[bytes] = []
    previous, index, bit, end = b"", 0, 0, 8 * len(coded)
    while len(decoded) <= most:
        if index == _MOST_CODES:
            raise _meaningless()
        width = _WIDTH_LIST[index]
        if bit + width > end:
            # Without an end code, what follows the last pixel is only filling.
            return bytes(decoded[:wanted])
        code = _bits(coded, bit, width)
        if code == _END or (len(decoded) == wanted and _is_odd_end(coded, bit, index, decoded[-1])):
            break
        bit += width
        if code == _CLEAR:
            strings, previous, index = [], b"", 0
            continue
        if code < _CLEAR:
            string = bytes((code,))
        elif code - _FIRST < len(strings):
            string = strings[code - _FIRST]
        elif code - _FIRST == len(strings) and previous:
            string = previous + previous[:1]
        else:
            raise _meaningless()
        if previous:
            strings.append(previous + string[:1])
        decoded += string
        previous, index = string, index + 1
    return bytes(decoded)


def _is_odd_end(coded: bytes, bit: int, index: int, last: int) -> bool:
    """Whether the data ends as some writers end it: once all bytes are there.

    They forget to widen the end code, or repeat the last byte or write a zero before it (Photoshop 7 and
    GraphicConverter). Anything else after the last byte is a sign of damage.
    """
    width = _WIDTH_LIST[index]
    if 8 * len(coded) - bit < 2 * width and _bits(coded, bit, width - 1) == _END:
        return True
    after = {width - 1, width, _WIDTH_LIST[min(index + 1, _MOST_CODES - 1)]}
    return (
        8 * len(coded) - bit < 3 * width + 8
        and _bits(coded, bit, width) in (0, last)
        and any(_bits(coded, bit + width, count) == _END for count in after)
    )


def _decode_by_stretches(coded: bytes, wanted: int, most: int) -> bytes | None:
    """Decode all codes between two Clears at once; None where the end is not plain, or many Clears make this slow."""
    # Bytes beyond the end, so that the last code can be cut out like any other.
    data = np.frombuffer(coded + bytes(4), np.uint8)
    parts: list[bytes] = []
    start, length, end = 0, 0, 8 * len(coded)
    for _ in range(4 + len(coded) // _BYTES_PER_CLEAR):
        codes = _codes(data, start, end)
        stops = np.flatnonzero((codes == _CLEAR) | (codes == _END))
        count = int(stops[0]) if len(stops) else len(codes)
        found = strings_of(codes[:count], _FIRST)
        if found is None or count == _MOST_CODES:
            return None
        strings = found[2]
        parts.append(strings.tobytes())
        length += len(strings)
        if count == len(codes):
            return b"".join(parts)[:wanted]
        if codes[count] == _END:
            return b"".join(parts) if length <= most else None
        if length > most:
            return b"".join(parts)
        start += int(_STARTS[count] + _WIDTHS[count])
    return None


def _codes(data: NDArray[np.uint8], start: int, end: int) -> NDArray[np.int64]:
    """Cut out the codes from bit `start` on, up to bit `end` or as many as there can be before a Clear."""
    count = int(np.searchsorted(_STARTS + _WIDTHS, end - start, side="right"))
    bits = _STARTS[:count] + start
    places = bits >> 3
    window = (data[places].astype(np.int64) << 16) | (data[places + 1].astype(np.int64) << 8) | data[places + 2]
    codes: NDArray[np.int64] = window >> (24 - (bits & 7) - _WIDTHS[:count]) & ((1 << _WIDTHS[:count]) - 1)
    return codes


def strings_of(
    codes: NDArray[np.int64], first: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]] | None:
    """Decode the codes between two Clears, of a table that grows with each.

    Parameters
    ----------
    codes
        Neither Clear nor End among them.
    first
        The lowest that stands for a string.

    Returns
    -------
    tuple or None
        Where the string of each begins, how long it is, and all of them in a row, uint8. None if one has no meaning.
    """
    indices = np.arange(len(codes))
    is_string = codes >= first
    # Entry ``first + i`` begins with the string of code i.
    parents = np.where(is_string, codes - first, indices)
    if (is_string & (parents >= indices)).any():
        return None
    # A string is as much longer than one byte as there are steps back to a plain code.
    steps, ancestors = is_string.astype(np.int64), parents
    while (further := steps[ancestors]).any():
        steps, ancestors = steps + further, ancestors[ancestors]
    lengths = steps + 1
    starts = np.cumsum(lengths) - lengths
    total = int(lengths.sum())
    sources = np.repeat(starts[parents] - starts, lengths)
    sources += np.arange(total)
    while not np.array_equal(further := sources.take(sources), sources):
        sources = further
    plain = np.zeros(total, np.uint8)
    plain[starts[~is_string]] = codes[~is_string]
    return starts, lengths, plain[sources]
