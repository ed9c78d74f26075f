"""Recognise an encoded image by its content, read its header and check that the file is whole.

Decoders are lenient: OpenCV returns a full-size image for half a JPEG. A score of such an image would be wrong and
nobody would know, so the structure of every file is walked to its end first. Nothing here needs OpenCV.
"""

from __future__ import annotations

import re
import struct

from iqa_runtime.errors import ImageError
from iqa_runtime.images.bmp import inspect_bmp
from iqa_runtime.images.header import ADVICE, DAMAGED, ImageHeader
from iqa_runtime.images.jpeg import decode_jpeg, inspect_jpeg
from iqa_runtime.images.png import inspect_png
from iqa_runtime.images.tiff import check_tiff_pixels, inspect_tiff
from iqa_runtime.images.webp import inspect_webp

__all__ = ["ImageHeader", "check_tiff_pixels", "decode_jpeg", "inspect_header"]

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
    (re.compile(rb"(II\x2b\x00|MM\x00\x2b)"), "a BigTIFF image"),
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
        if data.startswith((b"II\x2a\x00", b"MM\x00\x2a")):
            return inspect_tiff(data)
        if data.startswith(b"BM"):
            return inspect_bmp(data)
    except struct.error:
        raise ImageError(f"truncated: the file ends inside its header, after {len(data)} bytes; {DAMAGED}") from None
    if not data:
        raise ImageError(f"the file is empty; {DAMAGED}")
    kind = next((name for pattern, name in _FOREIGN if pattern.match(data)), "no image of a known format")
    raise ImageError(f"this is {kind}; {ADVICE}")
