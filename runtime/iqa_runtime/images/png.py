"""Walk the chunks of a PNG file (W3C Portable Network Graphics, third edition, section 11)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.color.conversion import Conversion
from iqa_runtime.color.tags import UNTAGGED, ColorTag, inflated_profile
from iqa_runtime.errors import ImageError
from iqa_runtime.images.exif import exif_space
from iqa_runtime.images.header import DAMAGED, Alpha, ImageHeader
from iqa_runtime.images.opencv import decode_with_opencv, to_rgb
from iqa_runtime.images.pixels import WHITE, in_bands, over_white
from iqa_runtime.images.tiff_directory import exif_orientation

_PNG_GRAY, _PNG_PALETTE, _PNG_GRAY_ALPHA = 0, 3, 4
_COLOR_CHUNKS = {b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM"}
_PNG_UNIT = 100_000  # of gamma and chromaticities
_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_COLOR_TYPE = 25  # where it lies in the file
_ANCILLARY = 0x20  # set in the first letter of a chunk that may be passed over


def inspect_png(data: bytes) -> ImageHeader:
    """Walk the chunks and check every checksum; bytes after IEND are ignored."""
    if data[12:16] != b"IHDR":
        raise ImageError(f"corrupt PNG: it does not start with its header chunk; {DAMAGED}")
    width, height, depth, color = struct.unpack_from(">IIBB", data, 16)
    alpha: Alpha = "straight" if color in (4, 6) else "none"
    orientation, transparent_gray, frames, position, has_pixels, kind = None, None, 0, 8, False, b""
    tag, several = UNTAGGED, None
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
            frames = struct.unpack_from(">I", data, body)[0]
        # The only frame may be the image itself; otherwise it has data of its own.
        if frames > 1 or (frames and kind == b"fdAT"):
            several = "an animated PNG"
        if not kind[0] & _ANCILLARY and kind not in _PIXEL_CHUNKS:
            raise ImageError(f"a PNG whose pixels depend on an unknown chunk, {kind!r}; save it again as PNG")
        if kind == b"tRNS" and color == _PNG_GRAY:
            # As libpng has it, the first of its length counts, if it comes before the pixels.
            if transparent_gray is None and not has_pixels and length == 2:
                transparent_gray = struct.unpack_from(">H", data, body)[0] & (1 << depth) - 1
        elif kind == b"tRNS":
            alpha = "straight"
        elif kind == b"eXIf" and orientation is None:
            orientation = exif_orientation(data[body : position - 4])
            tag = replace(tag, exif=exif_space(data[body : position - 4]))
        elif kind in _COLOR_CHUNKS and not has_pixels:
            tag = _with_color(tag, kind, data[body : position - 4])
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
        channels="gray" if color in (_PNG_GRAY, _PNG_GRAY_ALPHA) else "RGB",
        color=tag,
        several=several,
    )


def size_of_png(data: bytes) -> tuple[int, int]:
    """Return the width and the height that a file says it has; nothing behind that is looked at."""
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _with_color(tag: ColorTag, kind: bytes, body: bytes) -> ColorTag:
    """Add what a chunk says about colours; one that is of the wrong length says nothing."""
    if kind == b"cICP" and len(body) == 4:
        primaries, transfer, matrix, full_range = body
        return replace(tag, cicp=(primaries, transfer, matrix, full_range))
    if kind == b"iCCP" and tag.profile is None:
        # A name of at most 79 bytes, a zero, and the method of compression, which is 0.
        name, _, compressed = body.partition(b"\0")
        sound = len(name) < 80 and compressed[:1] == b"\0"
        return replace(tag, profile=inflated_profile(compressed[1:]) if sound else b"")
    if kind == b"sRGB":
        return replace(tag, srgb=True)
    if kind == b"gAMA" and len(body) == 4:
        return replace(tag, gamma=int.from_bytes(body) / _PNG_UNIT)
    if kind == b"cHRM" and len(body) == 32:
        return replace(tag, chromaticities=tuple(value / _PNG_UNIT for value in struct.unpack(">8I", body)))
    return tag


def decode_png(data: bytes, header: ImageHeader, conversion: Conversion) -> NDArray[np.uint8]:
    """Decode a file that `inspect_png` has accepted to uint8 H x W x 3 RGB.

    Raises
    ------
    ImageError
        If OpenCV cannot decode it, or a pixel has a colour that is not in the palette.
    """
    import cv2

    if data[_COLOR_TYPE] == _PNG_PALETTE:
        return _decode_palette(data, header, conversion)
    pixels = b"".join([data[:8], *(chunk for _, chunk in _chunks(data))])
    if header.depth <= 8 and header.alpha == "none" and header.transparent_gray is None:
        rgb = decode_with_opencv(pixels, "PNG", header.width, header.height, cv2.IMREAD_COLOR_RGB)
        return conversion.apply(rgb)
    stored = decode_with_opencv(pixels, "PNG", header.width, header.height, cv2.IMREAD_UNCHANGED)
    return to_rgb(stored, header, conversion)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind of every chunk, and the whole of it where it decides the pixels.

    Other chunks may inflate to gigabytes in the decoder.
    """
    position, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        yield kind, data[position : position + 12 + length] if kind in _PIXEL_CHUNKS else b""
        position += 12 + length


def _decode_palette(data: bytes, header: ImageHeader, conversion: Conversion) -> NDArray[np.uint8]:
    """Decode the indices as gray, and look their colours up here: libpng makes those beyond the palette black."""
    import cv2

    palette = alpha = None
    parts, has_pixels = [_as_gray(data)], False
    for kind, chunk in _chunks(data):
        if kind == b"PLTE":
            if palette is not None or has_pixels or not 0 < len(chunk) - 12 <= 768 or len(chunk) % 3:
                raise ImageError(f"corrupt PNG: an impossible palette; {DAMAGED}")
            palette = np.frombuffer(chunk[8:-4], np.uint8).reshape(-1, 3)
        elif kind == b"tRNS" and palette is not None and alpha is None and not has_pixels:
            alpha = np.frombuffer(chunk[8:-4], np.uint8)
        elif kind in (b"IDAT", b"IEND"):
            has_pixels = True
            parts.append(chunk)
    if palette is None:
        raise ImageError(f"corrupt PNG: its palette is missing; {DAMAGED}")
    palette = conversion.apply(palette[None])[0]
    if alpha is not None and len(alpha) <= len(palette):
        palette = over_white(
            palette, np.pad(alpha, (0, len(palette) - len(alpha)), constant_values=WHITE), premultiplied=False
        )
    indices = decode_with_opencv(b"".join(parts), "PNG", header.width, header.height, cv2.IMREAD_UNCHANGED)
    spread = WHITE // ((1 << header.depth) - 1)  # OpenCV spreads 1, 2, 4 bits over 0 to 255
    if indices.max() // spread >= len(palette):
        raise ImageError(f"corrupt PNG: a colour beyond the {len(palette)} of its palette; {DAMAGED}")
    colors = palette
    return in_bands(lambda band: colors[indices[band] // spread], header.height, header.width)


def _as_gray(data: bytes) -> bytes:
    """Return the start of the file, to the end of its header chunk, as that of a gray picture."""
    chunk = data[12:_COLOR_TYPE] + bytes([_PNG_GRAY]) + data[_COLOR_TYPE + 1 : 29]
    return data[:12] + chunk + struct.pack(">I", zlib.crc32(chunk))
