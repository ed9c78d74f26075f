"""Walk the RIFF chunks of a WebP file (RFC 9649, section 2)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.color.conversion import Conversion
from iqa_runtime.color.tags import UNTAGGED
from iqa_runtime.errors import ImageError
from iqa_runtime.images.exif import exif_space
from iqa_runtime.images.header import DAMAGED, ImageHeader
from iqa_runtime.images.opencv import decode_with_opencv, to_rgb
from iqa_runtime.images.pixels import on_white
from iqa_runtime.images.tiff_directory import exif_orientation

_WEBP_EXIF, _WEBP_ALPHA, _WEBP_PROFILE = 0x08, 0x10, 0x20
_FRAME_HEADER = 16  # bytes


def inspect_webp(data: bytes) -> ImageHeader:
    """Walk the RIFF chunks; bytes after the RIFF container are ignored."""
    return _inspect(data, is_frame=False)


def _inspect(data: bytes, *, is_frame: bool) -> ImageHeader:
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise ImageError(f"truncated WebP: it should have {end} bytes and has {len(data)}; {DAMAGED}")
    canvas: tuple[int, int] | None = None
    frame: tuple[int, int] | None = None
    first: _Frame | None = None
    alpha, flags, frames, orientation, color, position = False, 0, 0, None, UNTAGGED, 12
    while position < end:
        kind, length = struct.unpack_from("<4sI", data, position)
        body, position = position + 8, position + 8 + length + length % 2
        if body + length > end:
            raise ImageError(f"truncated WebP: it ends inside the chunk at byte {body - 8}; {DAMAGED}")
        if kind == b"VP8X":
            flags, width_low, width_high, height_low, height_high = struct.unpack_from("<B3xHBHB", data, body)
            alpha |= bool(flags & _WEBP_ALPHA)
            canvas = width_low + (width_high << 16) + 1, height_low + (height_high << 16) + 1
        elif kind == b"ANMF":
            if is_frame:
                raise ImageError(f"corrupt WebP: a frame inside a frame; {DAMAGED}")
            first = first or _Frame.parse(data[body : body + length])
            frames += 1
        elif kind == b"VP8 " and frame is None:
            width, height = struct.unpack_from("<6xHH", data, body)
            frame = width & 0x3FFF, height & 0x3FFF
        elif kind == b"VP8L" and frame is None:
            (bits,) = struct.unpack_from("<xI", data, body)
            frame = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
            alpha |= bool(bits >> 28 & 1)
        elif kind == b"EXIF" and flags & _WEBP_EXIF and orientation is None:
            exif = data[body : body + length]
            orientation, color = exif_orientation(exif), replace(color, exif=exif_space(exif))
        elif kind == b"ICCP" and flags & _WEBP_PROFILE and color.profile is None:
            color = replace(color, profile=data[body : body + length])
    if frame is None and first is not None and canvas is not None and first.is_within(*canvas):
        frame = canvas
    if frame is None or canvas not in (None, frame):
        raise ImageError(f"corrupt WebP: no image data of the size its header says; {DAMAGED}")
    return ImageHeader(
        format="WebP",
        width=frame[0],
        height=frame[1],
        orientation=orientation or 1,
        alpha="straight" if alpha else "none",
        color=color,
        several="an animated WebP" if frames > 1 else None,
        parsed=first,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """The first frame of an animation: a still image of its own, and where it lies on the canvas."""

    left: int
    top: int
    data: bytes
    header: ImageHeader

    @staticmethod
    def parse(chunk: bytes) -> _Frame:
        """Read the body of an ``ANMF`` chunk (2.7.1.1), whose image data is that of a still image."""
        left, left_high, top, top_high, size, image = *struct.unpack_from("<HBHB6s", chunk), chunk[_FRAME_HEADER:]
        chunks = b"VP8X" + struct.pack("<IB3x6s", 10, _WEBP_ALPHA, size) + image
        data = b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
        header = _inspect(data, is_frame=True)
        return _Frame(left=2 * (left + (left_high << 16)), top=2 * (top + (top_high << 16)), data=data, header=header)

    def is_within(self, width: int, height: int) -> bool:
        """Whether a canvas of that size holds all of it."""
        return self.left + self.header.width <= width and self.top + self.header.height <= height


def decode_webp(data: bytes, header: ImageHeader, conversion: Conversion) -> NDArray[np.uint8]:
    """Decode a file that `inspect_webp` has accepted to uint8 H x W x 3 RGB.

    Raises
    ------
    ImageError
        If OpenCV cannot decode it.
    """
    import cv2

    if header.parsed is not None:
        return _decode_frame(header, conversion)
    if header.alpha == "none":
        rgb = decode_with_opencv(data, "WebP", header.width, header.height, cv2.IMREAD_COLOR_RGB)
        return conversion.apply(rgb)
    pixels = decode_with_opencv(data, "WebP", header.width, header.height, cv2.IMREAD_UNCHANGED)
    return to_rgb(pixels, header, conversion)


def _decode_frame(header: ImageHeader, conversion: Conversion) -> NDArray[np.uint8]:
    """Decode the first frame of an animation; the canvas is transparent before, whatever background is suggested."""
    frame: _Frame = header.parsed
    pixels = decode_webp(frame.data, frame.header, conversion)
    return on_white(pixels, frame.left, frame.top, header.height, header.width)
