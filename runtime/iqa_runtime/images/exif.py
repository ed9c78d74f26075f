"""What EXIF says about colours (Exif 3.0, 4.6.6.A; DCF 2.0, 5.4)."""

from __future__ import annotations

import struct

from iqa_runtime.color.tags import ExifSpace
from iqa_runtime.errors import ImageError
from iqa_runtime.images.tiff_directory import Form, find_entry, read_start

_EXIF, _INTEROPERABILITY, _INDEX, _COLOR_SPACE = 0x8769, 0xA005, 0x0001, 0xA001
_SRGB, _UNCALIBRATED = 1, 65535
_OPTION_FILE = b"R03\0"  # a DCF option file, which is in Adobe RGB


def exif_space(data: bytes) -> ExifSpace | None:
    """Return the colour space that an EXIF block names; None if it names none or is damaged.

    Parameters
    ----------
    data
        The block, with or without its ``Exif`` prefix; or a TIFF file.
    """
    data = data.removeprefix(b"Exif\0\0")
    try:
        form, position = read_start(data)
        if form.big:
            return None
        exif = _number(form, "I", _find(data, form, position, _EXIF))
        space = _number(form, "H", _find(data, form, exif, _COLOR_SPACE))
        if space == _SRGB:
            return "sRGB"
        interoperability = _number(form, "I", _find(data, form, exif, _INTEROPERABILITY))
        if space == _UNCALIBRATED and _find(data, form, interoperability, _INDEX) == _OPTION_FILE:
            return "Adobe RGB"
    except (struct.error, ImageError):
        pass
    return None


def _number(form: Form, code: str, field: bytes) -> int:
    (number,) = struct.unpack_from(form.order + code, field)
    return int(number)


def _find(data: bytes, form: Form, position: int, tag: int) -> bytes:
    """Return the four bytes in which an entry has its value, empty without such an entry."""
    entry = find_entry(data, form, position, tag)
    return b"" if entry is None else data[entry + 8 : entry + 12]
