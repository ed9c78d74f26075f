"""Decode LZW data of GIF files (GIF89a, 1990, appendix F).

As that of TIFF, see `tiff_lzw`, but low bit first, with codes that widen one later, of any number of colours, and with
a full table that stays in use until a Clear.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import DAMAGED
from iqa_runtime.images.tiff_lzw import strings_of

_MOST_BITS = 12
_CODES = 1 << _MOST_BITS  # there are, and so many go at once
_BYTES_PER_CLEAR = 256  # coded; a table is full after some 5000. Of less, setting arrays up costs more than they save


def decode_gif_lzw(coded: bytes, bits: int, wanted: int) -> NDArray[np.uint8]:
    """Decode the pixels of one image.

    Parameters
    ----------
    coded
        The joined blocks of data.
    bits
        Of a pixel, 2 to 8.
    wanted
        Pixels there are; what is coded beyond them is ignored, as by all decoders.

    Returns
    -------
    numpy.ndarray
        uint8, `wanted`.

    Raises
    ------
    ImageError
        If there are fewer, or a code has no meaning.
    """
    pixels = _decode_by_stretches(coded, bits, wanted)
    if pixels is None:
        pixels = _decode_by_codes(coded, bits, wanted)
    if len(pixels) < wanted:
        raise ImageError(f"corrupt GIF: {len(pixels)} of {wanted} pixels are coded; {DAMAGED}")
    return pixels[:wanted]


def _meaningless() -> ImageError:
    return ImageError(f"corrupt GIF: an LZW code without a meaning; {DAMAGED}")


def _decode_by_codes(coded: bytes, bits: int, wanted: int) -> NDArray[np.uint8]:
    clear, first = 1 << bits, (1 << bits) + 2
    decoded = bytearray()
    strings: list[bytes] = []
    previous = b""
    window = available = position = 0
    width = bits + 1
    while len(decoded) < wanted:
        while available < width and position < len(coded):
            window |= coded[position] << available
            available, position = available + 8, position + 1
        if available < width:
            break
        code = window & (1 << width) - 1
        window, available = window >> width, available - width
        if code == clear:
            strings, previous, width = [], b"", bits + 1
            continue
        if code == clear + 1:
            break
        if code < clear:
            string = bytes((code,))
        elif code - first < len(strings):
            string = strings[code - first]
        elif code - first == len(strings) and previous and len(strings) < _CODES - first:
            string = previous + previous[:1]
        else:
            raise _meaningless()
        if previous and len(strings) < _CODES - first:
            strings.append(previous + string[:1])
            width = min((first + len(strings)).bit_length(), _MOST_BITS)
        decoded += string
        previous = string
    return np.frombuffer(decoded, np.uint8)


def _decode_by_stretches(coded: bytes, bits: int, wanted: int) -> NDArray[np.uint8] | None:
    """Decode what lies between two Clears at once; None where there are many of them, or a code has no meaning."""
    clear, first = 1 << bits, (1 << bits) + 2
    data = np.frombuffer(coded + bytes(4), np.uint8)
    growing = _CODES - first + 1  # codes of a table that is not full
    widths = np.array([(first - 1 + index).bit_length() for index in range(growing)])
    out = np.empty(wanted, np.uint8)
    done, start, end = 0, 0, 8 * len(coded)
    table: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]] | None = None
    for _ in range(4 + len(coded) // _BYTES_PER_CLEAR):
        steps = widths if table is None else np.full(_CODES, _MOST_BITS)
        ends = np.cumsum(steps)
        steps = steps[: int(np.searchsorted(ends, end - start, side="right"))]
        places = ends[: len(steps)] - steps + start
        codes = _cut_out(data, places, steps)
        stops = np.flatnonzero((codes == clear) | (codes == clear + 1))
        count = int(stops[0]) if len(stops) else len(codes)
        if table is None:
            found = strings_of(codes[:count], first)
            if found is None:
                return None
            starts, lengths, pixels = found
            # The string of an entry goes on for one pixel into the next; the last of a full table made no entry.
            table = starts[:-1], lengths[:-1] + 1, pixels
        else:
            pixels = _look_up(codes[:count], clear, first, table)
        fitting = min(len(pixels), wanted - done)
        out[done : done + fitting] = pixels[:fitting]
        done += fitting
        if done == wanted or count == len(codes) < len(ends) or (len(stops) and codes[count] == clear + 1):
            return out[:done]
        if len(stops):
            start, table = int(places[count] + steps[count]), None
        else:
            start += int(ends[-1])
    return None


def _cut_out(data: NDArray[np.uint8], places: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the codes that begin at bits `places`, low bit first."""
    byte = places >> 3
    window = data[byte].astype(np.int64) | data[byte + 1].astype(np.int64) << 8 | data[byte + 2].astype(np.int64) << 16
    return np.asarray(window >> (places & 7) & (1 << widths) - 1)


def _look_up(
    codes: NDArray[np.int64],
    clear: int,
    first: int,
    table: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """Decode codes by a table that does not grow: where its strings begin among pixels, and how long they are."""
    begins, lengths, pixels = table
    colors = np.arange(clear)
    # Plain colours and strings, one behind the other.
    source = np.concatenate([colors.astype(np.uint8), pixels])
    where = np.concatenate([colors, (0, 0), begins + clear])[codes]
    spans = np.concatenate([np.ones(first, np.int64), lengths])[codes]
    ends = np.cumsum(spans)
    return np.asarray(source[np.repeat(where - ends + spans, spans) + np.arange(ends[-1] if len(ends) else 0)])
