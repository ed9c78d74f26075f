"""The picture that a HEIF file shows, whatever codes it (ISO/IEC 23008-12:2022; MIAF, ISO/IEC 23000-22:2019)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction

from iqa_runtime.color.spaces import CICP_UNSPECIFIED, HDR_CURVES
from iqa_runtime.color.tags import UNTAGGED, ColorTag
from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import ADVICE, DAMAGED
from iqa_runtime.images.isobmff import Item, ItemFile, read_items

_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
_KNOWN = {
    b"ispe",
    b"pixi",
    b"colr",
    b"irot",
    b"imir",
    b"auxC",
    b"pasp",
    b"clap",
    b"clli",
    b"mdcv",
    b"av1C",
    b"hvcC",
    b"a1lx",
}
_ORIENTATIONS: dict[
    tuple[int, int | None], int
] = {  # EXIF's by quarter turns to the left, and what is mirrored then: rows, columns or nothing
    **{(0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6},
    **{(0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7},
    **{(0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5},
}
_TILE_PIXELS, _TILE_SHARE = 1 << 22, 4  # of a tile, at most; more only as a share of the picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What a file shows.

    Attributes
    ----------
    width, height
        In pixels, before it is turned.
    left, top
        Where it begins in what is coded, of which it may be a part.
    coded_width, coded_height
        Of that.
    orientation
        EXIF's, of how it is turned and mirrored.
    item
        Its properties.
    parts
        Every coded image that is decoded for it, and its size: itself or its tiles, and their transparency.
    has_alpha
        Whether there is transparency.
    several
        What the file is, if it holds other pictures, too.
    file
        All items.
    """

    width: int
    height: int
    left: int
    top: int
    coded_width: int
    coded_height: int
    orientation: int
    item: Item
    parts: list[tuple[Item, tuple[int, int]]]
    has_alpha: bool
    several: str | None
    file: ItemFile


def read_picture(data: bytes, coding: bytes, name: str) -> Picture:
    """Find the picture of a file.

    Parameters
    ----------
    data
        The whole file.
    coding
        The type that coded images must have.
    name
        Of the format, for messages.

    Raises
    ------
    ImageError
        If the file is truncated or corrupt, or shows anything but one image of that coding, or tiles of it.
    """
    file = read_items(data)
    item = file.items.get(file.primary)
    if item is None:
        raise ImageError(f"a {name} file without a still image; extract a frame")
    width, height = _size_of(item, name)
    masks = [
        other
        for other in file.items.values()
        if (other.find(b"auxC") or b"")[4:].split(b"\0")[0] in _ALPHA
        and {file.primary, *item.references.get(b"dimg", ())} & set(other.references.get(b"auxl", ()))
    ]
    parts: list[tuple[Item, tuple[int, int]]] = []
    for each in (item, *masks):
        for part in _tiles_of(each, file, data, name) if each.kind == b"grid" else [each]:
            size = _size_of(part, name)
            if part.kind != coding:
                raise ImageError(f"a {name} file of images coded as {_text(part.kind)}, which is not read; {ADVICE}")
            if size[0] * size[1] > max(_TILE_PIXELS, _TILE_SHARE * width * height):
                raise ImageError(f"corrupt {name}: a part of {size[0]} x {size[1]}, of {width} x {height}; {DAMAGED}")
            parts.append((part, size))
    taken = sum(part.size for part, _ in parts)
    if taken > len(data) or not all(part.size for part, _ in parts):
        raise ImageError(f"corrupt {name}: its images take {taken} of {len(data)} bytes; {DAMAGED}")
    for each in (item, *(part for part, _ in parts)):
        for kind, _, essential in each.properties:
            if essential and kind not in _KNOWN:
                raise ImageError(f"a {name} file whose image depends on {_text(kind)}, which is not read; {ADVICE}")
    left, top, shown_width, shown_height = _aperture_of(item, width, height, name)
    return Picture(
        width=shown_width,
        height=shown_height,
        left=left,
        top=top,
        coded_width=width,
        coded_height=height,
        orientation=_orientation_of(item, name),
        item=item,
        parts=parts,
        has_alpha=bool(masks),
        several=f"several images in a file of {name}" if _has_others(file, coding) else None,
        file=file,
    )


def color_tag(item: Item, primaries: int = CICP_UNSPECIFIED, transfer: int = CICP_UNSPECIFIED) -> ColorTag:
    """Return what an image says about its colours; a profile goes before code points, unless these say HDR.

    Parameters
    ----------
    item
        The image.
    primaries, transfer
        What its coded data says, if the file says nothing.
    """
    profile: bytes | None = None
    for kind, content, _ in item.properties:
        if kind == b"colr" and content.startswith((b"prof", b"rICC")):
            profile = content[4:] if profile is None else profile
        elif kind == b"colr" and content.startswith(b"nclx") and len(content) >= 10:
            primaries, transfer = struct.unpack_from(">HH", content, 4)
    if profile is not None and transfer not in HDR_CURVES:
        return ColorTag(profile=profile)
    if (primaries, transfer) == (CICP_UNSPECIFIED, CICP_UNSPECIFIED):
        return UNTAGGED
    # Decoders make RGB of the full range.
    return ColorTag(cicp=(primaries, transfer, 0, 1))


def _text(kind: bytes) -> str:
    return kind.decode("ascii", "backslashreplace")


def _size_of(item: Item, name: str) -> tuple[int, int]:
    extent = item.find(b"ispe")
    if extent is None or len(extent) < 12:
        raise ImageError(f"corrupt {name}: an image of no stated size; {DAMAGED}")
    width, height = struct.unpack_from(">4xII", extent)
    return width, height


def _tiles_of(item: Item, file: ItemFile, data: bytes, name: str) -> list[Item]:
    """Return the tiles of a grid, all of one size and no more than it takes (HEIF, 6.6.2.3)."""
    content = item.data(data) if item.size <= len(data) else b""
    try:
        flags, rows, columns = struct.unpack_from("xBBB", content)
        width, height = struct.unpack_from(">II" if flags & 1 else ">HH", content, 4)
    except struct.error:
        raise ImageError(f"corrupt {name}: a grid without a description; {DAMAGED}") from None
    tiles = [file.items.get(number, Item()) for number in item.references.get(b"dimg", ())]
    sizes = {_size_of(tile, name) for tile in tiles}
    if (width, height) != _size_of(item, name) or len(tiles) != (rows + 1) * (columns + 1) or len(sizes) != 1:
        raise ImageError(f"corrupt {name}: {len(tiles)} tiles of a grid of {columns + 1} x {rows + 1}; {DAMAGED}")
    ((tile_width, tile_height),) = sizes
    if not (tile_width * columns < width <= tile_width * (columns + 1)) or not (
        tile_height * rows < height <= tile_height * (rows + 1)
    ):
        raise ImageError(f"corrupt {name}: tiles of {tile_width} x {tile_height} make no {width} x {height}; {DAMAGED}")
    return tiles


def _has_others(file: ItemFile, coding: bytes) -> bool:
    """Whether another item is a picture of its own: no tile, thumbnail, transparency or gain map."""
    parts = {number for item in file.items.values() for number in item.references.get(b"dimg", ())}
    return any(
        item.kind in (coding, b"grid") and not item.hidden and not {b"thmb", b"auxl"} & set(item.references)
        for number, item in file.items.items()
        if number != file.primary and number not in parts
    )


def _aperture_of(item: Item, width: int, height: int, name: str) -> tuple[int, int, int, int]:
    """Return left, top, width and height of the part that is shown (ISO/IEC 14496-12, 12.1.4)."""
    aperture = item.find(b"clap")
    if aperture is None:
        return 0, 0, width, height
    try:
        numbers = struct.unpack(">IIIIiIiI", aperture)
        across, down, right, below = (Fraction(*numbers[place : place + 2]) for place in (0, 2, 4, 6))
    except (struct.error, ZeroDivisionError):
        raise ImageError(f"corrupt {name}: a clean aperture that means nothing; {DAMAGED}") from None
    place = (right + (width - across) / 2, below + (height - down) / 2, across, down)
    left, top, shown_width, shown_height = map(int, place)
    inside = left >= 0 and top >= 0 and left + shown_width <= width and top + shown_height <= height
    if not inside or any(number.denominator > 1 for number in place):
        raise ImageError(f"a {name} file whose clean aperture is not of whole pixels inside it; {ADVICE}")
    return left, top, shown_width, shown_height


def _orientation_of(item: Item, name: str) -> int:
    turns, mirrored = 0, None
    for kind, content, _ in item.properties:
        if kind == b"clap" and (turns or mirrored is not None):
            raise ImageError(f"a {name} file that is turned before it is cropped; save it again")
        if kind == b"irot" and content:
            if mirrored is not None:
                raise ImageError(f"a {name} file that is mirrored before it is turned; save it again")
            turns += content[0] & 3
        elif kind == b"imir" and content:
            if mirrored is not None:
                raise ImageError(f"a {name} file that is mirrored twice; save it again")
            mirrored = content[0] & 1
    return _ORIENTATIONS[turns % 4, mirrored]
