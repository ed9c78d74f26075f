"""What the header of an encoded image says, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from iqa_runtime.color.tags import UNTAGGED, Channels, ColorTag
from iqa_runtime.errors import ImageError

Alpha = Literal["none", "straight", "premultiplied"]
Band = tuple[int, int]
"""Rows of a picture: the first, and the one after the last."""

Frame = Literal["first"]
"""Which image of several is meant."""

ADVICE = "convert it to PNG, JPEG, WebP, BMP or TIFF"
DAMAGED = "get an undamaged copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """What a file says about its image before a pixel is decoded.

    Attributes
    ----------
    format
        As the table of `iqa_runtime.images.formats` calls it.
    width, height
        In pixels, as stored: before `orientation` is applied.
    orientation
        EXIF orientation, 1 to 8; 1 is upright.
    depth
        Bits of one stored sample (of one palette index), 1 to 16.
    alpha
        Whether there is transparency other than `transparent_gray`, and whether colours are already multiplied by it.
    transparent_gray
        The one stored gray value that means full transparency (PNG ``tRNS``), or None.
    channels
        What a pixel is stored as; a palette's colours are RGB.
    color
        What the file says about its colours.
    shrink
        At which part of its size a JPEG is decoded: one over 1, 2, 4 or 8; other formats have no such thing.
    several
        Of a file of several images, the first of which this header is about: what it is, such as ``an animated PNG``.
    quantisation
        Of a JPEG, the 64 steps that its luminance (or its only component) is coded in, in zigzag order.
    parsed
        What the decoder of the format needs of all that was read, so that no file is parsed twice.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    depth: int = 8
    alpha: Alpha = "none"
    transparent_gray: int | None = None
    channels: Channels = "RGB"
    color: ColorTag = UNTAGGED
    shrink: int = 1
    several: str | None = None
    quantisation: tuple[int, ...] | None = None
    parsed: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ImageError(f"corrupt {self.format}: its header says {self.width} x {self.height} pixels; {DAMAGED}")
