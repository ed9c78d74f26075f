"""Check that each strip or tile of a TIFF file decodes to as many bytes as its pixels take.

Nothing is kept of what is decoded, and for LZW and PackBits only lengths are followed.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import DAMAGED
from iqa_runtime.images.jpeg import check_jpeg_block
from iqa_runtime.images.tiff_directory import Directory, Tag
from iqa_runtime.images.tiff_lzw import lzw_length

_NONE, _LZW, _JPEG, _PACKBITS = 1, 5, 7, 32773  # all others that are admitted are Deflate
_YCBCR, _SEPARATE, _LOW_BIT_FIRST = 6, 2, 2
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One strip or tile.

    Attributes
    ----------
    offset, length
        Where its coded bytes lie in the file.
    width, height
        In pixels; the last strip is as high as what is left of the image, tiles are never cut.
    full_height
        That of the other strips: some writers fill the last one up.
    """

    offset: int
    length: int
    width: int
    height: int
    full_height: int


def blocks_of(directory: Directory) -> list[Block]:
    """List the strips or tiles of a page in the order of the file's tags.

    Raises
    ------
    ImageError
        If some are missing or empty.
    """
    width, height = directory[Tag.WIDTH][0], directory[Tag.HEIGHT][0]
    offsets = directory.get(Tag.STRIP_OFFSETS) or directory.get(Tag.TILE_OFFSETS, ())
    lengths = directory.get(Tag.STRIP_BYTES) or directory.get(Tag.TILE_BYTES, ())
    tiled = Tag.TILE_OFFSETS in directory
    if tiled:
        block_width, block_height = directory.get(Tag.TILE_WIDTH, (0,))[0], directory.get(Tag.TILE_HEIGHT, (0,))[0]
    else:
        block_width, block_height = width, min(directory.get(Tag.ROWS_PER_STRIP, (height,))[0], height)
    if block_width == 0 or block_height == 0:
        raise ImageError(f"corrupt TIFF: empty strips or tiles; {DAMAGED}")
    planes = directory.get(Tag.SAMPLES, (1,))[0] if directory.get(Tag.PLANES, (1,))[0] == _SEPARATE else 1
    rows = -(-height // block_height)
    per_plane = -(-width // block_width) * rows
    if min(len(offsets), len(lengths)) < per_plane * planes:
        raise ImageError(f"corrupt TIFF: {min(len(offsets), len(lengths))} of {per_plane * planes} blocks; {DAMAGED}")
    last_height = block_height if tiled else height - (rows - 1) * block_height
    return [
        Block(
            offset=offsets[index],
            length=lengths[index],
            width=block_width,
            height=last_height if index % per_plane == per_plane - 1 else block_height,
            full_height=block_height,
        )
        for index in range(per_plane * planes)
    ]


def check_block(data: bytes, block: Block, directory: Directory) -> None:
    """Check that one strip or tile decodes to its pixels.

    Parameters
    ----------
    data
        The whole file; the block lies inside.
    block
        Which one.
    directory
        Of the page.

    Raises
    ------
    ImageError
        If its coded data is damaged, ends early or is too much.
    """
    compression = directory.get(Tag.COMPRESSION, (1,))[0]
    coded = data[block.offset : block.offset + block.length]
    if compression == _JPEG:
        # Tables and image data are two JPEG files, each between a start and an end marker.
        tables = bytes(directory.get(Tag.JPEG_TABLES, ()))
        whole = tables[:-2] + coded[2:] if tables else coded
        check_jpeg_block(whole, block.width, block.height)
        return
    if directory.get(Tag.FILL_ORDER, (1,))[0] == _LOW_BIT_FIRST:
        coded = coded.translate(_MIRRORED)
    wanted, most = (_decoded_bytes(directory, block.width, height) for height in (block.height, block.full_height))
    if compression == _NONE:
        found, most = len(coded), max(most, len(coded))
    elif compression == _LZW:
        found = lzw_length(coded, wanted, most)
    elif compression == _PACKBITS:
        found = _packbits_length(coded, wanted)
        most = max(most, found)
    else:
        found = _deflate_length(coded, most)
    if not wanted <= found <= most:
        raise ImageError(
            f"corrupt TIFF: the pixels at byte {block.offset} decode to {found} bytes instead of {wanted}; {DAMAGED}"
        )


def _decoded_bytes(directory: Directory, width: int, height: int) -> int:
    """Count the bytes of so many pixels of a strip or tile; rows start on whole bytes."""
    separate = directory.get(Tag.PLANES, (1,))[0] == _SEPARATE
    if directory[Tag.PHOTOMETRIC][0] == _YCBCR and not separate:
        # Pixels come in units: all luminances of one, then its two chrominances (TIFF 6.0, section 21).
        across, down = (directory.get(Tag.YCBCR_SUBSAMPLING, (2, 2)) * 2)[:2]
        if not {across, down} <= {1, 2, 4}:
            raise ImageError(f"corrupt TIFF: chrominance subsampling {across} x {down}; {DAMAGED}")
        return -(-width // across) * -(-height // down) * (across * down + 2)
    samples = 1 if separate else directory.get(Tag.SAMPLES, (1,))[0]
    return -(-width * samples * directory.get(Tag.BITS, (1,))[0] // 8) * height


def _deflate_length(coded: bytes, most: int) -> int:
    """Count what a zlib stream inflates to, at most one byte more than `most`; -1 if damaged, by its Adler-32 too."""
    decoder = zlib.decompressobj()
    length, rest = 0, coded
    try:
        while length <= most and not decoder.eof:
            inflated = len(decoder.decompress(rest, min(most + 1 - length, 1 << 20)))
            rest = decoder.unconsumed_tail
            length += inflated
            if not inflated and not rest:
                break
    except zlib.error:
        return -1
    return length if decoder.eof or length > most else -1


def _packbits_length(coded: bytes, wanted: int) -> int:
    """Count what PackBits runs expand to, until there is enough; a run that the data ends in counts for nothing."""
    length = position = 0
    while length < wanted and position < len(coded):
        header = coded[position]
        if header < 128:
            position += 2 + header
            length += 1 + header if position <= len(coded) else 0
        else:
            position += 2 if header > 128 else 1
            length += 257 - header if header > 128 and position <= len(coded) else 0
    return length
