"""Decode JPEG files strictly: damaged coded data is an error, odd but harmless markers are none."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.color.conversion import Conversion
from iqa_runtime.color.tags import UNTAGGED, Channels, ColorTag, joined_profile
from iqa_runtime.errors import ImageError
from iqa_runtime.images.exif import exif_space
from iqa_runtime.images.header import ADVICE, DAMAGED, Band, ImageHeader
from iqa_runtime.images.jpeg_markers import (
    Frame,
    JpegFile,
    first_table,
    read_frame,
    read_markers,
    with_standard_markers,
)
from iqa_runtime.images.opencv import decode_with_opencv
from iqa_runtime.images.pixels import WHITE
from iqa_runtime.images.tiff_directory import exif_orientation
from iqa_runtime.kernels import instruction_set

try:
    from iqa_runtime import _jpeg_bands
except ImportError:
    # setup.py lets the build go on without libjpeg-turbo; pictures are then decoded whole.
    _has_bands = False
else:
    _has_bands = True

_CHANNELS: dict[int, Channels] = {1: "gray", 3: "RGB", 4: "CMYK"}
_TURNED = 5  # orientations from this one on make columns of rows
_TURBOJPEG_SAMPLINGS = {
    (1, 1),
    (2, 1),
    (2, 2),
    (1, 2),
    (4, 1),
}  # of the first component, the chrominances having (1, 1)
_MAX_FOLLOWED_SCANS = 24
"""More than twice what progressive files have; following one in Python costs far more than decoding it."""


def inspect_jpeg(data: bytes) -> ImageHeader:
    """Walk the markers up to the end of the image and check that nothing is missing.

    Raises
    ------
    ImageError, struct.error
        As `jpeg_markers.read_markers`; also if the polarity of four inks is unknown.
    """
    file, frame = read_markers(data)
    exif = b"".join(file.exif)
    if len(frame.sampling) == 4 and file.adobe_transform is None:
        raise ImageError(
            "a four-channel JPEG without the Adobe marker that tells inks from inverted inks; save it as RGB"
        )
    return ImageHeader(
        format="JPEG",
        width=frame.width,
        height=frame.height,
        orientation=exif_orientation(exif),
        parsed=(file, frame),
        channels=_CHANNELS[len(frame.sampling)],
        color=_color_tag(file, frame, exif),
        quantisation=first_table(file),
    )


def size_of_jpeg(data: bytes) -> tuple[int, int]:
    """Return the width and the height that a file says it has; nothing behind that is looked at."""
    frame = read_frame(data)
    return (0, 0) if frame is None else (frame.width, frame.height)


def _color_tag(file: JpegFile, frame: Frame, exif: bytes) -> ColorTag:
    """Return what the file says about its colours; nothing of inks that can only be decoded to RGB."""
    if len(frame.sampling) == 4 and not _is_common(frame):
        return UNTAGGED
    return ColorTag(profile=joined_profile(file.profile), exif=exif_space(exif))


def decode_jpeg(_data: bytes, header: ImageHeader, conversion: Conversion) -> NDArray[np.uint8]:
    """Decode a file that `inspect_jpeg` has accepted.

    OpenCV says on stderr alone that coded data is damaged and returns the picture. So simplejpeg decodes, which has the
    same libjpeg-turbo inside and reports it. CMYK is decoded by OpenCV after that check; so are samplings that
    TurboJPEG has no name for, after their Huffman codes were followed.

    Returns
    -------
    numpy.ndarray
        uint8, H x W x 3, RGB, as stored: before the orientation is applied. At the part of its size that the header
        asks for, but for CMYK and rare samplings.

    Raises
    ------
    ImageError
        If the coded data is damaged.
    """
    file, frame = header.parsed
    if not _is_common(frame):
        return conversion.apply(_decode_rare(file, frame))
    if len(frame.sampling) < 4:
        return conversion.apply(_decode_strictly(file, frame, "RGB", header.shrink)[0])
    inverted, clean = _decode_strictly(file, frame, "CMYK")
    return conversion.apply(WHITE - inverted) if conversion.takes_inks else _decode_loosely(clean, frame)


def decode_jpeg_bands(header: ImageHeader, bands: Sequence[Band], conversion: Conversion) -> NDArray[np.uint8] | None:
    """Decode some rows of a file that `inspect_jpeg` has accepted, with the bits they have in the whole picture.

    The coded data of all others is read to its end, too: whatever is said about it makes this None, and `decode_jpeg`
    is left to judge it.

    Parameters
    ----------
    header
        Of the file; what its `shrink` says is not done.
    bands
        Rows of the upright picture that are wanted, from the top down, not overlapping.
    conversion
        What is done to their colours.

    Returns
    -------
    numpy.ndarray or None
        uint8, H x W x 3, RGB: the bands one below the other, as stored: before the orientation is applied. None where
        that cannot be had.
    """
    file, frame = header.parsed
    turned = header.orientation >= _TURNED
    if not jpeg_bands_are_available() or turned or not _is_common(frame) or len(frame.sampling) > 3:
        return None
    rows = np.array(bands, np.int64)
    if header.orientation in (3, 4):  # upside down
        rows = frame.height - rows[::-1, ::-1]
    pixels = np.empty((int((rows[:, 1] - rows[:, 0]).sum()), frame.width, 3), np.uint8)
    clean = _jpeg_bands.decode_bands(with_standard_markers(file), frame.height, np.ascontiguousarray(rows), pixels)
    return conversion.apply(pixels) if clean else None


def jpeg_bands_are_available() -> bool:
    """Whether some rows of a JPEG file can be decoded alone; not where the kernels are their NumPy twins."""
    return _has_bands and instruction_set() != "numpy"


def decode_jpeg_block(
    data: bytes, tables: JpegFile, size: tuple[int, int, int], *, channels: int, ycbcr: bool
) -> NDArray[np.uint8]:
    """Decode a strip or tile of a TIFF file (TIFF Technical Note 2, 1995).

    Parameters
    ----------
    data
        A JPEG file, of which `tables` may be missing.
    tables
        What goes before its first segment.
    size
        Its width, its least and its greatest height in pixels: what the TIFF file says.
    channels
        It must have: 1, 3 or 4.
    ycbcr
        Whether three channels are YCbCr, converted here to RGB; the colours of others are left alone.

    Returns
    -------
    numpy.ndarray
        uint8, at most the greatest height x width x channels.

    Raises
    ------
    ImageError
        If it is damaged or of another size or kind; before anything is decoded, where its header tells.
    """
    width, least, most = size
    if not data.startswith(b"\xff\xd8"):
        raise ImageError(f"corrupt JPEG: it does not begin with a start marker; {DAMAGED}")
    try:
        file, frame = read_markers(data, tables)
    except struct.error:
        raise ImageError(f"truncated JPEG: it ends inside a header; {DAMAGED}") from None
    if frame.width != width or not least <= frame.height <= most or len(frame.sampling) != channels:
        raise ImageError(
            f"corrupt JPEG: {frame.width} x {frame.height} of {width} x {least} pixels, {len(frame.sampling)} of "
            f"{channels} channels; {DAMAGED}"
        )
    if channels == 4 and not _is_common(frame):
        raise ImageError("a TIFF whose JPEG data has a rare sampling of its inks; save it with another compression")
    # The TIFF file says what the channels are; nothing inside its blocks does.
    file.jfif, file.adobe_transform = False, (1 if ycbcr else 0) if channels > 1 else None
    if not _is_common(frame):
        return _decode_rare(file, frame)
    return _decode_strictly(file, frame, {1: "GRAY", 3: "RGB", 4: "CMYK"}[channels])[0]


def _is_common(frame: Frame) -> bool:
    """Whether TurboJPEG has a name for the sampling; the fourth channel, black, must be sampled as the first."""
    first, *others = frame.sampling.values()
    if not others:
        return True
    return first in _TURBOJPEG_SAMPLINGS and others in ([(1, 1)] * 2, [(1, 1), (1, 1), first])


def _follow(file: JpegFile, frame: Frame) -> bytes:
    """Check that every unit is coded, and take filling out; refuse what would take too long."""
    from iqa_runtime.images.jpeg_coded import follow_scans

    if file.scans > _MAX_FOLLOWED_SCANS:
        raise ImageError(
            f"a JPEG of more than {_MAX_FOLLOWED_SCANS} scans with a rare sampling or filling in its data; {ADVICE}"
        )
    return with_standard_markers(file, follow_scans(file.segments, frame))


def _decode_rare(file: JpegFile, frame: Frame) -> NDArray[np.uint8]:
    """Decode a sampling that TurboJPEG has no name for."""
    return _decode_loosely(_follow(file, frame), frame)


def _decode_loosely(clean: bytes, frame: Frame) -> NDArray[np.uint8]:
    """Decode by OpenCV what has been checked."""
    import cv2

    return decode_with_opencv(clean, "JPEG", frame.width, frame.height, cv2.IMREAD_COLOR_RGB)


def _decode_strictly(file: JpegFile, frame: Frame, colors: str, shrink: int = 1) -> tuple[NDArray[np.uint8], bytes]:
    """Decode so that whatever is said about coefficients is an error; return what was decoded, too."""
    import simplejpeg

    clean = with_standard_markers(file)
    # The scale is told by the size: sides of libjpeg are rounded up.
    size = {"min_height": -(-frame.height // shrink), "min_width": -(-frame.width // shrink)}
    try:
        try:
            return simplejpeg.decode_jpeg(clean, colors, strict=True, **size), clean
        except ValueError as error:
            if "extraneous bytes" not in str(error):
                raise
        # Some cameras fill the data up before its restart and end markers.
        clean = _follow(file, frame)
        return simplejpeg.decode_jpeg(clean, colors, strict=True, **size), clean
    except ValueError as error:
        if isinstance(error, ImageError):
            raise
        if "memory" in str(error).lower():
            raise MemoryError from error
        raise ImageError(f"corrupt JPEG ({error}); {DAMAGED}") from error
