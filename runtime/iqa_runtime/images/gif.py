"""Read GIF files (GIF87a, GIF89a). Decoded here: the least OpenCV that is supported has no GIF."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.color.conversion import Conversion
from iqa_runtime.color.tags import UNTAGGED, ColorTag
from iqa_runtime.errors import ImageError
from iqa_runtime.images.gif_lzw import decode_gif_lzw
from iqa_runtime.images.header import DAMAGED, ImageHeader
from iqa_runtime.images.pixels import WHITE, in_bands, on_white

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_CONTROL, _APPLICATION = 0xF9, 0xFF
_PROFILE = b"\x0bICCRGBG1012"
_TRANSPARENT, _INTERLACED, _PALETTE = 0x01, 0x40, 0x80
_PASSES = ((0, 8), (4, 8), (2, 4), (1, 2))  # first row and step of each


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    """The first image of a file: where it lies on the canvas, and its data from the size of its codes on."""

    left: int
    top: int
    width: int
    height: int
    interlaced: bool
    palette: NDArray[np.uint8]
    transparent: int | None
    bits: int
    coded: bytes


def inspect_gif(data: bytes) -> ImageHeader:
    """Walk the blocks up to the trailer; bytes after it are ignored."""
    width, height = struct.unpack_from("<HH", data, 6)
    position = _palette_end(data, 10) + 2
    palette = _read_palette(data, 13, position)
    transparent: int | None = None
    first: _Image | None = None
    images, tag = 0, UNTAGGED
    while (kind := _byte(data, position)) != _TRAILER:
        if kind == _EXTENSION:
            label, start, position = _byte(data, position + 1), position + 2, _pass_blocks(data, position + 2)
            if label == _CONTROL and not images:
                control, index = struct.unpack_from("xBxxB", data, start)
                transparent = index if control & _TRANSPARENT else None
            elif label == _APPLICATION and data.startswith(_PROFILE, start):
                tag = ColorTag(profile=b"".join(_blocks(data, start + len(_PROFILE))))
        elif kind == _IMAGE:
            first = first or _read_image(data, position + 1, palette, transparent)
            position = _pass_blocks(data, _palette_end(data, position + 9) + 1)
            images += 1
        else:
            raise ImageError(f"corrupt GIF: no block begins with the byte at {position}; {DAMAGED}")
    if first is None:
        raise ImageError(f"corrupt GIF: it holds no image; {DAMAGED}")
    if first.left + first.width > width or first.top + first.height > height:
        raise ImageError(
            f"a GIF whose image, {first.width} x {first.height} pixels at {first.left}, {first.top}, leaves its screen "
            f"of {width} x {height}; save it again as PNG"
        )
    several = "an animated GIF" if images > 1 else None
    return ImageHeader(format="GIF", width=width, height=height, color=tag, parsed=first, several=several)


def decode_gif(_data: bytes, header: ImageHeader, conversion: Conversion) -> NDArray[np.uint8]:
    """Decode the first image of a file that `inspect_gif` has accepted to uint8 H x W x 3 RGB.

    Where nothing is painted the screen is transparent, as browsers have it.

    Raises
    ------
    ImageError
        If its pixels are not all coded, or one has a colour that is not in the palette.
    """
    image: _Image = header.parsed
    indices = decode_gif_lzw(image.coded, image.bits, image.width * image.height).reshape(image.height, image.width)
    if image.interlaced:
        rows = np.concatenate([np.arange(first, image.height, step) for first, step in _PASSES])
        indices = indices[np.argsort(rows)]
    palette = conversion.apply(image.palette[None])[0]
    if image.transparent is not None:
        missing = max(image.transparent + 1 - len(palette), 0)
        palette = np.pad(palette, ((0, missing), (0, 0)), constant_values=WHITE)
        palette[image.transparent] = WHITE
    if indices.max() >= len(palette):
        raise ImageError(f"corrupt GIF: a colour beyond the {len(palette)} of its palette; {DAMAGED}")
    painted = in_bands(lambda band: palette[indices[band]], image.height, image.width)
    return on_white(painted, image.left, image.top, header.height, header.width)


def _byte(data: bytes, position: int) -> int:
    if position >= len(data):
        raise ImageError(f"truncated GIF: the file ends after {len(data)} bytes without a trailer; {DAMAGED}")
    return data[position]


def _blocks(data: bytes, position: int) -> Iterator[bytes]:
    """Yield data blocks, up to the empty one."""
    while length := _byte(data, position):
        yield data[position + 1 : position + 1 + length]
        position += 1 + length


def _pass_blocks(data: bytes, position: int) -> int:
    """Return where data blocks end."""
    while length := _byte(data, position):
        position += 1 + length
    return position + 1


def _palette_end(data: bytes, position: int) -> int:
    """Return where the palette ends that the flags at `position` announce; of a screen, two bytes later."""
    flags = _byte(data, position)
    return position + 1 + (3 << (flags & 7) + 1 if flags & _PALETTE else 0)


def _read_palette(data: bytes, start: int, end: int) -> NDArray[np.uint8]:
    _byte(data, end)
    return np.frombuffer(data, np.uint8, end - start, start).reshape(-1, 3)


def _read_image(data: bytes, position: int, palette: NDArray[np.uint8], transparent: int | None) -> _Image:
    """Read an image from its descriptor on."""
    left, top, width, height, flags = struct.unpack_from("<HHHHB", data, position)
    end = _palette_end(data, position + 8)
    palette = _read_palette(data, position + 9, end) if flags & _PALETTE else palette
    bits = _byte(data, end)
    if not len(palette) or not 2 <= bits <= 8 or not width or not height:
        raise ImageError(
            f"corrupt GIF: an image of {width} x {height} pixels of {bits} bits and {len(palette)} colours; {DAMAGED}"
        )
    return _Image(
        left=left,
        top=top,
        width=width,
        height=height,
        interlaced=bool(flags & _INTERLACED),
        palette=palette,
        transparent=transparent,
        bits=bits,
        coded=b"".join(_blocks(data, end + 1)),
    )
