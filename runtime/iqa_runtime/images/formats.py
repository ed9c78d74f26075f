"""Recognise an encoded image by its content, read its header, check that the file is whole, and decode it.

Decoders are lenient: OpenCV returns a full-size image for half a JPEG. A score of such an image would be wrong and
nobody would know, so the structure of every file is walked to its end first. OpenCV is imported by a decode alone, what
reads BMP and TIFF by the first such file: importing the runtime stays quick.
"""

from __future__ import annotations

import re
import struct

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import ADVICE, DAMAGED, ImageHeader
from iqa_runtime.images.jpeg import decode_jpeg, inspect_jpeg
from iqa_runtime.images.png import decode_png, inspect_png
from iqa_runtime.images.webp import decode_webp, inspect_webp

_FOREIGN = (
    (re.compile(rb"GIF8[79]a"), "a GIF image"),
    (re.compile(rb"....ftyp(heic|heix|hevc|hevx|heim|heis|mif1|msf1)", re.DOTALL), "a HEIC/HEIF image"),
    (re.compile(rb"....ftyp(avif|avis)", re.DOTALL), "an AVIF image"),
    (re.compile(rb"....ftypcrx", re.DOTALL), "a Canon raw image"),
    (re.compile(rb"....ftyp", re.DOTALL), "an MP4 or QuickTime video"),
    (re.compile(rb"\xff\x0a|\x00\x00\x00\x0cJXL "), "a JPEG XL image"),
    (re.compile(rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51"), "a JPEG 2000 image"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"8BPS"), "a Photoshop document"),
    (re.compile(rb"\x76\x2f\x31\x01"), "an OpenEXR image"),
    (re.compile(rb"#\?(RADIANCE|RGBE)"), "a Radiance HDR image"),
    (re.compile(rb"P[1-7Ff]\s"), "a Netpbm image"),
    (re.compile(rb"\x00\x00[\x01\x02]\x00"), "an ICO or CUR icon"),
    (re.compile(rb"FUJIFILMCCD-RAW|II[RU]|IIRO"), "a camera raw image"),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive"),
    (re.compile(rb"\x1f\x8b"), "a gzip archive"),
    (re.compile(rb"\s*<(\?xml|svg|!doctype|html)", re.IGNORECASE), "an SVG, XML or HTML document"),
)


def inspect_header(data: bytes) -> ImageHeader:
    """Recognise the format of an encoded image, read its header and check that the file is complete, undecoded.

    Parameters
    ----------
    data
        The whole file.

    Returns
    -------
    ImageHeader
        Its size is what a decoder must return.

    Raises
    ------
    ImageError
        If the format is none of the five, the file is truncated or visibly corrupt, holds several images, or is of a
        kind for which there is no written rule. See ``docs/images.md`` for what can and what cannot be detected.
    """
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return inspect_jpeg(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return inspect_png(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return inspect_webp(data)
        if data.startswith((b"II\x2a\x00", b"MM\x00\x2a", b"II\x2b\x00", b"MM\x00\x2b")):
            from iqa_runtime.images.tiff import inspect_tiff

            return inspect_tiff(data)
        if data.startswith(b"BM"):
            from iqa_runtime.images.bmp import inspect_bmp

            return inspect_bmp(data)
    except struct.error:
        raise ImageError(f"truncated: the file ends inside its header, after {len(data)} bytes; {DAMAGED}") from None
    if not data:
        raise ImageError(f"the file is empty; {DAMAGED}")
    kind = next((name for pattern, name in _FOREIGN if pattern.match(data)), "no image of a known format")
    raise ImageError(f"this is {kind}; {ADVICE}")


def decode(data: bytes, header: ImageHeader) -> NDArray[np.uint8]:
    """Decode a file that `inspect_header` has accepted.

    Parameters
    ----------
    data
        The whole file.
    header
        Of it.

    Returns
    -------
    numpy.ndarray
        uint8, H x W x 3, RGB, C-contiguous, as stored: before the orientation is applied.

    Raises
    ------
    ImageError
        If its coded data is damaged, or it is of a kind for which there is no written rule.
    """
    if header.format == "JPEG":
        return decode_jpeg(data)
    if header.format == "TIFF":
        from iqa_runtime.images.tiff import decode_tiff

        return decode_tiff(data)
    if header.format == "BMP":
        from iqa_runtime.images.bmp import decode_bmp

        return decode_bmp(data)
    return decode_png(data, header) if header.format == "PNG" else decode_webp(data, header)
