"""Walk the RIFF chunks of a WebP file (RFC 9649, section 2)."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import DAMAGED, ImageHeader
from iqa_runtime.images.opencv import decode_with_opencv, to_rgb
from iqa_runtime.images.tiff_directory import exif_orientation

_WEBP_ANIMATION, _WEBP_EXIF, _WEBP_ALPHA = 0x02, 0x08, 0x10


def inspect_webp(data: bytes) -> ImageHeader:
    """Walk the RIFF chunks of a still image; bytes after the RIFF container are ignored."""
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise ImageError(f"truncated WebP: it should have {end} bytes and has {len(data)}; {DAMAGED}")
    canvas: tuple[int, int] | None = None
    frame: tuple[int, int] | None = None
    alpha, has_exif, orientation, position = False, False, None, 12
    while position < end:
        kind, length = struct.unpack_from("<4sI", data, position)
        body, position = position + 8, position + 8 + length + length % 2
        if body + length > end:
            raise ImageError(f"truncated WebP: it ends inside the chunk at byte {body - 8}; {DAMAGED}")
        if kind == b"VP8X":
            flags, width_low, width_high, height_low, height_high = struct.unpack_from("<B3xHBHB", data, body)
            if flags & _WEBP_ANIMATION:
                raise ImageError("an animated WebP; a score is of one image: extract a frame")
            alpha |= bool(flags & _WEBP_ALPHA)
            has_exif = bool(flags & _WEBP_EXIF)
            canvas = width_low + (width_high << 16) + 1, height_low + (height_high << 16) + 1
        elif kind == b"VP8 " and frame is None:
            width, height = struct.unpack_from("<6xHH", data, body)
            frame = width & 0x3FFF, height & 0x3FFF
        elif kind == b"VP8L" and frame is None:
            (bits,) = struct.unpack_from("<xI", data, body)
            frame = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
            alpha |= bool(bits >> 28 & 1)
        elif kind == b"EXIF" and has_exif and orientation is None:
            orientation = exif_orientation(data[body : body + length])
    if frame is None or canvas not in (None, frame):
        raise ImageError(f"corrupt WebP: no image data of the size its header says; {DAMAGED}")
    return ImageHeader(
        format="WebP",
        width=frame[0],
        height=frame[1],
        orientation=orientation or 1,
        alpha="straight" if alpha else "none",
    )


def decode_webp(data: bytes, header: ImageHeader) -> NDArray[np.uint8]:
    """Decode a file that `inspect_webp` has accepted to uint8 H x W x 3 RGB.

    Raises
    ------
    ImageError
        If OpenCV cannot decode it.
    """
    import cv2

    if header.alpha == "none":
        return decode_with_opencv(data, "WebP", header.width, header.height, cv2.IMREAD_COLOR_RGB)
    return to_rgb(decode_with_opencv(data, "WebP", header.width, header.height, cv2.IMREAD_UNCHANGED), header)
