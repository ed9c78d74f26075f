"""Walk the chunks of a PNG file (W3C Portable Network Graphics, third edition, section 11)."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import DAMAGED, Alpha, ImageHeader
from iqa_runtime.images.opencv import decode_with_opencv, to_rgb
from iqa_runtime.images.tiff_directory import exif_orientation

_PNG_GRAY = 0
_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


def inspect_png(data: bytes) -> ImageHeader:
    """Walk the chunks and check every checksum; bytes after IEND are ignored."""
    if data[12:16] != b"IHDR":
        raise ImageError(f"corrupt PNG: it does not start with its header chunk; {DAMAGED}")
    width, height, depth, color = struct.unpack_from(">IIBB", data, 16)
    alpha: Alpha = "straight" if color in (4, 6) else "none"
    orientation, transparent_gray, position, has_pixels, kind = None, None, 8, False, b""
    while kind != b"IEND":
        if position + 12 > len(data):
            raise ImageError(f"truncated PNG: the file ends after {len(data)} bytes without an end chunk; {DAMAGED}")
        (length,) = struct.unpack_from(">I", data, position)
        kind, body, position = data[position + 4 : position + 8], position + 8, position + 12 + length
        if position > len(data):
            raise ImageError(f"truncated PNG: the file ends inside the chunk at byte {body - 8}; {DAMAGED}")
        if zlib.crc32(memoryview(data)[body - 4 : position - 4]) != struct.unpack_from(">I", data, position - 4)[0]:
            raise ImageError(f"corrupt PNG: wrong checksum in the chunk at byte {body - 8}; {DAMAGED}")
        if kind == b"acTL":
            raise ImageError("an animated PNG; a score is of one image: extract a frame")
        if kind == b"tRNS" and color == _PNG_GRAY:
            (transparent_gray,) = struct.unpack_from(">H", data, body)
        elif kind == b"tRNS":
            alpha = "straight"
        elif kind == b"eXIf" and orientation is None:
            orientation = exif_orientation(data[body : position - 4])
        has_pixels |= kind == b"IDAT"
    if not has_pixels:
        raise ImageError(f"corrupt PNG: it holds no image data; {DAMAGED}")
    return ImageHeader(
        format="PNG",
        width=width,
        height=height,
        orientation=orientation or 1,
        depth=depth,
        alpha=alpha,
        transparent_gray=transparent_gray,
    )


def decode_png(data: bytes, header: ImageHeader) -> NDArray[np.uint8]:
    """Decode a file that `inspect_png` has accepted to uint8 H x W x 3 RGB.

    Raises
    ------
    ImageError
        If OpenCV cannot decode it.
    """
    import cv2

    pixels = _without_metadata(data)
    if header.depth <= 8 and header.alpha == "none" and header.transparent_gray is None:
        return decode_with_opencv(pixels, "PNG", header.width, header.height, cv2.IMREAD_COLOR_RGB)
    return to_rgb(decode_with_opencv(pixels, "PNG", header.width, header.height, cv2.IMREAD_UNCHANGED), header)


def _without_metadata(data: bytes) -> bytes:
    """Keep the chunks that decide the pixels: others may inflate to gigabytes in the decoder."""
    parts, position, kind = [data[:8]], 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind in _PIXEL_CHUNKS:
            parts.append(data[position : position + 12 + length])
        position += 12 + length
    return b"".join(parts)
