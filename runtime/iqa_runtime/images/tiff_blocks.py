"""Decode the strips and tiles of a TIFF page; each must decode to as many bytes as its pixels take.

The decoders behind OpenCV and Pillow fill in what is missing, or accept what damage has made too long.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import DAMAGED, Alpha
from iqa_runtime.images.jpeg import decode_jpeg_block
from iqa_runtime.images.jpeg_markers import JpegFile, read_tables
from iqa_runtime.images.tiff_directory import Directory, Form, Tag, first_value
from iqa_runtime.images.tiff_lzw import decode_lzw
from iqa_runtime.images.tiff_samples import Samples, rgb_of_units, rgb_of_ycbcr, unpack

_NONE, _LZW, JPEG, _PACKBITS = 1, 5, 7, 32773
_DEFLATE, _OLD_DEFLATE, _LZMA, _ZSTD = 8, 32946, 34925, 50000
COMPRESSIONS = {_NONE, _LZW, JPEG, _PACKBITS, _DEFLATE, _OLD_DEFLATE, _LZMA, _ZSTD}
CONVERT = "convert it to PNG, for instance with ImageMagick: magick in.tif out.png"
_PREDICTED = COMPRESSIONS - {_NONE, JPEG, _PACKBITS}  # the tag has no meaning for others
PALETTE, YCBCR = 3, 6  # PhotometricInterpretation
_SEPARATE, _LOW_BIT_FIRST = 2, 2
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_LZMA_MEMORY = 1 << 28  # bytes its decoder may take; its largest preset takes 65 MB
_COMMON_TILE = 1 << 22  # pixels: 2048 x 2048, though the picture be small
_COMMON_BYTES = 1 << 28  # that such a tile decodes to: 64 a pixel
_MANY_BLOCKS, _SMALLEST_TILE = 1 << 15, 256  # pixels, as the standard has it; so many blocks cost time without end
_MAX_TABLES = 1 << 12  # bytes of JPEG tables; four of each kind take less than 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the directory of a page says.

    Attributes
    ----------
    form
        How numbers are stored, 16-bit samples among them.
    width, height
        In pixels.
    photometric
        What the first `colors` of its `samples` channels are (PhotometricInterpretation).
    bits, is_float
        Of one sample.
    alpha, alpha_index
        Whether there is transparency, and in which of the channels behind the colours.
    compression
        One of `COMPRESSIONS`.
    directory
        All tags.
    """

    form: Form
    width: int
    height: int
    photometric: int
    colors: int
    samples: int
    bits: int
    is_float: bool
    alpha: Alpha
    alpha_index: int
    compression: int
    directory: Directory

    def first(self, tag: Tag, default: int) -> int:
        """Return the first value of a tag."""
        return first_value(self.directory, tag, default)

    @property
    def is_separate(self) -> bool:
        """Whether each channel has strips or tiles of its own."""
        return self.samples > 1 and self.first(Tag.PLANES, 1) == _SEPARATE

    @property
    def subsampling(self) -> tuple[int, int]:
        """How many pixels share a chrominance, across and down."""
        if self.photometric != YCBCR or self.compression == JPEG:
            return 1, 1
        across, down = (self.directory.get(Tag.YCBCR_SUBSAMPLING, (2, 2)) * 2)[:2]
        if not {across, down} <= {1, 2, 4} or (self.is_separate and (across, down) != (1, 1)):
            raise ImageError(f"corrupt TIFF: chrominance subsampling {across} x {down}; {DAMAGED}")
        return across, down

    def decoded_bytes(self, width: int, height: int) -> int:
        """Return how many bytes a strip or tile of so many pixels decodes to."""
        across, down = self.subsampling
        if (across, down) != (1, 1):
            # Pixels come in units: all luminances of one, then its two chrominances (TIFF 6.0, section 21).
            return -(-width // across) * -(-height // down) * (across * down + 2)
        return -(-width * (1 if self.is_separate else self.samples) * self.bits // 8) * height

    @property
    def predictor(self) -> int:
        """How samples were made smaller before they were compressed (section 14 and Technical Note 3)."""
        return self.first(Tag.PREDICTOR, 1) if self.compression in _PREDICTED else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One strip or tile.

    Attributes
    ----------
    offset, length
        Where its coded bytes lie in the file.
    plane, top, left
        Where its pixels lie in the image; the plane is that of its only channel.
    width, height
        In pixels; the last strip is as high as what is left of the image, tiles are never cut.
    full_height
        That of the other strips: some writers fill the last one up.
    """

    offset: int
    length: int
    plane: int
    top: int
    left: int
    width: int
    height: int
    full_height: int


def check_extent(page: Page, size: int) -> None:
    """Check that every strip or tile is there and inside the file, and that they do not lie over one another.

    Raises
    ------
    ImageError
        If not.
    """
    end = total = 0
    for block in _blocks_of(page):
        end, total = max(end, block.offset + block.length), total + block.length
        if block.length == 0:
            raise ImageError(f"truncated TIFF: strips or tiles of no bytes; {DAMAGED}")
    if end > size:
        raise ImageError(f"truncated TIFF: its pixels should end at byte {end} of {size}; {DAMAGED}")
    if total > size:
        raise ImageError(f"corrupt TIFF: its strips or tiles take {total} of {size} bytes; {DAMAGED}")


def samples_of(data: bytes, page: Page) -> NDArray[np.uint8]:
    """Decode a page to 8 bits per sample.

    Parameters
    ----------
    data
        The whole file; all blocks lie inside.
    page
        Of a kind that is read.

    Returns
    -------
    numpy.ndarray
        H x W x samples; indices where they are those of a palette, RGB where the file has YCbCr.

    Raises
    ------
    ImageError
        If the coded data of a block is damaged, ends early or is too much.
    """
    samples = np.empty((page.height, page.width, page.samples), np.uint8)
    tables = bytes(page.directory.get(Tag.JPEG_TABLES, ())) if page.compression == JPEG else b""
    if len(tables) > _MAX_TABLES:
        raise ImageError(f"corrupt TIFF: {len(tables)} bytes of JPEG tables; {DAMAGED}")
    before = read_tables(tables)
    for block in _blocks_of(page):
        pixels = _decode_block(data, block, page, before)
        part = samples[block.top : block.top + block.height, block.left : block.left + block.width]
        if page.is_separate:
            part[..., block.plane] = pixels[: part.shape[0], : part.shape[1], 0]
        else:
            part[:] = pixels[: part.shape[0], : part.shape[1]]
    if page.photometric == YCBCR and page.is_separate:
        return rgb_of_ycbcr(samples)
    return samples


def _blocks_of(page: Page) -> Iterator[Block]:
    """List the strips or tiles in the order of the file's tags."""
    directory = page.directory
    # The size of a tile tells tiles from strips. Some writers name the places of one as those of the other.
    tiled = not directory.keys().isdisjoint((Tag.TILE_WIDTH, Tag.TILE_HEIGHT))
    places = (Tag.STRIP_OFFSETS, Tag.TILE_OFFSETS), (Tag.STRIP_BYTES, Tag.TILE_BYTES)
    offsets, lengths = (directory.get(tags[tiled], directory.get(tags[not tiled], ())) for tags in places)
    if tiled:
        width, full_height = page.first(Tag.TILE_WIDTH, 0), page.first(Tag.TILE_HEIGHT, 0)
    else:
        width, full_height = page.width, min(page.first(Tag.ROWS_PER_STRIP, page.height), page.height)
    if width < 1 or full_height < 1:
        raise ImageError(f"corrupt TIFF: empty strips or tiles; {DAMAGED}")
    own, most = (page.decoded_bytes(*size) for size in ((page.width, page.height), (width, full_height)))
    if width * full_height > max(_COMMON_TILE, 4 * page.width * page.height) or most > max(_COMMON_BYTES, 4 * own):
        raise ImageError(
            f"corrupt TIFF: tiles of {width} x {full_height} pixels, the picture has {page.width} x {page.height}; "
            f"{DAMAGED}"
        )
    across, rows = -(-page.width // width), -(-page.height // full_height)
    count = across * rows * (page.samples if page.is_separate else 1)
    if count > _MANY_BLOCKS and page.width * page.height < count * _SMALLEST_TILE:
        raise ImageError(
            f"a TIFF of {count} strips or tiles for {page.width} x {page.height} pixels; save it with larger ones"
        )
    if not lengths and count == 1 and page.compression == _NONE:
        lengths = (page.decoded_bytes(width, full_height),)  # the tag is due, but libtiff works it out so
    if not offsets or not lengths:
        missing = "places" if not offsets else "lengths"
        raise ImageError(f"a TIFF that lacks the {missing} of its strips or tiles; {DAMAGED}")
    if min(len(offsets), len(lengths)) < count:
        raise ImageError(f"corrupt TIFF: {min(len(offsets), len(lengths))} of {count} blocks; {DAMAGED}")
    for index in range(count):
        plane, place = divmod(index, across * rows)
        top, left = place // across * full_height, place % across * width
        yield Block(
            offset=offsets[index],
            length=lengths[index],
            plane=plane,
            top=top,
            left=left,
            width=width,
            height=full_height if tiled else min(full_height, page.height - top),
            full_height=full_height,
        )


def _decode_block(data: bytes, block: Block, page: Page, tables: JpegFile) -> NDArray[np.uint8]:
    """Decode one strip or tile to its pixels, at least its height x its width x channels."""
    coded = data[block.offset : block.offset + block.length]
    channels = 1 if page.is_separate else page.samples
    if page.compression == JPEG:
        size = block.width, block.height, block.full_height
        is_ycbcr = page.photometric == YCBCR and channels == 3
        return decode_jpeg_block(coded, tables, size, channels=channels, ycbcr=is_ycbcr)
    if page.first(Tag.FILL_ORDER, 1) == _LOW_BIT_FIRST:
        coded = coded.translate(_MIRRORED)
    across, down = page.subsampling
    wanted, most = (page.decoded_bytes(block.width, height) for height in (block.height, block.full_height))
    decoded = _decompress(coded, page.compression, wanted, most)
    if page.compression == _PACKBITS or (page.compression == _NONE and Tag.COMPRESSION in page.directory):
        most = max(most, len(decoded))  # what follows is only filling
    if not wanted <= len(decoded) <= most:
        raise ImageError(
            f"corrupt TIFF: the pixels at byte {block.offset} decode to {len(decoded)} bytes instead of {wanted}; "
            f"{DAMAGED}"
        )
    rows = np.frombuffer(decoded, np.uint8, wanted).reshape(-(-block.height // down), -1)
    if (across, down) != (1, 1):
        return rgb_of_units(rows, across, down)
    layout = Samples(page.form.order, page.bits, page.is_float, is_index=page.photometric == PALETTE)
    pixels = unpack(rows, layout, block.width, channels, page.predictor)
    return rgb_of_ycbcr(pixels) if page.photometric == YCBCR and not page.is_separate else pixels


def _decompress(coded: bytes, compression: int, wanted: int, most: int) -> bytes:
    """Undo a compression, to little more than `most` bytes."""
    if compression == _NONE:
        return coded
    if compression == _LZW:
        if coded.startswith(b"\0") and len(coded) > 1 and coded[1] & 1:  # a Clear with the low bit first
            raise ImageError(f"a TIFF of old-style LZW compression, which is not read; {CONVERT}")
        return decode_lzw(coded, wanted, most)
    if compression == _PACKBITS:
        return _unpack_bits(coded, wanted)
    # With a checksum each: Deflate always, LZMA and Zstandard where the writer asked for one.
    decoder = _decompressor(compression)
    try:
        decoded = decoder.decompress(coded, most + 1)
    except MemoryError:
        raise
    except Exception as error:  # each library has an error of its own
        raise ImageError(f"corrupt TIFF: its compressed data is damaged ({error}); {DAMAGED}") from error
    if not decoder.eof and len(decoded) <= most:
        raise ImageError(f"corrupt TIFF: its compressed data has no end; {DAMAGED}")
    return decoded


class _Decompressor(Protocol):
    """What zlib, lzma and zstd have in common."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _decompressor(compression: int) -> _Decompressor:
    if compression == _LZMA:
        import lzma

        return lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)
    if compression == _ZSTD:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
        decoder: _Decompressor = zstd.ZstdDecompressor()
        return decoder
    return zlib.decompressobj()


def _unpack_bits(coded: bytes, wanted: int) -> bytes:
    """Expand PackBits runs (section 9) until there is enough; a run that the data ends in counts for nothing."""
    decoded, position = bytearray(), 0
    while len(decoded) < wanted and position < len(coded):
        header = coded[position]
        if header < 128:
            position += 2 + header
            if position <= len(coded):
                decoded += coded[position - 1 - header : position]
        elif header > 128:
            position += 2
            if position <= len(coded):
                decoded += coded[position - 1 : position] * (257 - header)
        else:
            position += 1
    return bytes(decoded)
