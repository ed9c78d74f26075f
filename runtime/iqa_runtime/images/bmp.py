"""Read the header of a BMP file (Windows BITMAPCOREHEADER to BITMAPV5HEADER)."""

from __future__ import annotations

import struct

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import ADVICE, DAMAGED, ImageHeader

_BMP_RGB, _BMP_RLE8, _BMP_RLE4, _BMP_BITFIELDS = 0, 1, 2, 3


def inspect_bmp(data: bytes) -> ImageHeader:
    """Read the header and check that the pixel rows it announces are in the file."""
    offset, size = struct.unpack_from("<10xII", data, 0)
    compression, stored = _BMP_RGB, 0
    if size == 12:
        width, height, bits = struct.unpack_from("<HH2xH", data, 18)
    elif size in (40, 52, 56, 108, 124):
        width, height, bits, compression, stored = struct.unpack_from("<ii2xHII", data, 18)
    else:
        raise ImageError(f"a BMP with an unknown header of {size} bytes; {ADVICE}")
    if bits not in (1, 4, 8, 16, 24, 32) or compression > _BMP_BITFIELDS:
        raise ImageError(f"a BMP of {bits} bits per pixel and compression {compression}, which is not read; {ADVICE}")
    if compression in (_BMP_RLE8, _BMP_RLE4):
        end = offset + stored
        complete = data[end - 2 : end] == b"\x00\x01"
    else:
        end = offset + (width * bits + 31) // 32 * 4 * abs(height)
        complete = True
    if end > len(data) or not complete:
        raise ImageError(f"truncated BMP: its pixels should end at byte {end} of {len(data)}; {DAMAGED}")
    has_mask = size >= 56 and compression == _BMP_BITFIELDS and struct.unpack_from("<I", data, 66)[0] != 0
    return ImageHeader(format="BMP", width=width, height=abs(height), alpha="straight" if has_mask else "none")
