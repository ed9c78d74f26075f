"""OpenCV as a decoder of one still image: what it returns has the size its header says, or is an error.

The same file gives the same pixels with every supported OpenCV version: orientation, transparency and 16-bit samples
are handled here, because OpenCV's own handling differs between formats, flags and versions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.color.conversion import Conversion
from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import DAMAGED, ImageHeader
from iqa_runtime.images.pixels import in_bands, over_white

_OPTIONAL = {"AVIF": ".avif", "JPEG 2000": ".jp2"}  # that OpenCV can be built without
_BYTES_PER_PIXEL = 8  # of 16-bit samples with alpha, the widest that is decoded


def decode_with_opencv(data: bytes, name: str, width: int, height: int, flags: int) -> NDArray[Any]:
    """Decode without turning.

    Parameters
    ----------
    data
        The whole file.
    name
        Of the format, for messages.
    width, height
        As its header says, in pixels.
    flags
        Of ``cv2.imdecode``.

    Raises
    ------
    ImageError
        If OpenCV cannot decode it, or to another size.
    MemoryError
        If there is not enough memory.
    """
    import cv2

    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        raise ImageError(f"OpenCV cannot decode this {name}; save it again as PNG or JPEG") from error
    if pixels is None and name in _OPTIONAL and not cv2.haveImageWriter(_OPTIONAL[name]):
        raise ImageError(f"this OpenCV was built without {name}; install opencv-python-headless, or convert the file")
    if pixels is None:
        # Lack of memory inside a codec looks like damage: ask for as much as it may have wanted.
        np.empty((height, width, _BYTES_PER_PIXEL), np.uint8)
    if pixels is None or pixels.shape[:2] != (height, width):
        raise ImageError(f"corrupt {name}: its pixels cannot be decoded; {DAMAGED}")
    return pixels


def to_rgb(pixels: NDArray[Any], header: ImageHeader, conversion: Conversion) -> NDArray[np.uint8]:
    """Make 8-bit RGB of what OpenCV decoded unchanged: gray, BGR or BGRA, 8 or 16 bits.

    16-bit samples keep their upper byte, as libpng, Pillow and OpenCV reduce them, so that training and scoring agree.
    """
    return in_bands(lambda band: _band_to_rgb(pixels[band], header, conversion), header.height, header.width)


def _band_to_rgb(pixels: NDArray[Any], header: ImageHeader, conversion: Conversion) -> NDArray[np.uint8]:
    is_gray = pixels.ndim == 2
    alpha = pixels[..., 3] if not is_gray and pixels.shape[2] == 4 else None
    if is_gray and header.transparent_gray is not None:
        opaque = np.iinfo(pixels.dtype).max
        key = header.transparent_gray * (opaque // (2**header.depth - 1))  # OpenCV spreads 1, 2, 4 bits over 0 to 255
        alpha = np.where(pixels == key, 0, opaque).astype(pixels.dtype)
    color = pixels[..., None] if is_gray else pixels[..., 2::-1]
    if pixels.dtype == np.uint16:
        color = color >> header.depth - 8
        alpha = None if alpha is None else alpha >> header.depth - 8
    color = conversion.apply(color.astype(np.uint8, copy=False))
    return color if alpha is None else over_white(color, alpha, premultiplied=False)
