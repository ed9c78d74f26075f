"""Read boxes and items of ISO base media files (ISO/IEC 14496-12:2022; HEIF, ISO/IEC 23008-12:2022).

Of such a file the boxes outside ``meta`` hold bytes alone; what these are says ``meta``: which items there are, where
their bytes lie, what they look like and which is the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import DAMAGED

_IN_FILE, _IN_IDAT = 0, 1  # construction methods


@dataclass(frozen=True, slots=True)
class Box:
    """A box: its type, and where it, its content, and both of them end in the file."""

    kind: bytes
    begin: int
    start: int
    end: int


@dataclass(slots=True)
class Item:
    """An image, a part of one, or metadata.

    Attributes
    ----------
    kind
        Such as ``av01``, ``hvc1``, ``grid`` or ``Exif``.
    hidden
        Whether it is not meant to be shown by itself.
    extents
        Where its data lies in the file, from a byte up to another.
    properties
        In order: their type, content, and whether who does not know them must not show the item.
    references
        Which items it refers to, by type.
    """

    kind: bytes = b""
    hidden: bool = False
    extents: list[tuple[int, int]] = field(default_factory=list)
    properties: list[tuple[bytes, bytes, bool]] = field(default_factory=list)
    references: dict[bytes, list[int]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of its data."""
        return sum(end - start for start, end in self.extents)

    def data(self, file: bytes) -> bytes:
        """Return its data."""
        return b"".join(file[start:end] for start, end in self.extents)

    def find(self, kind: bytes) -> bytes | None:
        """Return the first property of a type."""
        return next((content for name, content, _ in self.properties if name == kind), None)


@dataclass(slots=True)
class ItemFile:
    """What the boxes of a file say: its items, which of them is the picture, and where its tracks are described."""

    items: dict[int, Item] = field(default_factory=dict)
    primary: int = 0
    tracks: Box | None = None


class Reader:
    """Numbers, one behind the other, of a part of a file."""

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self.data, self.position, self.end = data, position, end

    def number(self, size: int) -> int:
        """Read a number of so many bytes."""
        return int.from_bytes(self.bytes(size))

    def bytes(self, size: int) -> bytes:
        """Read so many bytes.

        Raises
        ------
        ImageError
            If there are fewer.
        """
        if self.position + size > self.end:
            raise ImageError(f"truncated or corrupt: a box ends inside its fields, at byte {self.end}; {DAMAGED}")
        self.position += size
        return self.data[self.position - size : self.position]

    def version(self) -> tuple[int, int]:
        """Read version and flags."""
        return self.number(1), self.number(3)


def read_boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes of a part of a file.

    Raises
    ------
    ImageError
        If one is longer than the part.
    """
    while start < end:
        reader = Reader(data, start, end)
        size, kind = reader.number(4), reader.bytes(4)
        if size == 1:
            size = reader.number(8)
        stop = start + size if size else end
        if not reader.position <= stop <= end:
            raise ImageError(f"truncated or corrupt: the box at byte {start} should end at {stop} of {end}; {DAMAGED}")
        yield Box(kind, start, reader.position, stop)
        start = stop


def read_items(data: bytes) -> ItemFile:
    """Read ``meta``, and check that the data of every item lies in the file; what follows the last is ignored.

    Raises
    ------
    ImageError
        If the file is truncated or corrupt, or has no ``meta``.
    """
    file, meta = ItemFile(), None
    try:
        for box in read_boxes(data, 0, len(data)):
            if box.kind == b"meta" and meta is None:
                meta = box
            elif box.kind == b"moov":
                file.tracks = box
    except ImageError:
        # A box that ends beyond the file may be no box at all. What is missing then, places of items tell.
        if meta is None:
            raise
    if meta is None:
        raise ImageError(f"truncated or corrupt: no box that describes its items; {DAMAGED}")
    properties: list[tuple[bytes, bytes]] = []
    boxes = {box.kind: box for box in read_boxes(data, meta.start + 4, meta.end)}
    for kind in (b"pitm", b"iinf", b"iloc", b"iref", b"iprp"):
        if kind not in boxes:
            continue
        reader = Reader(data, boxes[kind].start, boxes[kind].end)
        if kind == b"pitm":
            file.primary = reader.number(4 if reader.version()[0] else 2)
        elif kind == b"iinf":
            _read_kinds(reader, file)
        elif kind == b"iloc":
            _read_places(reader, file, boxes.get(b"idat"))
        elif kind == b"iref":
            _read_references(reader, file)
        else:
            for box in read_boxes(data, boxes[kind].start, boxes[kind].end):
                if box.kind == b"ipco":
                    properties += [
                        (each.kind, data[each.start : each.end]) for each in read_boxes(data, box.start, box.end)
                    ]
                elif box.kind == b"ipma":
                    _read_properties(Reader(data, box.start, box.end), file, properties)
    return file


def _read_kinds(reader: Reader, file: ItemFile) -> None:
    reader.number(4 if reader.version()[0] else 2)
    for box in read_boxes(reader.data, reader.position, reader.end):
        entry = Reader(reader.data, box.start, box.end)
        version, flags = entry.version()
        if box.kind == b"infe" and version >= 2:
            number = entry.number(2 if version == 2 else 4)
            entry.number(2)
            file.items.setdefault(number, Item(kind=entry.bytes(4), hidden=bool(flags & 1)))


def _read_places(reader: Reader, file: ItemFile, inside: Box | None) -> None:
    version, _ = reader.version()
    sizes = reader.number(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    if not length_size:  # then data would reach to the end of the file, and any number of places take no byte
        raise ImageError(f"corrupt: items of no stated length; {DAMAGED}")
    for _ in range(reader.number(2 if version < 2 else 4)):
        number = reader.number(2 if version < 2 else 4)
        method = reader.number(2) & 15 if version else _IN_FILE
        elsewhere = reader.number(2)
        base = reader.number(base_size)
        start, end = (0, len(reader.data)) if method == _IN_FILE else (inside.start, inside.end) if inside else (0, 0)
        extents = []
        for _ in range(reader.number(2)):
            if version:
                reader.number(index_size)
            first, length = start + base + reader.number(offset_size), reader.number(length_size)
            if elsewhere or method not in (_IN_FILE, _IN_IDAT) or first + length > end:
                raise ImageError(
                    f"truncated or corrupt: an item should lie in bytes {first} to {first + length} of {end}; {DAMAGED}"
                )
            extents.append((first, first + length))
        if number in file.items:
            file.items[number].extents = extents


def _read_references(reader: Reader, file: ItemFile) -> None:
    size = 4 if reader.version()[0] else 2
    for box in read_boxes(reader.data, reader.position, reader.end):
        entry = Reader(reader.data, box.start, box.end)
        item = file.items.get(entry.number(size))
        others = [entry.number(size) for _ in range(entry.number(2))]
        if item is not None:
            item.references.setdefault(box.kind, others)


def _read_properties(reader: Reader, file: ItemFile, properties: list[tuple[bytes, bytes]]) -> None:
    version, flags = reader.version()
    size = 2 if flags & 1 else 1
    essential = 1 << 8 * size - 1
    for _ in range(reader.number(4)):
        item = file.items.get(reader.number(4 if version else 2))
        for _ in range(reader.number(1)):
            value = reader.number(size)
            index = value & essential - 1
            if index > len(properties):
                raise ImageError(f"corrupt: property {index} of {len(properties)}; {DAMAGED}")
            if item is not None and index:
                item.properties.append((*properties[index - 1], bool(value & essential)))
