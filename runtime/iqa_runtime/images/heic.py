"""Read HEIC files, by libheif (extra ``heic``). It is an extra for its licence: the wheels bring x265, which is GPL."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.color.conversion import Conversion
from iqa_runtime.errors import ImageError, one_line
from iqa_runtime.images.header import DAMAGED, ImageHeader
from iqa_runtime.images.heif import color_tag, read_picture
from iqa_runtime.images.hevc import coded_sizes
from iqa_runtime.images.opencv import to_rgb

_LEAST_LIBHEIF = (1, 23, 4)  # older ones run code that a file brings
_PADDING = 64  # most by which coded data is larger than what is shown of it: a coding tree unit
_SEQUENCES = (b"hevc", b"hevx", b"msf1")  # brands


def inspect_heic(data: bytes) -> ImageHeader:
    """Read what the file shows, and check that all its coded data is there, of the sizes that its boxes say."""
    picture = read_picture(data, b"hvc1", "HEIC")
    for part, (width, height) in picture.parts:
        sizes = list(coded_sizes(part.find(b"hvcC") or b"", part.data(data)))
        if not sizes:
            raise ImageError(f"corrupt HEIC: coded data without a size; {DAMAGED}")
        for across, down in sizes:
            if not (width <= across < width + _PADDING and height <= down < height + _PADDING):
                raise ImageError(
                    f"corrupt HEIC: coded data of {across} x {down} pixels, of {width} x {height}; {DAMAGED}"
                )
    if b"prem" in picture.item.references:
        raise ImageError("a HEIC image of colours multiplied by its transparency, which is not read; convert it to PNG")
    several = picture.several
    if several is None and (picture.file.tracks or data[8:12] in _SEQUENCES):
        several = "a HEIC image sequence"
    # libheif crops, turns and mirrors.
    is_turned = picture.orientation >= 5
    return ImageHeader(
        format="HEIC",
        width=picture.height if is_turned else picture.width,
        height=picture.width if is_turned else picture.height,
        depth=16,
        alpha="straight" if picture.has_alpha else "none",
        channels="gray" if (picture.item.find(b"pixi") or b"")[4:5] == b"\1" else "RGB",
        color=color_tag(picture.item),
        several=several,
    )


def decode_heic(data: bytes, header: ImageHeader, conversion: Conversion) -> NDArray[np.uint8]:
    """Decode a file that `inspect_heic` has accepted to uint8 H x W x 3 RGB.

    Raises
    ------
    ImageError
        If pillow-heif is missing or brings an old libheif, or cannot decode it.
    """
    decoder = _libheif()
    try:
        file = decoder.open_heif(data, convert_hdr_to_8bit=False)
        stored: NDArray[Any] = np.asarray(file[file.primary_index])
    except MemoryError:
        raise
    except Exception as error:  # of what type it is depends on the damage
        raise ImageError(f"corrupt HEIC ({one_line(error)}); {DAMAGED}") from error
    if stored.shape[:2] != (header.height, header.width):
        raise ImageError(f"corrupt HEIC: its pixels cannot be decoded; {DAMAGED}")
    if stored.ndim == 3:
        stored = stored[..., [2, 1, 0, 3][: stored.shape[2]]]
    # More than 8 bits come in the upper ones of 16.
    return to_rgb(stored, header, conversion)


def _libheif() -> Any:
    """Return pillow-heif, with a libheif that may be given files of strangers."""
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError(f'a HEIC image, which needs pillow-heif ({error}): pip install "iqa-deploy[heic]"') from error
    found = pillow_heif.libheif_version()
    if tuple(int(number) for number in re.findall(r"\d+", found)[:3]) < _LEAST_LIBHEIF:
        least = ".".join(map(str, _LEAST_LIBHEIF))
        raise ImageError(
            f"a HEIC image, and pillow-heif brings libheif {found}: before {least} a file could run code of its own; "
            'pip install --upgrade "iqa-deploy[heic]"'
        )
    return pillow_heif
