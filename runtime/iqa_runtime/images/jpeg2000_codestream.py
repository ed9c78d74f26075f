"""Walk the markers of a JPEG 2000 codestream (ITU-T T.800, Annex A) and bound the work that its headers ask for."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import ADVICE, DAMAGED

_SOC, _SIZ, _COD, _COC, _SOT, _SOD, _EOC = 0xFF4F, 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9
_MOST_COMPONENTS = 4
_MOST_PACKETS = 1 << 22  # more than any real file has; a decoder reserves memory for each
_PRECINCTS, _PRECINCT_PIXELS = 1 << 16, 256  # of one component: so many, and one more for so many pixels
_MOST_LEVELS = 32
_LEAST_SEGMENT, _NO_SEGMENTS = 0xFF4F, {_SOC, _SOT, _SOD, _EOC}  # markers


@dataclass(frozen=True, slots=True, kw_only=True)
class Codestream:
    """What the main header says, and where the codestream ends; `depths` are of the components."""

    width: int
    height: int
    depths: tuple[int, ...]
    end: int


def read_codestream(data: bytes, start: int, end: int) -> Codestream:
    """Read the header, and walk through all parts of all tiles up to the end marker.

    Parameters
    ----------
    data
        The file.
    start, end
        Where the codestream begins, and must end at the latest.

    Raises
    ------
    ImageError
        If it is truncated or corrupt, or of a kind that is not read.
    struct.error
        If it ends inside a header.
    """
    data = data[:end]
    if struct.unpack_from(">HH", data, start) != (_SOC, _SIZ):
        raise ImageError(f"corrupt JPEG 2000: its codestream begins without a size; {DAMAGED}")
    width, height, left, top, tile_width, tile_height, tile_left, tile_top, count = struct.unpack_from(
        ">8IH", data, start + 8
    )
    if not 1 <= count <= _MOST_COMPONENTS:
        raise ImageError(f"a JPEG 2000 of {count} components, only 1, 3 and 4 are read; {ADVICE}")
    if left or top or tile_left or tile_top:
        raise ImageError(f"a JPEG 2000 with an offset, which is not read; {ADVICE}")
    if min(width, height, tile_width, tile_height) < 1:
        raise ImageError(f"corrupt JPEG 2000: {width} x {height} pixels, tiles {tile_width} x {tile_height}; {DAMAGED}")
    depths = []
    for component in range(count):
        depth, *sampling = struct.unpack_from("BBB", data, start + 42 + 3 * component)
        if not 7 <= depth <= 15 or sampling != [1, 1]:
            raise ImageError(f"a JPEG 2000 of signed or subsampled components, or not of 8 to 16 bits; {ADVICE}")
        depths.append(depth + 1)
    tiles = -(-width // tile_width) * -(-height // tile_height)
    work = _Work(tiles=tiles, components=count, width=min(width, tile_width), height=min(height, tile_height))
    position = _pass_header(data, start + 2, _SOT, work)
    parts: dict[int, int] = {}
    promised: dict[int, int] = {}
    while (marker := struct.unpack_from(">H", data, position)[0]) == _SOT:
        tile, length, part, of = struct.unpack_from(">HIBB", data, position + 4)
        stop = position + length if length else len(data) - 2
        coded = _pass_header(data, position + 12, _SOD, work)
        if not coded + 2 <= stop <= len(data) - 2:
            raise ImageError(f"truncated JPEG 2000: a tile should end at byte {stop} of {len(data)}; {DAMAGED}")
        if part != parts.get(tile, 0) or tile >= tiles:
            raise ImageError(f"corrupt JPEG 2000: part {part} of tile {tile} of {tiles} out of order; {DAMAGED}")
        parts[tile] = part + 1
        promised[tile] = of or promised.get(tile, 0)
        position = stop
    if marker != _EOC:
        raise ImageError(f"truncated or corrupt JPEG 2000: no marker at byte {position}; {DAMAGED}")
    if len(parts) != tiles or any(promised[tile] not in (0, found) for tile, found in parts.items()):
        raise ImageError(f"truncated JPEG 2000: parts of its {tiles} tiles are missing; {DAMAGED}")
    return Codestream(width=width, height=height, depths=tuple(depths), end=position + 2)


def _pass_header(data: bytes, position: int, last: int, work: _Work) -> int:
    """Return where the marker is that ends a header, and note what work it asks for."""
    while (marker := struct.unpack_from(">H", data, position)[0]) != last:
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker < _LEAST_SEGMENT or marker in _NO_SEGMENTS or length < 2:
            raise ImageError(f"corrupt JPEG 2000: no marker of a header at byte {position}; {DAMAGED}")
        end = position + 2 + length
        if marker == _COD:
            style, layers, levels = struct.unpack_from(">BxHxB", data, position + 4)
            work.layers = max(work.layers, layers)
            work.add(levels, data[position + 14 : end] if style & 1 else b"")
        elif marker == _COC:
            style, levels = struct.unpack_from("BB", data, position + 5)
            work.add(levels, data[position + 11 : end] if style & 1 else b"")
        position = end
    return position


@dataclass(slots=True, kw_only=True)
class _Work:
    """How many packets there are: one a tile, layer, component, resolution and precinct (B.9).

    `width` and `height` are of a tile, `bands` are components by resolutions.
    """

    tiles: int
    components: int
    width: int
    height: int
    layers: int = 1
    precincts: int = 1
    bands: int = 1

    def add(self, levels: int, exponents: bytes) -> None:
        """Note a style of coding: its levels, and the sizes of its precincts by resolution, if it says them."""
        self.bands = max(self.bands, self.components * (levels + 1))
        for resolution, exponent in enumerate(exponents[: levels + 1]):
            across, down = (
                _halved(_halved(side, levels - resolution), power)
                for side, power in ((self.width, exponent & 15), (self.height, exponent >> 4))
            )
            self.precincts = max(self.precincts, across * down)
        packets = self.tiles * self.layers * self.bands * self.precincts
        most = _PRECINCTS + self.width * self.height // _PRECINCT_PIXELS
        if levels > _MOST_LEVELS or self.precincts > most or packets > _MOST_PACKETS:
            raise ImageError(
                f"a JPEG 2000 of {levels} levels, {self.layers} layers and {self.precincts} precincts, too many to "
                f"decode; {ADVICE}"
            )


def _halved(side: int, times: int) -> int:
    """Halve a size so often, rounding up."""
    return (side + (1 << times) - 1) >> times
