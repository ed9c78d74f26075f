"""Read the directories of TIFF and BigTIFF files; EXIF metadata has the layout of the former.

Follows TIFF 6.0 (1992) sections 2 and 8, the BigTIFF design of 2007, and the Exif 3.0 standard for the orientation tag.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import DAMAGED


class Tag(IntEnum):
    """Tags that decide how a page is read, under the standard's names but for those too long."""

    SUBFILE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTES = 279
    PLANES = 284
    PREDICTOR = 317
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_BYTES = 325
    INK_SET = 332
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    YCBCR_COEFFICIENTS = 529
    YCBCR_SUBSAMPLING = 530
    REFERENCE_BLACK_WHITE = 532
    ICC_PROFILE = 34675
    DNG_VERSION = 50706


# Every integer type; a RATIONAL is two values. Of other types only an orientation is read.
_VALUE_CODES = {
    1: "B",
    3: "H",
    4: "I",
    5: "II",
    6: "b",
    7: "B",
    8: "h",
    9: "i",
    13: "I",
    16: "Q",
    17: "q",
    18: "Q",
}
_ORIENTATION_CODES = _VALUE_CODES | {10: "ii", 11: "f", 12: "d"}
_RATIONALS = {5, 10}
_ALLOWED_TYPES = {Tag.JPEG_TABLES: {1, 7}, Tag.COLOR_MAP: {3}}  # where another type would be other data
_MAX_VALUES = 1 << 20  # more than any real file has, few enough that a hostile one cannot take gigabytes to read
_MAX_ENTRIES = 4096  # as libtiff allows

Directory = dict[int, tuple[int, ...]]


def first_value(directory: Directory, tag: int, default: int) -> int:
    """Return the first value of a tag."""
    return directory.get(tag, (default,))[0]


@dataclass(frozen=True, slots=True)
class Form:
    """How numbers are stored: the struct byte order, and whether places are counted in 64 bits (BigTIFF)."""

    order: str
    big: bool

    @property
    def place(self) -> str:
        """The struct code of a place in the file."""
        return "Q" if self.big else "I"


def exif_orientation(data: bytes) -> int:
    """Return the orientation, 1 to 8, of an EXIF block; 1 if it has none or is damaged.

    Parameters
    ----------
    data
        The block, with or without its ``Exif`` prefix. What is wrong with it elsewhere does not matter.
    """
    data = data.removeprefix(b"Exif\0\0")
    try:
        form, position = read_start(data)
        entry = find_entry(data, form, position, Tag.ORIENTATION)
        return 1 if entry is None else _read_orientation(data, form, entry)
    except (struct.error, ImageError):
        return 1


def find_entry(data: bytes, form: Form, position: int, tag: int) -> int | None:
    """Return where the entry of a tag lies in the EXIF directory at `position`, however many more entries it promises.

    Raises
    ------
    struct.error
        If the block ends before the directory.
    """
    (count,) = struct.unpack_from(f"{form.order}H", data, position)
    for entry in range(position + 2, min(position + 2 + 12 * count, len(data) - 11), 12):
        if struct.unpack_from(f"{form.order}H", data, entry)[0] == tag:
            return entry
    return None


def read_start(data: bytes) -> tuple[Form, int]:
    """Return how the file stores numbers, and the position of the first directory.

    Raises
    ------
    ImageError
        If this is no TIFF.
    struct.error
        If it ends inside its header.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ImageError(f"corrupt TIFF: no byte-order mark; {DAMAGED}")
    magic, position = struct.unpack_from(f"{order}HI", data, 2)
    if magic == 42:
        return Form(order, big=False), position
    if magic == 43 and struct.unpack_from(f"{order}HH", data, 4) == (8, 0):
        return Form(order, big=True), struct.unpack_from(f"{order}Q", data, 8)[0]
    raise ImageError(f"corrupt TIFF: no version number; {DAMAGED}")


def read_directory(data: bytes, form: Form, position: int, wanted: Collection[int]) -> tuple[Directory, int]:
    """Return the `wanted` tags of the directory at `position`, and that of the next; 0 if this is the last.

    Of a profile, not the bytes are returned but where they begin and end.

    Raises
    ------
    ImageError
        If it has an absurd number of tags, or a tag an absurd number of values or impossible ones.
    struct.error
        If the file ends inside the directory or the values of a tag.
    """
    if position > len(data):
        raise struct.error("a directory beyond the end")
    start, size = position + (8 if form.big else 2), 20 if form.big else 12
    (count,) = struct.unpack_from(form.order + ("Q" if form.big else "H"), data, position)
    if count > _MAX_ENTRIES:
        raise ImageError(f"corrupt TIFF: a directory of {count} tags; {DAMAGED}")
    directory: Directory = {}
    for entry in range(start, start + size * count, size):
        tag, kind = struct.unpack_from(f"{form.order}HH", data, entry)
        if tag not in wanted or tag in directory:
            continue
        if tag == Tag.ORIENTATION:
            directory[tag] = (_read_orientation(data, form, entry),)
            continue
        if tag == Tag.ICC_PROFILE:
            directory[tag] = _extent(data, form, entry)
            continue
        values = _read_values(data, form, entry)
        # A tag that counted for nothing would have its default, which makes other pixels.
        if kind not in _ALLOWED_TYPES.get(tag, {kind}) or min(values, default=-1) < 0:
            raise ImageError(f"corrupt TIFF: impossible values of tag {tag}; {DAMAGED}")
        directory[tag] = values
    return directory, struct.unpack_from(form.order + form.place, data, start + size * count)[0]


def _read_values(data: bytes, form: Form, entry: int) -> tuple[int, ...]:
    """Read the values of one entry; none if their type is not one of integers."""
    tag, kind, count = struct.unpack_from(f"{form.order}HH{form.place}", data, entry)
    code = _VALUE_CODES.get(kind)
    if code is None:
        return ()
    length = len(code) * count
    if length > _MAX_VALUES:
        raise ImageError(f"corrupt TIFF: tag {tag} has {count} values; {DAMAGED}")
    return struct.unpack_from(f"{form.order}{length}{code[0]}", data, _place_of_values(data, form, entry, code))


def _extent(data: bytes, form: Form, entry: int) -> tuple[int, int]:
    """Return where bytes begin and end; nowhere if they are not all in the file."""
    (count,) = struct.unpack_from(form.order + form.place, data, entry + 4)
    try:
        begin = _place_of_values(data, form, entry, "B")
    except struct.error:
        return 0, 0
    return (begin, begin + count) if begin + count <= len(data) else (0, 0)


def _read_orientation(data: bytes, form: Form, entry: int) -> int:
    """Read an orientation, 1 to 8, from a whole number of any type; what means nothing is upright."""
    kind, count = struct.unpack_from(f"{form.order}H{form.place}", data, entry + 2)
    code = _ORIENTATION_CODES.get(kind)
    if code is None or count == 0:
        return 1
    value, *divisor = struct.unpack_from(form.order + code, data, _place_of_values(data, form, entry, code))
    if kind in _RATIONALS:
        value = value / divisor[0] if divisor[0] else 1
    return int(value) if value in range(1, 9) else 1


def _place_of_values(data: bytes, form: Form, entry: int, code: str) -> int:
    """Return where the values of one entry lie: in the entry itself if there is room."""
    (count,) = struct.unpack_from(form.order + form.place, data, entry + 4)
    room = struct.calcsize(f"={form.place}")
    where = entry + 4 + room
    if count * struct.calcsize(f"={code}") > room:
        (where,) = struct.unpack_from(form.order + form.place, data, where)
        if where > len(data):
            raise struct.error("values beyond the end")
    return where
