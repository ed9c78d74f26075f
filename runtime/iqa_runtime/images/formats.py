"""Recognise an encoded image by its content, read its header, check that the file is whole, and decode it.

Decoders are lenient: OpenCV returns a full-size image for half a JPEG. A score of such an image would be wrong and
nobody would know, so the structure of every file is walked to its end first. What reads a format is imported by the
first such file: importing the runtime stays quick.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import ImageError
from iqa_runtime.images import foreign
from iqa_runtime.images.header import ADVICE, DAMAGED, Band, Frame, ImageHeader

if TYPE_CHECKING:
    from iqa_runtime.color.conversion import Conversion


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    """A format.

    Attributes
    ----------
    begins
        What its files begin with.
    suffixes
        What their names may end in, in lower case.
    module
        Which module of this package reads it, by ``inspect_<module>(data)``, which returns an `ImageHeader`, and
        ``decode_<module>(data, header, conversion)``, which returns pixels as `decode` does.
    """

    begins: re.Pattern[bytes]
    suffixes: tuple[str, ...]
    module: str


_FORMATS = {
    "JPEG": _Format(begins=re.compile(rb"\xff\xd8\xff"), suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"), module="jpeg"),
    "PNG": _Format(begins=re.compile(rb"\x89PNG\r\n\x1a\n"), suffixes=(".png",), module="png"),
    "WebP": _Format(begins=re.compile(rb"RIFF....WEBP", re.DOTALL), suffixes=(".webp",), module="webp"),
    "BMP": _Format(begins=re.compile(rb"BM"), suffixes=(".bmp", ".dib"), module="bmp"),
    "TIFF": _Format(
        begins=re.compile(rb"II[\x2a\x2b]\x00|MM\x00[\x2a\x2b]"), suffixes=(".tif", ".tiff"), module="tiff"
    ),
    "AVIF": _Format(
        begins=re.compile(rb"....ftyp(?:.{4}){0,32}?avi[fs]", re.DOTALL), suffixes=(".avif", ".avifs"), module="avif"
    ),
    "HEIC": _Format(
        begins=re.compile(rb"....ftyp(?:.{4}){0,32}?(?:hei[cxms]|hev[cx]|mif1|msf1)", re.DOTALL),
        suffixes=(".heic", ".heif", ".hif"),
        module="heic",
    ),
    "JPEG 2000": _Format(
        begins=re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
        suffixes=(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
        module="jpeg2000",
    ),
    "JPEG XL": _Format(begins=re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"), suffixes=(".jxl",), module="jpegxl"),
    "GIF": _Format(begins=re.compile(rb"GIF8[79]a"), suffixes=(".gif",), module="gif"),
    "PNM": _Format(begins=re.compile(rb"P[1-6][\s#]"), suffixes=(".pnm", ".ppm", ".pgm", ".pbm"), module="pnm"),
}

IMAGE_SUFFIXES = tuple(suffix for entry in _FORMATS.values() for suffix in entry.suffixes)
"""Lower-case suffixes that make a file in a folder an image; the content alone decides how it is decoded."""

_SIZED_FIRST = frozenset({"JPEG", "PNG"})
"""Formats whose headers are read with a walk through the whole file, and which tell their size without it, by
``size_of_<module>(data)``."""

UNREAD_SUFFIXES = (
    *(".psd", ".exr", ".hdr", ".tga"),
    *(".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"),
    *(".pam", ".pfm"),
)
"""Lower-case suffixes of pictures in formats that are not read: in a folder, each is an error instead of silence."""


def inspect_header(data: bytes, frame: Frame | None = None) -> ImageHeader:
    """Recognise the format of an encoded image, read its header and check that the file is complete, undecoded.

    Parameters
    ----------
    data
        The whole file.
    frame
        Which image of several is meant; None refuses such a file.

    Returns
    -------
    ImageHeader
        Its size is what a decoder must return.

    Raises
    ------
    ImageError
        If it is of another format, the file is truncated or visibly corrupt, holds several images, or is of a
        kind for which there is no written rule. See ``docs/images.md`` for what can and what cannot be detected.
    """
    try:
        for name, entry in _FORMATS.items():
            if entry.begins.match(data):
                header: ImageHeader = _function("inspect", name)(data)
                if header.several and frame is None:
                    raise ImageError(
                        f"{header.several}; a score is of one image: extract one, or score the first (``frame=first``)"
                    )
                return header
    except struct.error:
        raise ImageError(f"truncated: the file ends inside its header, after {len(data)} bytes; {DAMAGED}") from None
    if not data:
        raise ImageError(f"the file is empty; {DAMAGED}")
    video = foreign.video_container(data)
    if video is not None:
        raise ImageError(f"this is {video} video; a score is of one image: score its frames (``every=1``)")
    raise ImageError(f"this is {foreign.kind_of(data) or 'no image of a known format'}; {ADVICE}")


def promised_pixels(data: bytes) -> int:
    """Return how many pixels an encoded image says it has, without a look at more of it than that takes.

    0 where it is none, or not one that would be decoded.
    """
    try:
        for name, entry in _FORMATS.items():
            if entry.begins.match(data):
                if name in _SIZED_FIRST:
                    width, height = _function("size_of", name)(data)
                else:
                    header = _function("inspect", name)(data)
                    width, height = header.width, header.height
                return int(width) * int(height)
    except (ImageError, struct.error):
        pass
    return 0


def is_image(data: bytes) -> bool:
    """Tell whether a file begins as one of the formats that are read."""
    return any(entry.begins.match(data) for entry in _FORMATS.values())


def decode(data: bytes, header: ImageHeader, conversion: Conversion) -> NDArray[np.uint8]:
    """Decode a file that `inspect_header` has accepted.

    Parameters
    ----------
    data
        The whole file.
    header
        Of it.
    conversion
        What is done to its colours, before they are laid over white.

    Returns
    -------
    numpy.ndarray
        uint8, H x W x 3, RGB, C-contiguous, as stored: before the orientation is applied.

    Raises
    ------
    ImageError
        If its coded data is damaged, or it is of a kind for which there is no written rule.
    """
    pixels: NDArray[np.uint8] = _function("decode", header.format)(data, header, conversion)
    return pixels


def decode_bands(header: ImageHeader, bands: Sequence[Band], conversion: Conversion) -> NDArray[np.uint8] | None:
    """Decode some rows of a file alone, where its format and this installation can; see `jpeg.decode_jpeg_bands`."""
    if header.format != "JPEG":
        return None
    from iqa_runtime.images.jpeg import decode_jpeg_bands

    return decode_jpeg_bands(header, bands, conversion)


def _function(what: str, name: str) -> Callable[..., Any]:
    module = _FORMATS[name].module
    function: Callable[..., Any] = getattr(import_module(f"iqa_runtime.images.{module}"), f"{what}_{module}")
    return function
