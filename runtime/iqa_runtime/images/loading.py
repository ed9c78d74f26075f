"""Load an image as upright 8-bit RGB from a path, encoded bytes or an array, by the rules of ``docs/images.md``."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.contract import ColorSpace
from iqa_runtime.errors import FileError, ImageError, ResourceError, UsageError
from iqa_runtime.images.formats import decode, decode_bands, inspect_header
from iqa_runtime.images.header import Band, Frame
from iqa_runtime.images.named import NamedImage
from iqa_runtime.images.pixels import upright

Source = str | os.PathLike[str] | bytes | NDArray[np.uint8] | NamedImage
"""An image: the path of a file, the bytes of one, uint8 H x W x 3 RGB pixels, or one with a name of its own."""

DEFAULT_PIXEL_LIMIT = 200_000_000
"""Pixels. Admits today's largest phone photographs (16320 x 12240); as 8-bit RGB they take 600 MB."""

BandsOf = Callable[[int, int], Sequence[Band] | None]
"""From the height and width of an upright picture to the rows of it that are wanted, from the top down and not
overlapping; None: all."""

_SHRINKS = (2, 4, 8)
_LEAST_DRAFT = 8  # pixels of a side: libjpeg's scales cannot be told apart by the size of less

_MAX_FILE_BYTES = 2**31 - 1  # OpenCV counts the bytes of an encoded image in a signed 32-bit integer


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image as it was loaded.

    Attributes
    ----------
    pixels
        As `load_image` returns them, smaller where that was allowed.
    color
        What was done about their colours, see `iqa_runtime.Score`.
    height, width
        Of the picture, upright, in pixels.
    bands
        Which rows of it `pixels` are, one band below the other; None: all.
    quantisation
        Of a JPEG, the steps that its luminance is coded in, see `iqa_runtime.images.header.ImageHeader`.
    """

    pixels: NDArray[np.uint8]
    color: str
    height: int
    width: int
    bands: Sequence[Band] | None = None
    quantisation: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The size that will be made of a picture.

    Attributes
    ----------
    size
        Of its height and width, those that it will have; `ImageError` if that cannot be, before anything is decoded.
    draft
        Whether a JPEG may be decoded at a half, a quarter or an eighth of its size, where no side gets shorter than it
        will be: as ``Image.draft`` of Pillow does, whose pixels these are.
    """

    size: Callable[[int, int], tuple[int, int]]
    draft: bool


def load_image(
    source: Source,
    *,
    pixel_limit: int = DEFAULT_PIXEL_LIMIT,
    color_space: ColorSpace = "sRGB",
    frame: Frame | None = None,
) -> NDArray[np.uint8]:
    """Load one image as it is meant to be seen.

    Parameters
    ----------
    source
        Path of a picture in a format of ``docs/images.md`` (recognised by content, whatever the suffix), the bytes of
        one, or a uint8 H x W x 3 RGB array. URLs are not fetched.
    pixel_limit
        Largest width x height that is decoded; checked before any pixel is. Arrays are not limited.
    color_space
        ``sRGB``: colours are converted to it from what the file says they are. ``stored``: they stay as they are.
    frame
        ``first``: of a file of several images the first is loaded, see ``docs/images.md``. None: it is an error.

    Returns
    -------
    numpy.ndarray
        uint8, H x W x 3, RGB, C-contiguous, upright. A C-contiguous array is returned as it is, not copied.

    Raises
    ------
    FileError
        If a path does not name a readable regular file.
    ImageError
        If the content is of another format, truncated, corrupt, several images, in HDR, or over the pixel limit, or if
        there is not enough memory for it.
    UsageError
        If `source` is of another type, or an array of another shape or dtype.
    """
    return load_with_color(source, pixel_limit=pixel_limit, color_space=color_space, frame=frame).pixels


def load_with_color(
    source: Source,
    *,
    pixel_limit: int = DEFAULT_PIXEL_LIMIT,
    color_space: ColorSpace = "sRGB",
    target: Target | None = None,
    bands: BandsOf | None = None,
    frame: Frame | None = None,
) -> LoadedImage:
    """Load one image as `load_image` does, and say what was done about its colours; an array is ``untagged``.

    With a `target` it is held to what can be made of it, and smaller where that allows it; it is not resized yet. Of
    `bands`, if there are any, other rows may be left out.
    """
    if pixel_limit < 1:
        raise UsageError(f"``pixel_limit={pixel_limit}``: give a number of pixels of at least 1")
    check_frame(frame)
    if isinstance(source, np.ndarray):
        pixels = _check_array(source)
        if target is not None:
            target.size(*pixels.shape[:2])
        return LoadedImage(pixels, "untagged" if color_space == "sRGB" else "stored", *pixels.shape[:2])
    if not isinstance(source, (bytes, str, os.PathLike, NamedImage)):
        raise UsageError(
            f"an image of type {type(source).__name__}: give a path, the bytes of a file, or a uint8 H x W x 3 RGB "
            "array (from PIL: numpy.asarray(image.convert('RGB')))"
        )
    given = source_name(source)
    name = "image bytes" if given is None else given
    try:
        if isinstance(source, NamedImage):
            data = source.read()
        else:
            data = source if isinstance(source, bytes) else read_file(name)
        try:
            return _decode(data, pixel_limit, color_space, target, bands, frame)
        except ImageError as error:
            raise ImageError(f"{name}: {error}") from error.__cause__
    except MemoryError as error:
        raise ResourceError(f"{name}: not enough memory to decode it; shrink it, or score fewer at a time") from error


def source_name(source: Source) -> str | None:
    """Return what results call an image; None for encoded bytes and arrays."""
    if isinstance(source, NamedImage):
        return source.name
    return os.fsdecode(source) if isinstance(source, (str, os.PathLike)) else None


def check_frame(frame: object) -> None:
    """Refuse what is neither None nor a `Frame`.

    Raises
    ------
    UsageError
        Naming the parameter.
    """
    if frame not in (None, "first"):
        raise UsageError(f"``frame={frame}``: give first, or leave it out")


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


def read_file(name: str) -> bytes:
    """Return the bytes of a regular file of a size that can be decoded.

    Raises
    ------
    FileError, ImageError
        If it is none.
    """
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


def _decode(
    data: bytes,
    pixel_limit: int,
    color_space: ColorSpace,
    target: Target | None,
    bands: BandsOf | None,
    frame: Frame | None,
) -> LoadedImage:
    from iqa_runtime.color.conversion import STORED, conversion_of  # with the first file: importing stays quick

    header = inspect_header(data, frame)
    if header.width * header.height > pixel_limit:
        raise ImageError(
            f"{header.width} x {header.height} pixels, over the limit of {pixel_limit}; shrink it or raise the limit"
        )
    conversion = STORED if color_space == "stored" else conversion_of(header.color, header.channels)
    height, width = (header.width, header.height) if header.orientation > 4 else (header.height, header.width)
    if target is not None:
        least_height, least_width = target.size(height, width)
        fits = min(height // max(least_height, _LEAST_DRAFT), width // max(least_width, _LEAST_DRAFT))
        shrinks = [part for part in _SHRINKS if target.draft and part <= fits]
        header = replace(header, shrink=max(shrinks, default=1))
    wanted = None if bands is None else bands(height, width)
    if wanted:
        some = decode_bands(header, wanted, conversion)
        if some is not None:
            rows = upright(some, header.orientation)
            return LoadedImage(rows, conversion.color, height, width, wanted, header.quantisation)
    pixels = upright(decode(data, header, conversion), header.orientation)
    return LoadedImage(pixels, conversion.color, height, width, quantisation=header.quantisation)
