"""Read Netpbm files, P1 to P6: pbm(5), pgm(5) and ppm(5) of Netpbm 11."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.color.conversion import Conversion
from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import DAMAGED, ImageHeader
from iqa_runtime.images.pixels import WHITE, in_bands, spread

_BITMAPS, _COLORS, _PLAIN = (1, 4), (3, 6), (1, 2, 3)  # by the digit after the P
_SPACE = rb"(?:\s++|#[^\n\r]*+[\n\r])++"  # a comment stands for white space
_NUMBER = rb"(\d{1,10})"
_BITMAP_HEADER = re.compile(rb"P([14])" + 2 * (_SPACE + _NUMBER) + rb"(?:\s|#[^\n\r]*+[\n\r])")
_HEADER = re.compile(rb"P([2356])" + 3 * (_SPACE + _NUMBER) + rb"(?:\s|#[^\n\r]*+[\n\r])")
_COMMENT = re.compile(rb"#[^\n\r]*+")
_DIGITS = 10
_NO_NUMBER, _NO_BIT = re.compile(rb"[^\d\s]|\d{%d}" % (_DIGITS + 1)), re.compile(rb"[^01\s]")
_MOST = 65535
_TEXT = 1 << 20  # bytes of samples in text, read at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pnm:
    """What the header says: the digit after the P, the greatest sample, and the samples of a row; and those in text."""

    kind: int
    maximum: int
    row: int
    start: int
    text: bytes = b""

    @property
    def row_bytes(self) -> int:
        """Of a raw file."""
        return (self.row + 7) // 8 if self.kind in _BITMAPS else self.row * (1 if self.maximum <= WHITE else 2)


def inspect_pnm(data: bytes) -> ImageHeader:
    """Read the header and check that all samples are in the file.

    White space must follow the last sample in text: without it, a file that was cut there could lack digits.
    """
    found = _BITMAP_HEADER.match(data) or _HEADER.match(data)
    if found is None:
        raise ImageError(f"truncated or corrupt PNM: its header makes no sense; {DAMAGED}")
    kind, width, height, *rest = map(int, found.groups())
    maximum = rest[0] if rest else 1
    if not 1 <= maximum <= _MOST:
        raise ImageError(f"corrupt PNM: a greatest value of {maximum}; {DAMAGED}")
    row = width * 3 if kind in _COLORS else width
    pnm = _Pnm(kind=kind, maximum=maximum, row=row, start=found.end())
    several = False
    if kind in _PLAIN:
        text = _samples_in_text(_COMMENT.sub(b"", data[pnm.start :]), row * height, is_bits=kind in _BITMAPS)
        pnm = _Pnm(kind=kind, maximum=maximum, row=row, start=pnm.start, text=text)
    else:
        end = pnm.start + pnm.row_bytes * height
        if end > len(data):
            raise ImageError(f"truncated PNM: its pixels should end at byte {end} of {len(data)}; {DAMAGED}")
        several = bool(_HEADER.match(data, end) or _BITMAP_HEADER.match(data, end))
    return ImageHeader(
        format="PNM",
        width=width,
        height=height,
        depth=maximum.bit_length(),
        channels="RGB" if kind in _COLORS else "gray",
        parsed=pnm,
        several="a Netpbm file of several images" if several else None,
    )


def decode_pnm(data: bytes, header: ImageHeader, _conversion: Conversion) -> NDArray[np.uint8]:
    """Decode a file that `inspect_pnm` has accepted to uint8 H x W x 3 RGB; none is tagged.

    Raises
    ------
    ImageError
        If a sample is greater than its header allows.
    """
    pnm: _Pnm = header.parsed
    if pnm.kind in _PLAIN:
        flat = np.empty(pnm.row * header.height, np.uint8)
        _read_text(pnm, flat)
        rows = flat.reshape(header.height, pnm.row)
    else:
        size = pnm.row_bytes
        rows = np.frombuffer(data, np.uint8, size * header.height, pnm.start).reshape(header.height, size)

    def make(band: slice) -> NDArray[np.uint8]:
        samples: NDArray[Any] = rows[band]
        if pnm.kind not in _PLAIN:
            if pnm.kind in _BITMAPS:
                samples = np.unpackbits(samples, axis=1)[:, : pnm.row]
            samples = _to_8_bits(samples.view(">u2") if pnm.maximum > WHITE else samples, pnm)
        return samples.reshape(len(samples), header.width, -1)

    return in_bands(make, header.height, header.width)


def _samples_in_text(text: bytes, count: int, *, is_bits: bool) -> bytes:
    """Return the text of so many samples, up to the white space after the last; bits need none between them."""
    values = np.frombuffer(text, np.uint8)
    for start in range(0, len(text), _TEXT):
        part = values[start : start + _TEXT + 1]
        is_digit = part - ord("0") < 10  # wraps around
        ends = is_digit[:-1] if is_bits else is_digit[:-1] & ~is_digit[1:]
        found = int(np.count_nonzero(ends))
        if found >= count:
            samples = text[: start + int(np.flatnonzero(ends)[count - 1]) + 2]
            if wrong := (_NO_BIT if is_bits else _NO_NUMBER).search(samples):
                raise ImageError(f"corrupt PNM: {wrong[0]!r} among its samples; {DAMAGED}")
            return samples
        count -= found
    raise ImageError(f"truncated PNM: {count} samples, or the white space after the last, are missing; {DAMAGED}")


def _read_text(pnm: _Pnm, out: NDArray[np.uint8]) -> None:
    """Read samples in text into `out`, as 8 bits, some at a time."""
    done = position = 0
    while done < len(out):
        end = position + _TEXT
        if pnm.kind in _BITMAPS:
            samples = np.frombuffer(b"".join(pnm.text[position:end].split()), np.uint8) - ord("0")
        else:
            while pnm.text[end : end + 1].isdigit():
                end += 1
            samples = np.array(pnm.text[position:end].split(), f"S{_DIGITS}").astype(np.int64)
        position = end
        out[done : done + len(samples)] = _to_8_bits(samples[: len(out) - done], pnm)
        done += len(samples)


def _to_8_bits(samples: NDArray[Any], pnm: _Pnm) -> NDArray[np.uint8]:
    """Keep the upper 8 of more bits; samples of other ranges are spread over 0 to 255, rounded to nearest."""
    if samples.max(initial=0) > pnm.maximum:
        raise ImageError(f"corrupt PNM: a sample of {samples.max()}, beyond its {pnm.maximum}; {DAMAGED}")
    if pnm.kind in _BITMAPS:
        return np.where(samples, 0, WHITE).astype(np.uint8)
    bits = pnm.maximum.bit_length()
    if bits >= 8 and pnm.maximum == (1 << bits) - 1:
        return (samples >> (bits - 8)).astype(np.uint8)
    return spread(samples, pnm.maximum)
