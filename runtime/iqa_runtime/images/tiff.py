"""Recognise what kind of TIFF a file is, check that all its pixel data lies inside it, and decode it (TIFF 6.0, 1992).

What a page looks like is checked against the kinds for which `docs/images.md` has a rule; its strips and tiles are
unpacked in `tiff_blocks`, samples turned into 8 bits in `tiff_samples`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.color.conversion import Conversion
from iqa_runtime.color.tags import Channels, ColorTag
from iqa_runtime.errors import ImageError
from iqa_runtime.images.exif import exif_space
from iqa_runtime.images.header import DAMAGED, Alpha, ImageHeader
from iqa_runtime.images.pixels import WHITE, in_bands, mix_inks, over_white
from iqa_runtime.images.tiff_blocks import (
    COMPRESSIONS,
    CONVERT,
    JPEG,
    PALETTE,
    YCBCR,
    Page,
    check_extent,
    samples_of,
)
from iqa_runtime.images.tiff_directory import Directory, Form, Tag, first_value, read_directory, read_start
from iqa_runtime.images.tiff_samples import BT601

_REDUCED, _MASK = 1, 4  # bits of NewSubfileType: thumbnails and masks that belong to another page
_MAX_DIRECTORIES = 64  # more than any real file has
_WHITE_IS_ZERO, _GRAY, _RGB, _CMYK = 0, 1, 2, 5
_COLORS = {_WHITE_IS_ZERO: 1, _GRAY: 1, _RGB: 3, PALETTE: 1, _CMYK: 4, YCBCR: 3}
_CHANNELS: dict[int, Channels] = {_WHITE_IS_ZERO: "gray", _GRAY: "gray", _CMYK: "CMYK"}
_UNSIGNED, _FLOAT, _VOID = 1, 3, 4
_DEPTHS = {  # bits per sample by SampleFormat and PhotometricInterpretation
    _UNSIGNED: {
        _WHITE_IS_ZERO: {1, 2, 4, 8, 10, 12, 14, 16},
        _GRAY: {1, 2, 4, 8, 10, 12, 14, 16},
        _RGB: {2, 4, 8, 10, 12, 14, 16},
        PALETTE: {1, 2, 4, 8},
        _CMYK: {8, 16},
        YCBCR: {8},
    },
    _FLOAT: {kind: {16, 32, 64} for kind in (_WHITE_IS_ZERO, _GRAY, _RGB)},
}
_ALPHA: dict[int, Alpha] = {1: "premultiplied", 2: "straight"}  # by ExtraSamples
_MAX_SAMPLES = 32  # channels of a pixel; more would be measurements, not a picture
_CMYK_INKS = 1
_CANON_RAW, _CANON_RAW_AT = b"CR\2", 8  # behind the header of TIFF
_UNREAD = {
    **dict.fromkeys((2, 3, 4, 32771), "fax"),
    6: "old-style JPEG",
    34676: "LogLuv",
    34677: "LogLuv",
    34712: "JPEG 2000",
    34887: "LERC",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
"""Names of compressions that are not read."""
_CIELAB = {8, 9, 10}
_FULL_RANGE = (0, 255, 128, 255, 128, 255)  # ReferenceBlackWhite


def inspect_tiff(data: bytes) -> ImageHeader:
    """Read the header of a TIFF file and check that all its pixel data lies inside the file.

    Parameters
    ----------
    data
        The whole file.

    Raises
    ------
    ImageError
        If it is truncated or corrupt, or is of a kind that cannot be read.
    struct.error
        If it ends inside a directory.
    """
    form, position = read_start(data)
    directory, position = read_directory(data, form, position, set(Tag))
    is_preview = first_value(directory, Tag.SUBFILE, 0) & (_REDUCED | _MASK)
    if is_preview or Tag.DNG_VERSION in directory or data.startswith(_CANON_RAW, _CANON_RAW_AT):
        raise ImageError(
            "a camera raw file, which is no picture yet: develop it to TIFF, PNG or JPEG, or extract the preview "
            "inside (exiftool -b -JpgFromRaw, or -PreviewImage)"
        )
    several = None
    for _ in range(_MAX_DIRECTORIES):
        if position == 0:
            break
        other, position = read_directory(data, form, position, {Tag.SUBFILE})
        if not first_value(other, Tag.SUBFILE, 0) & (_REDUCED | _MASK):
            several = "a TIFF of several pages"
            break
    else:
        raise ImageError(f"corrupt TIFF: its pages have no end; {DAMAGED}")
    page = _describe(directory, form)
    header = ImageHeader(
        format="TIFF",
        width=page.width,
        height=page.height,
        orientation=first_value(directory, Tag.ORIENTATION, 1),
        depth=min(page.bits, 16),
        alpha=page.alpha,
        parsed=page,
        channels=_CHANNELS.get(page.photometric, "RGB"),
        color=_color_tag(data, directory),
        several=several,
    )
    check_extent(page, len(data))
    return header


def _color_tag(data: bytes, directory: Directory) -> ColorTag:
    exif = exif_space(data)  # which has the layout of this file
    if Tag.ICC_PROFILE not in directory:
        return ColorTag(exif=exif)
    begin, end = directory[Tag.ICC_PROFILE]
    return ColorTag(profile=data[begin:end], exif=exif)


def decode_tiff(data: bytes, header: ImageHeader, conversion: Conversion) -> NDArray[np.uint8]:
    """Decode a file that `inspect_tiff` has accepted.

    Returns
    -------
    numpy.ndarray
        uint8, H x W x 3, RGB, as stored: before the orientation is applied.

    Raises
    ------
    ImageError
        If a strip or tile does not decode to the size of its pixels.
    """
    page: Page = header.parsed
    samples = samples_of(data, page)
    if page.samples == page.colors == 3:
        return conversion.apply(samples)
    return in_bands(lambda band: _rgb_of(samples[band], page, conversion), page.height, page.width)


def _rgb_of(samples: NDArray[np.uint8], page: Page, conversion: Conversion) -> NDArray[np.uint8]:
    """Turn some rows of channels into RGB, or gray of one channel."""
    color = samples[..., : page.colors]
    if page.photometric == PALETTE:
        # Some writers store 8 bits instead of 16; libtiff takes them for what they are.
        stored = np.array(page.directory[Tag.COLOR_MAP], np.uint16).reshape(3, -1).T
        palette = stored >> 8 if stored.max() > WHITE else stored
        color = palette.astype(np.uint8)[samples[..., 0]]
    if page.photometric == _WHITE_IS_ZERO:
        color = WHITE - color
    elif page.photometric == _CMYK and not conversion.takes_inks:
        color = mix_inks(color)
    if page.alpha == "none":
        return conversion.apply(color)
    alpha = samples[..., page.colors + page.alpha_index]
    if page.alpha == "premultiplied" and not conversion.takes_inks:
        # What is multiplied is no colour of the space; what it becomes over white is.
        return conversion.apply(over_white(color, alpha, premultiplied=True))
    return over_white(conversion.apply(color), alpha, premultiplied=page.alpha == "premultiplied")


def _describe(directory: Directory, form: Form) -> Page:
    """Check that there is a written rule for this kind of image."""
    try:
        (width,), (height,), photometric = directory[Tag.WIDTH], directory[Tag.HEIGHT], directory[Tag.PHOTOMETRIC][0]
    except (KeyError, ValueError):
        raise ImageError(f"corrupt TIFF: size or colour interpretation is missing; {DAMAGED}") from None
    samples = first_value(directory, Tag.SAMPLES, 1)
    depths = set(directory.get(Tag.BITS, (1,)))
    # Samples of no stated format are unsigned, as libtiff takes them.
    formats = {_UNSIGNED if kind == _VOID else kind for kind in directory.get(Tag.SAMPLE_FORMAT, (_UNSIGNED,))}
    compression = first_value(directory, Tag.COMPRESSION, 1)
    if not formats <= set(_DEPTHS) or len(formats) > 1:
        raise ImageError("a TIFF of signed or complex samples; save it with 8 or 16 bits per channel")
    if compression not in COMPRESSIONS:
        name = f"{_UNREAD[compression]} compression" if compression in _UNREAD else f"compression {compression}"
        raise ImageError(f"a TIFF of {name}, which is not read; {CONVERT}")
    if photometric in _CIELAB:
        raise ImageError(f"a TIFF of CIELab colours, which are not read; {CONVERT}")
    colors = _COLORS.get(photometric, 0)
    has_extra = photometric != YCBCR and (photometric != PALETTE or depths == {8})
    if (
        len(depths) > 1
        or not depths <= _DEPTHS[min(formats)].get(photometric, set())
        or samples < colors
        or (samples > colors and not has_extra)
        or samples > _MAX_SAMPLES
    ):
        raise ImageError(
            f"a TIFF of {samples} channels of {'/'.join(map(str, sorted(depths)))} bits and colour interpretation "
            f"{photometric}, which is not read; save it as RGB with 8 or 16 bits per channel"
        )
    extra = directory.get(Tag.EXTRA_SAMPLES, ())[: samples - colors]
    alpha_index = next((index for index, meaning in enumerate(extra) if meaning in _ALPHA), None)
    if samples > colors and alpha_index is None and photometric != _CMYK:
        raise ImageError(
            f"a TIFF with a channel beyond the first {colors} that is not declared to be alpha; save it as RGB"
        )
    alpha = "none" if alpha_index is None else _ALPHA[extra[alpha_index]]
    page = Page(
        form=form,
        width=width,
        height=height,
        photometric=photometric,
        colors=colors,
        samples=samples,
        bits=depths.pop(),
        is_float=formats == {_FLOAT},
        alpha=alpha,
        alpha_index=alpha_index or 0,
        compression=compression,
        directory=directory,
    )
    _check_kind(page)
    return page


def _check_kind(page: Page) -> None:
    """Check what belongs to single kinds of image."""
    directory = page.directory
    if page.photometric == PALETTE and len(directory.get(Tag.COLOR_MAP, ())) != 3 << page.bits:
        raise ImageError(f"corrupt TIFF: its palette has not {1 << page.bits} colours; {DAMAGED}")
    if page.photometric == _CMYK and first_value(directory, Tag.INK_SET, _CMYK_INKS) != _CMYK_INKS:
        raise ImageError("a TIFF of inks other than cyan, magenta, yellow and black; save it as RGB")
    if page.photometric == _WHITE_IS_ZERO and page.alpha == "premultiplied":
        raise ImageError("a TIFF whose gray is inverted and multiplied by its alpha; save it as RGB")
    if page.compression == JPEG and (page.bits != 8 or page.photometric == PALETTE):
        raise ImageError("a TIFF whose JPEG data is of a palette, or not of 8 bits; save it with another compression")
    if page.photometric == YCBCR and page.compression != JPEG:
        _check_ycbcr(directory)
    if page.predictor != 1 and page.subsampling != (1, 1):
        # TIFF 6.0 defines differences between samples of neighbouring pixels, not between those of units.
        raise ImageError("a TIFF of YCbCr with subsampled chrominance and a predictor; save it as RGB")


def _check_ycbcr(directory: Directory) -> None:
    """Check that luminance and chrominance are the usual ones, those of JPEG."""
    for tag, usual in ((Tag.YCBCR_COEFFICIENTS, BT601), (Tag.REFERENCE_BLACK_WHITE, _FULL_RANGE)):
        values = directory.get(tag)
        found = (
            tuple(round(a / max(b, 1), 3) for a, b in zip(values[::2], values[1::2], strict=False)) if values else usual
        )
        if found != usual:
            raise ImageError("a TIFF of YCbCr other than that of JPEG; save it as RGB")
