"""Read AVIF files (AV1 Image File Format 1.2.0, 2025)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.color.conversion import Conversion
from iqa_runtime.errors import ImageError
from iqa_runtime.images.av1 import SequenceHeader, sequence_headers
from iqa_runtime.images.header import DAMAGED, ImageHeader
from iqa_runtime.images.heif import Picture, color_tag, read_picture
from iqa_runtime.images.opencv import decode_with_opencv, to_rgb

_BRAND = 8  # where it lies


def inspect_avif(data: bytes) -> ImageHeader:
    """Read what the file shows, and check that all its coded data is there, of the sizes that its boxes say.

    A decoder reserves memory for what coded data says, and scales it to what the boxes say.
    """
    picture = read_picture(data, b"av01", "AVIF")
    first: SequenceHeader | None = None
    for part, size in picture.parts:
        header = None
        for header in sequence_headers(part.data(data)):
            if (header.width, header.height) != size:
                raise ImageError(
                    f"corrupt AVIF: coded data of {header.width} x {header.height} pixels, of {size[0]} x {size[1]}; "
                    f"{DAMAGED}"
                )
            first = first or header
        if header is None:
            raise ImageError(f"corrupt AVIF: coded data without a header; {DAMAGED}")
    if first is None:
        raise ImageError(f"corrupt AVIF: it holds no image; {DAMAGED}")
    is_sequence = picture.file.tracks is not None or data.startswith(b"avis", _BRAND)
    return ImageHeader(
        format="AVIF",
        width=picture.width,
        height=picture.height,
        orientation=picture.orientation,
        depth=first.depth,
        alpha="straight" if picture.has_alpha else "none",
        channels="gray" if first.monochrome else "RGB",
        color=color_tag(picture.item, first.primaries, first.transfer),
        several="an AVIF image sequence" if is_sequence else picture.several,
        parsed=picture,
    )


def decode_avif(data: bytes, header: ImageHeader, conversion: Conversion) -> NDArray[np.uint8]:
    """Decode a file that `inspect_avif` has accepted to uint8 H x W x 3 RGB.

    Raises
    ------
    ImageError
        If OpenCV cannot decode it.
    """
    import cv2

    picture: Picture = header.parsed
    if picture.file.tracks is not None:
        data = _without_tracks(data, picture.file.tracks.begin)
    stored = decode_with_opencv(data, "AVIF", picture.coded_width, picture.coded_height, cv2.IMREAD_UNCHANGED)
    stored = stored[picture.top : picture.top + header.height, picture.left : picture.left + header.width]
    return to_rgb(stored, header, conversion)


def _without_tracks(data: bytes, position: int) -> bytes:
    """Return a sequence as the still image that is in it, which a decoder passes over otherwise."""
    still = bytearray(data)
    end = int.from_bytes(still[:4])
    still[:end] = still[:end].replace(b"avis", b"avif")
    still[position + 4 : position + 8] = b"free"
    return bytes(still)
