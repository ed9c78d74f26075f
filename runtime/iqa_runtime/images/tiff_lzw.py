"""How many bytes LZW data of a TIFF file decodes to (TIFF 6.0, section 13), without decoding it.

Codes grow from 9 to 12 bits at fixed places behind a Clear code, so all codes up to the next Clear are cut out at once.
A code above 257 stands for the string of an earlier code of the same stretch and one byte more: its length is that of
the way back to a plain byte, found for all codes together by doubling the steps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CLEAR, _END, _FIRST = 256, 257, 258
_TABLE_CODES = 4096 - _FIRST + 1  # codes that make entries; the first after a Clear makes none
_SPARE_CODES = 1024  # read by libtiff beyond a full table, because some writers clear it late
_MOST_CODES = _TABLE_CODES + _SPARE_CODES
# Codes are a bit wider from the moment the table lacks one entry of the old width ("early change").
_WIDTHS = np.searchsorted([2**bits - _FIRST for bits in (9, 10, 11)], np.arange(_MOST_CODES), side="right") + 9
_STARTS = np.concatenate([[0], np.cumsum(_WIDTHS)[:-1]])
_BYTES_PER_CLEAR = 64  # fewer on average would be hostile: clearing so often costs more bits than it saves


def lzw_length(coded: bytes, wanted: int, most: int) -> int:
    """Count what LZW data decodes to.

    Parameters
    ----------
    coded
        One strip or tile, high bit first.
    wanted
        Bytes it should decode to; data without an end code counts up to here.
    most
        Bytes after which counting stops.

    Returns
    -------
    int
        Bytes up to the end code or the end of the data; -1 if a code has no meaning.
    """
    # Bytes beyond the end, so that the last code can be cut out like any other.
    data = np.frombuffer(coded + bytes(4), np.uint8)
    length = start = clears = 0
    end = 8 * len(coded)
    while length <= most and clears <= 16 + most // _BYTES_PER_CLEAR:
        codes = _codes(data, start, end)
        stops = np.flatnonzero((codes == _CLEAR) | (codes == _END))
        count = int(stops[0]) if len(stops) else len(codes)
        added = _decoded(codes[:count])
        if added < 0:
            return -1
        length += added
        if count == len(codes):
            # Without an end code, what follows the last pixel is only filling.
            return min(length, wanted) if count < _MOST_CODES else -1
        if codes[count] == _END:
            return length
        start += int(_STARTS[count] + _WIDTHS[count])
        clears += 1
    return length


def _codes(data: NDArray[np.uint8], start: int, end: int) -> NDArray[np.int64]:
    """Cut out the codes from bit `start` on, up to bit `end` or as many as there can be before a Clear."""
    count = int(np.searchsorted(_STARTS + _WIDTHS, end - start, side="right"))
    bits = _STARTS[:count] + start
    places = bits >> 3
    window = (data[places].astype(np.int64) << 16) | (data[places + 1].astype(np.int64) << 8) | data[places + 2]
    codes: NDArray[np.int64] = window >> (24 - (bits & 7) - _WIDTHS[:count]) & ((1 << _WIDTHS[:count]) - 1)
    return codes


def _decoded(codes: NDArray[np.int64]) -> int:
    """Count the bytes of the codes between two Clears; -1 if one refers to what has not been yet."""
    indices = np.arange(len(codes))
    is_string = codes >= _FIRST
    # Entry `_FIRST + i` begins with the string of code i.
    parents = np.where(is_string, codes - _FIRST, indices)
    if (is_string & (parents >= indices)).any():
        return -1
    steps = is_string.astype(np.int64)
    while True:
        further = steps[parents]
        if not further.any():
            return int(steps.sum()) + len(codes)
        steps = steps + further
        parents = parents[parents]
