"""Read the directory of a TIFF file: its size, kind and where its pixels lie. EXIF metadata has the same layout.

Follows TIFF 6.0 (1992) sections 2 and 8, and the Exif 3.0 standard for the orientation tag.
"""

from __future__ import annotations

import struct

from iqa_runtime.errors import ImageError
from iqa_runtime.image_formats.header import DAMAGED, Alpha, ImageHeader

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _STRIP_BYTES = 273, 274, 277, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_PLANES, _COLOR_MAP, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _JPEG_TABLES, _DNG_VERSION = 284, 320, 338, 339, 347, 50706
_WANTED = {
    _SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIP_OFFSETS, _ORIENTATION, _SAMPLES,
    _ROWS_PER_STRIP, _STRIP_BYTES, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES, _PLANES, _EXTRA_SAMPLES,
    _SAMPLE_FORMAT, _COLOR_MAP, _JPEG_TABLES, _DNG_VERSION,
}  # fmt: skip

_VALUE_CODES = {1: "B", 3: "H", 4: "I", 7: "B"}  # BYTE, SHORT, LONG, UNDEFINED: the types of every tag used here
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType: thumbnails and masks that belong to another page
_COMPRESSIONS = {1, 5, 7, 8, 32773, 32946}  # none, LZW, JPEG, Deflate, PackBits, Deflate by its old number
_RGB = 2
_KINDS = {  # PhotometricInterpretation: colour channels, bits per sample that OpenCV decodes
    0: (1, {1, 8}),  # gray, 0 is white
    1: (1, {1, 8, 16}),  # gray, 0 is black
    _RGB: (3, {8, 16}),
    3: (1, {1, 4, 8}),  # palette
    5: (4, {8}),  # CMYK
    6: (3, {8}),  # YCbCr
}
_ALPHA: dict[int, Alpha] = {1: "premultiplied", 2: "straight"}  # by ExtraSamples

# More than any real file has, few enough that a hostile one cannot take minutes or gigabytes to read.
_MAX_VALUES, _MAX_DIRECTORIES = 1 << 20, 64

Directory = dict[int, tuple[int, ...]]


def exif_orientation(data: bytes) -> int:
    """Return the orientation, 1 to 8, of an EXIF block; 1 if it has none or is damaged.

    Parameters
    ----------
    data
        The block without its ``Exif`` prefix: it starts with the TIFF byte-order mark.
    """
    try:
        order, position = _start(data)
        return _orientation(_read_directory(data, order, position, {_ORIENTATION})[0])
    except (struct.error, ImageError):
        return 1


def inspect_tiff(data: bytes) -> ImageHeader:
    """Read the header of a TIFF file and check that all its pixel data lies inside the file.

    Parameters
    ----------
    data
        The whole file.

    Raises
    ------
    ImageError
        If it is truncated or corrupt, has several pages, or is of a kind that cannot be read.
    struct.error
        If it ends inside a directory.
    """
    order, position = _start(data)
    directory, end = _read_directory(data, order, position, _WANTED)
    if directory.get(_SUBFILE, (0,))[0] & (_REDUCED | _MASK) or _DNG_VERSION in directory:
        raise ImageError("a camera raw file: its first TIFF page is a thumbnail; develop it to TIFF, PNG or JPEG")
    for _ in range(_MAX_DIRECTORIES):
        (position,) = struct.unpack_from(f"{order}I", data, end)
        if position == 0:
            break
        other, end = _read_directory(data, order, position, {_SUBFILE})
        if not other.get(_SUBFILE, (0,))[0] & (_REDUCED | _MASK):
            raise ImageError("a TIFF of several pages; a score is of one image: save the page as a file of its own")
    else:
        raise ImageError(f"corrupt TIFF: its pages have no end; {DAMAGED}")
    header = _describe(directory)
    _check_extent(directory, len(data))
    return header


def _start(data: bytes) -> tuple[str, int]:
    """Return the struct byte order and the position of the first directory."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ImageError(f"corrupt TIFF: no byte-order mark; {DAMAGED}")
    magic, position = struct.unpack_from(f"{order}HI", data, 2)
    if magic != 42:
        raise ImageError(f"corrupt TIFF: no version number; {DAMAGED}")
    return order, position


def _read_directory(data: bytes, order: str, position: int, wanted: set[int]) -> tuple[Directory, int]:
    """Return the `wanted` tags of the directory at `position`, and the position after its entries."""
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


def _orientation(directory: Directory) -> int:
    value = directory.get(_ORIENTATION, (1,))[0]
    return value if 1 <= value <= 8 else 1


def _describe(directory: Directory) -> ImageHeader:
    """Check that there is a written rule for this kind of image."""
    try:
        (width,), (height,), photometric = directory[_WIDTH], directory[_HEIGHT], directory[_PHOTOMETRIC][0]
    except (KeyError, ValueError):
        raise ImageError(f"corrupt TIFF: size or colour interpretation is missing; {DAMAGED}") from None
    samples = directory.get(_SAMPLES, (1,))[0]
    depths = set(directory.get(_BITS, (1,)))
    compression = directory.get(_COMPRESSION, (1,))[0]
    extra = directory.get(_EXTRA_SAMPLES, (0,))
    if set(directory.get(_SAMPLE_FORMAT, (1,))) != {1}:
        raise ImageError("a TIFF of floating-point or signed samples; save it with 8 or 16 bits per channel")
    if compression not in _COMPRESSIONS:
        raise ImageError(f"a TIFF of compression {compression}, which is not read; save it with LZW or Deflate")
    colors, allowed_depths = _KINDS.get(photometric, (0, set()))
    if not depths <= allowed_depths or len(depths) > 1 or samples not in ({3, 4} if photometric == _RGB else {colors}):
        raise ImageError(
            f"a TIFF of {samples} channels of {'/'.join(map(str, sorted(depths)))} bits and colour interpretation "
            f"{photometric}, which is not read; save it as RGB with 8 or 16 bits per channel"
        )
    alpha = _ALPHA.get(extra[0]) if samples > colors else "none"
    if alpha is None:
        raise ImageError("a TIFF with a fourth channel that is not declared to be alpha; save it as RGB")
    return ImageHeader(
        format="TIFF", width=width, height=height, orientation=_orientation(directory), depth=max(depths), alpha=alpha
    )


def _check_extent(directory: Directory, size: int) -> None:
    """Check that every strip or tile is there and inside the file."""
    offsets = directory.get(_STRIP_OFFSETS) or directory.get(_TILE_OFFSETS, ())
    lengths = directory.get(_STRIP_BYTES) or directory.get(_TILE_BYTES, ())
    width, height = directory[_WIDTH][0], directory[_HEIGHT][0]
    if _TILE_OFFSETS in directory:
        block_width, block_height = directory.get(_TILE_WIDTH, (0,))[0], directory.get(_TILE_HEIGHT, (0,))[0]
    else:
        block_width, block_height = width, min(directory.get(_ROWS_PER_STRIP, (height,))[0], height)
    planes = directory.get(_SAMPLES, (1,))[0] if directory.get(_PLANES, (1,))[0] == 2 else 1
    if block_width == 0 or block_height == 0:
        raise ImageError(f"corrupt TIFF: empty strips or tiles; {DAMAGED}")
    expected = -(-width // block_width) * -(-height // block_height) * planes
    if len(offsets) < expected or len(lengths) < expected:
        raise ImageError(f"corrupt TIFF: {min(len(offsets), len(lengths))} of {expected} blocks; {DAMAGED}")
    end = max(offset + length for offset, length in zip(offsets, lengths, strict=False))
    if end > size or 0 in lengths:
        raise ImageError(f"truncated TIFF: its pixels should end at byte {end} of {size}; {DAMAGED}")
