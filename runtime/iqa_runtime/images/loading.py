"""Load an image as upright 8-bit RGB from a path, encoded bytes or an array, by the rules of ``docs/images.md``.

The same file gives the same pixels with every supported OpenCV version: orientation, alpha, transparency and 16-bit
samples are handled here, because OpenCV's own handling differs between formats, flags and versions.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import FileError, ImageError, UsageError
from iqa_runtime.images.formats import ImageHeader, check_tiff_pixels, decode_jpeg, inspect_header

Source = str | os.PathLike[str] | bytes | NDArray[np.uint8]
"""An image: the path of a file, the bytes of one, or uint8 H x W x 3 RGB pixels."""

IMAGE_SUFFIXES: tuple[str, ...] = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff")
"""Lower-case suffixes that make a file in a folder an image; the content alone decides how it is decoded."""

UNREAD_SUFFIXES: tuple[str, ...] = (
    *(
        ".heic",
        ".heif",
        ".hif",
        ".avif",
        ".jxl",
        ".jp2",
        ".j2k",
        ".jpf",
        ".gif",
        ".psd",
        ".exr",
        ".hdr",
        ".tga",
        ".cr3",
        ".raf",
    ),
    *(".orf", ".rw2", ".pbm", ".pgm", ".ppm", ".pnm"),
)
"""Lower-case suffixes of pictures in formats that are not read: in a folder, each is an error instead of silence."""

DEFAULT_PIXEL_LIMIT = 200_000_000
"""Pixels. Admits today's largest phone photographs (16320 x 12240); as 8-bit RGB they take 600 MB."""

_WHITE = 255
_FLIP_CODES = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # of cv2.flip by EXIF orientation; 5 to 8 are transposed first
_MAX_FILE_BYTES = 2**31 - 1  # OpenCV counts the bytes of an encoded image in a signed 32-bit integer


def load_image(source: Source, *, pixel_limit: int = DEFAULT_PIXEL_LIMIT) -> NDArray[np.uint8]:
    """Load one image as it is meant to be seen.

    Parameters
    ----------
    source
        Path of a JPEG, PNG, WebP, BMP or TIFF file (recognised by content, whatever the suffix), the bytes of one, or a
        uint8 H x W x 3 RGB array. URLs are not fetched.
    pixel_limit
        Largest width x height that is decoded; checked before any pixel is. Arrays are not limited.

    Returns
    -------
    numpy.ndarray
        uint8, H x W x 3, RGB, C-contiguous, upright. A C-contiguous array is returned as it is, not copied.

    Raises
    ------
    FileError
        If a path does not name a readable regular file.
    ImageError
        If the content is of another format, truncated, corrupt, several images, or over the pixel limit.
    UsageError
        If `source` is of another type, or an array of another shape or dtype.
    """
    if pixel_limit < 1:
        raise UsageError(f"pixel_limit={pixel_limit}: give a number of pixels of at least 1")
    if isinstance(source, np.ndarray):
        return _check_array(source)
    if isinstance(source, bytes):
        name, data = "image bytes", source
    elif isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        data = _read_file(name)
    else:
        raise UsageError(
            f"an image of type {type(source).__name__}: give a path, the bytes of a file, or a uint8 H x W x 3 RGB "
            "array (from PIL: numpy.asarray(image.convert('RGB')))"
        )
    try:
        return _decode(data, pixel_limit)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error.__cause__


def _check_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Accept a uint8 H x W x 3 array; say how to convert anything else."""
    found = f"an image array of dtype {array.dtype} and shape {array.shape}, not uint8 H x W x 3 RGB"
    if array.dtype != np.uint8:
        raise UsageError(f"{found}: convert it first (floats of 0 to 1: (255 * a).round().astype('uint8'))")
    if array.ndim == 2:
        raise UsageError(f"{found}: repeat the gray channel with numpy.repeat(a[..., None], 3, axis=2)")
    if array.ndim == 3 and array.shape[2] == 4:
        raise UsageError(f"{found}: composite the alpha channel on a background first, or drop it with a[..., :3]")
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        raise UsageError(f"{found}: move the channels last with a.transpose(1, 2, 0)")
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise UsageError(f"{found}: give one image with three channels last")
    return np.ascontiguousarray(array)


def _read_file(name: str) -> bytes:
    if "://" in name:
        raise FileError(f"{name}: URLs are not fetched; download the file and give its path")
    path = Path(name)
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= _MAX_FILE_BYTES:
            return path.read_bytes()
    except OSError as error:
        raise FileError(f"{name}: cannot read the image ({error.strerror}); check the path") from error
    except ValueError as error:
        raise FileError(f"{name!r}: not a path ({error}); give the path of an image file") from error
    if stat.S_ISDIR(status.st_mode):
        raise FileError(f"{name}: a folder, not a regular file; check that it can be listed, or give a file")
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{name}: not a regular file; give the path of an image file")
    raise ImageError(
        f"{name}: a file of {status.st_size} bytes; at most {_MAX_FILE_BYTES} can be decoded: shrink the image"
    )


def _decode(data: bytes, pixel_limit: int) -> NDArray[np.uint8]:
    header = inspect_header(data)
    if header.width * header.height > pixel_limit:
        raise ImageError(
            f"{header.width} x {header.height} pixels, over the limit of {pixel_limit}; shrink it or raise pixel_limit"
        )
    if header.format == "TIFF":
        check_tiff_pixels(data)
    pixels = decode_jpeg(data) if header.format == "JPEG" else None
    return _upright(pixels, header.orientation) if pixels is not None else _decode_with_opencv(data, header)


def _decode_with_opencv(data: bytes, header: ImageHeader) -> NDArray[np.uint8]:
    import cv2

    unchanged = header.depth > 8 or header.alpha != "none" or header.transparent_gray is not None
    flags = cv2.IMREAD_UNCHANGED if unchanged else cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"OpenCV cannot decode this {header.format}; save it again as PNG or JPEG") from error
    upright_already = header.format == "TIFF"  # OpenCV turns TIFF, and TIFF alone, under every flag
    rows_first = (header.height, header.width)
    size = rows_first[::-1] if upright_already and header.orientation >= 5 else rows_first
    if pixels is None or pixels.shape[:2] != size:
        raise ImageError(f"corrupt {header.format}: its pixels cannot be decoded; get an undamaged copy")
    rgb = np.ascontiguousarray(_to_rgb(pixels, header) if unchanged else pixels, dtype=np.uint8)
    return rgb if upright_already else _upright(rgb, header.orientation)


def _to_rgb(pixels: NDArray[Any], header: ImageHeader) -> NDArray[np.uint8]:
    """Make 8-bit RGB of what OpenCV decoded unchanged: gray, BGR or BGRA, 8 or 16 bits.

    16-bit samples keep their upper byte, as libpng, Pillow and OpenCV reduce them, so that training and scoring agree.
    """
    is_gray = pixels.ndim == 2
    alpha = pixels[..., 3] if not is_gray and pixels.shape[2] == 4 else None
    if is_gray and header.transparent_gray is not None:
        opaque = np.iinfo(pixels.dtype).max
        key = header.transparent_gray * (opaque // (2**header.depth - 1))  # OpenCV spreads 1, 2, 4 bits over 0 to 255
        alpha = np.where(pixels == key, 0, opaque).astype(pixels.dtype)
    color = np.repeat(pixels[..., None], 3, axis=2) if is_gray else pixels[..., 2::-1]
    if pixels.dtype == np.uint16:
        color = color >> 8
        alpha = None if alpha is None else alpha >> 8
    if alpha is None:
        return color.astype(np.uint8)
    # OpenCV returns 8-bit TIFF multiplied by its alpha, whichever way it was stored.
    premultiplied = header.alpha == "premultiplied" or (header.format == "TIFF" and pixels.dtype == np.uint8)
    return _composite(color, alpha[..., None], premultiplied=premultiplied)


def _composite(color: NDArray[Any], alpha: NDArray[Any], *, premultiplied: bool) -> NDArray[np.uint8]:
    """Lay 8-bit colours over white, in sRGB values, rounded to nearest (255 is odd: there are no ties)."""
    background = _WHITE - alpha.astype(np.uint16)
    if premultiplied:
        mixed: NDArray[np.uint16] = np.minimum(color.astype(np.uint16) + background, _WHITE)
    else:
        mixed = (color.astype(np.uint16) * alpha + _WHITE * background + 127) // 255  # at most 65152
    return mixed.astype(np.uint8)


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply an EXIF orientation, 1 to 8; OpenCV copies a turned image several times faster than NumPy."""
    import cv2

    turned: NDArray[Any] = cv2.transpose(pixels) if orientation >= 5 else pixels
    if orientation in _FLIP_CODES:
        turned = cv2.flip(turned, _FLIP_CODES[orientation])
    return turned.astype(np.uint8, copy=False)
