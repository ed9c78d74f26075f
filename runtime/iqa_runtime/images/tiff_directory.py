"""Read the directories of a TIFF file; EXIF metadata has the same layout.

Follows TIFF 6.0 (1992) sections 2 and 8, and the Exif 3.0 standard for the orientation tag.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
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
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_BYTES = 325
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    YCBCR_SUBSAMPLING = 530
    DNG_VERSION = 50706


_VALUE_CODES = {1: "B", 3: "H", 4: "I", 7: "B"}  # BYTE, SHORT, LONG, UNDEFINED: the types of every tag used here
_MAX_VALUES = 1 << 20  # more than any real file has, few enough that a hostile one cannot take gigabytes to read

Directory = dict[int, tuple[int, ...]]


def exif_orientation(data: bytes) -> int:
    """Return the orientation, 1 to 8, of an EXIF block; 1 if it has none or is damaged.

    Parameters
    ----------
    data
        The block without its ``Exif`` prefix: it starts with the TIFF byte-order mark.
    """
    try:
        order, position = read_start(data)
        return orientation_of(read_directory(data, order, position, {Tag.ORIENTATION})[0])
    except (struct.error, ImageError):
        return 1


def read_start(data: bytes) -> tuple[str, int]:
    """Return the struct byte order and the position of the first directory.

    Raises
    ------
    ImageError
        If this is no TIFF.
    struct.error
        If it ends inside these eight bytes.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ImageError(f"corrupt TIFF: no byte-order mark; {DAMAGED}")
    magic, position = struct.unpack_from(f"{order}HI", data, 2)
    if magic != 42:
        raise ImageError(f"corrupt TIFF: no version number; {DAMAGED}")
    return order, position


def read_directory(data: bytes, order: str, position: int, wanted: Collection[int]) -> tuple[Directory, int]:
    """Return the `wanted` tags of the directory at `position`, and the position after its entries.

    Raises
    ------
    ImageError
        If a tag has an absurd number of values.
    struct.error
        If the file ends inside the directory or the values of a tag.
    """
    (count,) = struct.unpack_from(f"{order}H", data, position)
    directory: Directory = {}
    end = position + 2 + 12 * count
    for entry in range(position + 2, end, 12):
        tag, kind, length = struct.unpack_from(f"{order}HHI", data, entry)
        code = _VALUE_CODES.get(kind)
        if tag not in wanted or tag in directory or code is None or length == 0:
            continue
        if length > _MAX_VALUES:
            raise ImageError(f"corrupt TIFF: tag {tag} has {length} values; {DAMAGED}")
        where = entry + 8
        if length * struct.calcsize(code) > 4:
            (where,) = struct.unpack_from(f"{order}I", data, where)
        directory[tag] = struct.unpack_from(f"{order}{length}{code}", data, where)
    return directory, end


def orientation_of(directory: Directory) -> int:
    """Return the orientation, 1 to 8; what means nothing is upright."""
    value = directory.get(Tag.ORIENTATION, (1,))[0]
    return value if 1 <= value <= 8 else 1
