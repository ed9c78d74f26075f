"""Read BMP files (Windows BITMAPCOREHEADER to BITMAPV5HEADER, OS/2 BITMAPINFOHEADER2).

Decoded here: of the layouts other than plain 24 bits, no two decoders agree on all.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.color.conversion import Conversion
from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import ADVICE, DAMAGED, ImageHeader
from iqa_runtime.images.pixels import in_bands, over_white

_RGB, _RLE8, _RLE4, _BITFIELDS, _ALPHABITFIELDS = 0, 1, 2, 3, 6
_DEPTHS = {
    _RGB: {1, 4, 8, 16, 24, 32},
    _RLE8: {8},
    _RLE4: {4},
    _BITFIELDS: {16, 32},
    _ALPHABITFIELDS: {16, 32},
}
_CORE, _OS2, _WINDOWS = 12, 64, (40, 52, 56, 108, 124)  # bytes of headers
_FILE_HEADER = 14
_MASKS = 54  # where they lie, inside the header or behind one of 40 bytes
_DEFAULT_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}
_END_OF_LINE, _END_OF_BITMAP, _DELTA = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bmp:
    """What the headers say; `masks` of red, green, blue and alpha, `palette` RGB."""

    width: int
    height: int
    top_down: bool
    bits: int
    compression: int
    offset: int
    masks: tuple[int, int, int, int]
    palette: NDArray[np.uint8]


def inspect_bmp(data: bytes) -> ImageHeader:
    """Read the header and check that the pixel rows it announces, or its run lengths, are in the file."""
    bmp = _read_headers(data)
    header = ImageHeader(
        format="BMP",
        width=bmp.width,
        height=bmp.height,
        alpha="straight" if bmp.masks[3] else "none",
        parsed=bmp,
    )
    if bmp.compression in (_RLE8, _RLE4):
        try:
            for _ in _runs(data, bmp.offset, bmp.bits):
                pass
        except struct.error:
            raise ImageError(f"truncated BMP: its run lengths have no end in {len(data)} bytes; {DAMAGED}") from None
    elif (end := bmp.offset + _stride(bmp) * bmp.height) > len(data):
        raise ImageError(f"truncated BMP: its pixels should end at byte {end} of {len(data)}; {DAMAGED}")
    return header


def decode_bmp(data: bytes, header: ImageHeader, _conversion: Conversion) -> NDArray[np.uint8]:
    """Decode a file that `inspect_bmp` has accepted to uint8 H x W x 3 RGB; none is tagged.

    Raises
    ------
    ImageError
        If a pixel has a colour that is not in the palette, or run lengths leave the picture.
    """
    bmp: _Bmp = header.parsed
    if bmp.compression in (_RLE8, _RLE4):
        rows = _paint(data, bmp)
    else:
        size = _stride(bmp) * bmp.height
        rows = np.frombuffer(data, np.uint8, size, bmp.offset).reshape(bmp.height, _stride(bmp))
    rows = rows if bmp.top_down else rows[::-1]
    if bmp.bits == 24:
        return np.ascontiguousarray(rows[:, : 3 * bmp.width].reshape(bmp.height, bmp.width, 3)[..., ::-1])
    if bmp.bits > 8:
        return _by_masks(rows, bmp)
    if bmp.bits == 1:
        rows = np.unpackbits(rows, axis=1)
    elif bmp.bits == 4 and bmp.compression == _RGB:
        rows = np.stack([rows >> 4, rows & 15], axis=2).reshape(bmp.height, -1)
    indices = rows[:, : bmp.width]
    if indices.max() >= len(bmp.palette):
        raise ImageError(f"corrupt BMP: a colour beyond the {len(bmp.palette)} of its palette; {DAMAGED}")
    return np.asarray(bmp.palette[indices])


def _read_headers(data: bytes) -> _Bmp:
    offset, size = struct.unpack_from("<10xII", data, 0)
    compression = used = 0
    if size == _CORE:
        width, height, bits = struct.unpack_from("<HH2xH", data, 18)
    elif size == _OS2 or size in _WINDOWS:
        width, height, bits, compression, used = struct.unpack_from("<ii2xHI12xI", data, 18)
    else:
        raise ImageError(f"a BMP with an unknown header of {size} bytes; {ADVICE}")
    # In an OS/2 header the numbers from 3 on mean other compressions.
    if bits not in _DEPTHS.get(compression, ()) or (size == _OS2 and compression >= _BITFIELDS):
        raise ImageError(f"a BMP of {bits} bits per pixel and compression {compression}, which is not read; {ADVICE}")
    red, green, blue, alpha = _DEFAULT_MASKS.get(bits, (0, 0, 0, 0))
    start = _FILE_HEADER + size
    if compression in (_BITFIELDS, _ALPHABITFIELDS):
        has_alpha = size >= 56 or compression == _ALPHABITFIELDS
        red, green, blue = struct.unpack_from("<3I", data, _MASKS)
        alpha = struct.unpack_from("<I", data, _MASKS + 12)[0] if has_alpha else 0
        start = max(start, _MASKS + (16 if has_alpha else 12))
    if offset < start:
        raise ImageError(f"corrupt BMP: its pixels begin at byte {offset}, inside its header; {DAMAGED}")
    entry = 3 if size == _CORE else 4
    colors = min(used or 1 << bits, 1 << bits) if bits <= 8 else 0
    if offset == start:
        offset += colors * entry  # some writers forget the palette
    colors = min(colors, (offset - start) // entry)
    palette = np.frombuffer(data, np.uint8, max(0, min(colors * entry, len(data) - start)), min(start, len(data)))
    return _Bmp(
        width=width,
        height=abs(height),
        top_down=height < 0,
        bits=bits,
        compression=compression,
        offset=offset,
        masks=(red, green, blue, alpha),
        palette=np.ascontiguousarray(palette[: len(palette) // entry * entry].reshape(-1, entry)[:, 2::-1]),
    )


def _stride(bmp: _Bmp) -> int:
    """Return the bytes of a row; rows start on whole double words."""
    return (bmp.width * bmp.bits + 31) // 32 * 4


def _by_masks(rows: NDArray[np.uint8], bmp: _Bmp) -> NDArray[np.uint8]:
    """Take the channels out of pixels of 16 or 32 bits; transparent ones are laid over white.

    Where all are transparent, the alpha counts for nothing (our choice): many writers announce it and leave it zero.
    """
    pixels = rows.view("<u2" if bmp.bits == 16 else "<u4")[:, : bmp.width]
    red, green, blue, alpha = bmp.masks
    if alpha and not any(_channel(row, alpha).any() for row in pixels):
        alpha = 0
    return in_bands(lambda band: _mask_band(pixels[band], (red, green, blue, alpha)), bmp.height, bmp.width)


def _mask_band(pixels: NDArray[Any], masks: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    color = np.stack([_channel(pixels, mask) for mask in masks[:3]], axis=2)
    return over_white(color, _channel(pixels, masks[3]), premultiplied=False) if masks[3] else color


def _channel(pixels: NDArray[Any], mask: int) -> NDArray[np.uint8]:
    """Take one channel out: fewer than 8 bits are spread over 0 to 255, of more the upper 8 are kept."""
    if mask == 0:
        return np.zeros(pixels.shape, np.uint8)
    shift = (mask & -mask).bit_length() - 1
    bits = mask.bit_length() - shift
    if mask >> shift != (1 << bits) - 1 or mask >> 8 * pixels.itemsize:
        raise ImageError(f"corrupt BMP: an impossible colour mask {mask:#x}; {DAMAGED}")
    values = pixels >> (shift + max(bits - 8, 0)) & ((1 << min(bits, 8)) - 1)
    if bits < 8:
        spread = np.rint(np.arange(1 << bits) * (255 / ((1 << bits) - 1))).astype(np.uint8)
        return np.asarray(spread[values])
    return values.astype(np.uint8)


def _runs(data: bytes, position: int, bits: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield the run lengths up to the end of the bitmap: how far to go right and up first, and the colours from there.

    An end of line goes up by one and right by -1: to the first column.

    Raises
    ------
    struct.error
        If the data ends before that.
    """
    while True:
        count, value = struct.unpack_from("BB", data, position)
        position += 2
        if count:
            pair = bytes((value, value)) if bits == 8 else bytes((value >> 4, value & 15))
            yield 0, 0, (pair * (count // 2 + 1))[:count]
        elif value == _END_OF_BITMAP:
            return
        elif value == _END_OF_LINE:
            yield -1, 1, b""
        elif value == _DELTA:
            right, up = struct.unpack_from("BB", data, position)
            position += 2
            yield right, up, b""
        else:
            length = value if bits == 8 else (value + 1) // 2
            (colors,) = struct.unpack_from(f"{length + length % 2}s", data, position)
            position += len(colors)
            if bits == 4:
                colors = bytes(half for byte in colors for half in (byte >> 4, byte & 15))
            yield 0, 0, colors[:value]


def _paint(data: bytes, bmp: _Bmp) -> NDArray[np.uint8]:
    """Paint run lengths on the first colour of the palette; what goes beyond a row only fills it up."""
    rows = np.zeros((bmp.height, bmp.width), np.uint8)
    flat = rows.reshape(-1)
    column = row = 0
    for right, up, colors in _runs(data, bmp.offset, bmp.bits):
        column = column + right if right >= 0 else 0
        row += up
        if not colors:
            continue
        if row >= bmp.height:
            raise ImageError(f"corrupt BMP: run lengths beyond the last of its {bmp.height} rows; {DAMAGED}")
        place, painted = row * bmp.width + column, colors[: max(bmp.width - column, 0)]
        flat[place : place + len(painted)] = np.frombuffer(painted, np.uint8)
        column += len(colors)
    return rows
