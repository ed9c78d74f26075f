"""Recognise what kind of TIFF a file is and check that all its pixel data lies inside it (TIFF 6.0, 1992)."""

from __future__ import annotations

import struct

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import DAMAGED, Alpha, ImageHeader
from iqa_runtime.images.tiff_blocks import blocks_of, check_block
from iqa_runtime.images.tiff_directory import Directory, Tag, orientation_of, read_directory, read_start

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
_MAX_DIRECTORIES = 64  # more than any real file has


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
    order, position = read_start(data)
    directory, end = read_directory(data, order, position, set(Tag))
    if directory.get(Tag.SUBFILE, (0,))[0] & (_REDUCED | _MASK) or Tag.DNG_VERSION in directory:
        raise ImageError("a camera raw file: its first TIFF page is a thumbnail; develop it to TIFF, PNG or JPEG")
    for _ in range(_MAX_DIRECTORIES):
        (position,) = struct.unpack_from(f"{order}I", data, end)
        if position == 0:
            break
        other, end = read_directory(data, order, position, {Tag.SUBFILE})
        if not other.get(Tag.SUBFILE, (0,))[0] & (_REDUCED | _MASK):
            raise ImageError("a TIFF of several pages; a score is of one image: save the page as a file of its own")
    else:
        raise ImageError(f"corrupt TIFF: its pages have no end; {DAMAGED}")
    header = _describe(directory)
    _check_extent(directory, len(data))
    return header


def check_tiff_pixels(data: bytes) -> None:
    """Decode every strip or tile as far as it takes to see that all of its pixels are there.

    The decoder behind OpenCV fills in what is missing and says so on stderr alone.

    Parameters
    ----------
    data
        A file that has passed `inspect_tiff`.

    Raises
    ------
    ImageError
        If a strip or tile does not decode to the size of its pixels.
    """
    order, position = read_start(data)
    directory, _ = read_directory(data, order, position, set(Tag))
    for block in blocks_of(directory):
        check_block(data, block, directory)


def _describe(directory: Directory) -> ImageHeader:
    """Check that there is a written rule for this kind of image."""
    try:
        (width,), (height,), photometric = directory[Tag.WIDTH], directory[Tag.HEIGHT], directory[Tag.PHOTOMETRIC][0]
    except (KeyError, ValueError):
        raise ImageError(f"corrupt TIFF: size or colour interpretation is missing; {DAMAGED}") from None
    samples = directory.get(Tag.SAMPLES, (1,))[0]
    depths = set(directory.get(Tag.BITS, (1,)))
    compression = directory.get(Tag.COMPRESSION, (1,))[0]
    extra = directory.get(Tag.EXTRA_SAMPLES, (0,))
    if set(directory.get(Tag.SAMPLE_FORMAT, (1,))) != {1}:
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
        format="TIFF",
        width=width,
        height=height,
        orientation=orientation_of(directory),
        depth=max(depths),
        alpha=alpha,
    )


def _check_extent(directory: Directory, size: int) -> None:
    """Check that every strip or tile is there and inside the file."""
    blocks = blocks_of(directory)
    end = max(block.offset + block.length for block in blocks)
    if end > size or any(block.length == 0 for block in blocks):
        raise ImageError(f"truncated TIFF: its pixels should end at byte {end} of {size}; {DAMAGED}")
