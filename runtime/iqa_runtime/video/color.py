"""What the numbers of a frame mean: its matrix, range, primaries and transfer (ITU-T H.273)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from iqa_runtime.color.conversion import SRGB, STORED, UNTAGGED, Conversion, conversion_of
from iqa_runtime.color.spaces import CICP_SRGB, CICP_UNSPECIFIED, HDR_CURVES
from iqa_runtime.color.tags import ColorTag
from iqa_runtime.contract import ColorSpace
from iqa_runtime.errors import ImageError

_BT709, _BT601, _BT2020 = 1, 6, 9
_WEIGHTS = {  # of red and blue in luma, H.273, table 4
    _BT709: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    _BT601: (0.299, 0.114),
    7: (0.212, 0.087),
    _BT2020: (0.2627, 0.0593),
}
_MATRIX_OF_PRIMARIES = {1: _BT709, 5: _BT601, 6: _BT601, 7: 7, 9: _BT2020}
_SD_WIDTH, _SD_HEIGHT = 1280, 576  # an untagged frame of fewer columns and at most so many rows is BT.601's

_SDR_VIDEO = {1, 6, 7, 11, 12, 14, 15}
_FULL = 2  # AVCOL_RANGE_JPEG
_NAMES = {
    4: "BT.470 M",
    5: "BT.601 (625 lines)",
    6: "BT.601 (525 lines)",
    7: "SMPTE 240M",
    8: "film",
    9: "Rec. 2020",
    11: "DCI-P3",
    22: "EBU 3213",
}
_TONE_MAP = (
    "tone-map it first, as players do: ffmpeg -i FILE -vf libplacebo=tonemapping=bt.2390:colorspace=bt709 OUT.mkv"
)

_LUMA = re.compile(r"yuvj?4(?:44|40|22|20|11|10)p(?:(?:9|10|12|14|16)le)?|gray(?:(?:9|10|12|14|16)le)?")
_RGB_FORMATS = re.compile(r"gbrp(?:(?:9|10|12|14|16)le)?|rgb24|bgr24")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTags:
    """What a frame says about its numbers, in code points of H.273, and its layout in the words of FFmpeg."""

    layout: str
    primaries: int
    transfer: int
    matrix: int
    color_range: int


@dataclass(frozen=True, slots=True)
class Reading:
    """How a frame is read.

    Attributes
    ----------
    weights
        Of red and blue in luma; None where it is stored as red, green and blue.
    full_range
        Whether black and white are the ends of what can be stored.
    conversion
        What is then done to its colours.
    """

    weights: tuple[float, float] | None
    full_range: bool
    conversion: Conversion


def reading_of(tags: FrameTags, height: int, width: int, color_space: ColorSpace) -> Reading:
    """Say how a frame is read.

    Raises
    ------
    ImageError
        If it is in HDR (PQ or HLG), has transparency, or a layout or matrix for which there is no rule.
    """
    refuse_hdr(tags.transfer)
    is_rgb = _RGB_FORMATS.fullmatch(tags.layout) is not None
    if not is_rgb and not _LUMA.fullmatch(tags.layout):
        raise ImageError(
            f"video stored as {tags.layout}, which is not read; convert it: "
            "ffmpeg -i FILE -pix_fmt yuv444p -crf 0 OUT.mkv"
        )
    conversion = STORED if color_space == "stored" else _conversion_of(tags.primaries, tags.transfer)
    if is_rgb:
        return Reading(None, tags.color_range in (0, _FULL), conversion)
    matrix = tags.matrix
    if matrix == CICP_UNSPECIFIED:
        is_sd = width < _SD_WIDTH and height <= _SD_HEIGHT
        matrix = _MATRIX_OF_PRIMARIES.get(tags.primaries, _BT601 if is_sd else _BT709)
    if matrix not in _WEIGHTS:
        raise ImageError(
            f"video of matrix {matrix} (ITU-T H.273), which is not read; convert it: "
            "ffmpeg -i FILE -vf scale=out_color_matrix=bt709 OUT.mkv"
        )
    return Reading(_WEIGHTS[matrix], tags.color_range == _FULL or tags.layout.startswith("yuvj"), conversion)


def refuse_hdr(transfer: int) -> None:
    """Refuse what has no meaning in sRGB without a choice.

    Raises
    ------
    ImageError
        If the transfer is PQ or HLG.
    """
    if transfer in HDR_CURVES:
        raise ImageError(f"a video in HDR ({HDR_CURVES[transfer]}): a score is of SDR; {_TONE_MAP}")


@lru_cache(maxsize=16)
def _conversion_of(primaries: int, transfer: int) -> Conversion:
    """Say what is done to R'G'B'.

    The curves of BT.601, BT.709 and BT.2020 are those of cameras. Displays show video by another, BT.1886, and what
    extracts frames leaves their values as they are: they are taken for sRGB's.
    """
    if (primaries, transfer) == (CICP_UNSPECIFIED, CICP_UNSPECIFIED):
        return UNTAGGED
    curve = CICP_SRGB if transfer in (*_SDR_VIDEO, CICP_UNSPECIFIED) else transfer
    conversion = conversion_of(ColorTag(cicp=(primaries, curve, 0, 1)), "RGB")
    if conversion.tables is None or primaries not in _NAMES:
        return conversion
    return replace(conversion, color=f"{_NAMES[primaries]} -> {SRGB.color}")
