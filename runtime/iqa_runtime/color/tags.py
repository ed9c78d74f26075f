"""What a file says about its colours, before anything is made of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

ExifSpace = Literal["sRGB", "Adobe RGB"]
Channels = Literal["RGB", "gray", "CMYK"]

MAX_PROFILE_BYTES = 1 << 24
"""Of an ICC profile: what 255 segments of a JPEG file hold. Those of presses take three million."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RgbSpace:
    """A space by its primaries and its transfer, where both can be any (JPEG XL).

    Attributes
    ----------
    white, primaries
        x and y of white; of red, green and blue.
    transfer
        Code point of ITU-T H.273; unspecified where `exponent` counts.
    exponent
        What light was raised to when samples were made of it, such as 1 / 2.2; None if there is a code point.
    """

    white: tuple[float, float]
    primaries: tuple[float, ...]
    transfer: int
    exponent: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorTag:
    """Everything a file says about its colours; the first that is there counts.

    Attributes
    ----------
    cicp
        Coding-independent code points (ITU-T H.273): primaries, transfer, matrix, and whether the range is full.
    space
        A space by its numbers.
    profile
        An ICC profile; empty where there is one that cannot be had, because parts of it are missing.
    srgb
        Whether it says sRGB in as many words (PNG ``sRGB``).
    gamma
        The exponent that encoded the samples (PNG ``gAMA``), such as 1 / 2.2.
    chromaticities
        x and y of white, red, green and blue (PNG ``cHRM``).
    exif
        The space that EXIF names.
    """

    cicp: tuple[int, int, int, int] | None = None
    space: RgbSpace | None = None
    profile: bytes | None = None
    srgb: bool = False
    gamma: float | None = None
    chromaticities: tuple[float, ...] | None = None
    exif: ExifSpace | None = None


UNTAGGED = ColorTag()


def inflated_profile(data: bytes) -> bytes:
    """Inflate a profile (PNG ``iCCP``), never beyond `MAX_PROFILE_BYTES`; empty if it is damaged or larger."""
    try:
        inflater = zlib.decompressobj()
        profile = inflater.decompress(data, MAX_PROFILE_BYTES)
    except zlib.error:
        return b""
    return profile if inflater.eof else b""


def joined_profile(segments: list[tuple[int, int, bytes]]) -> bytes | None:
    """Put the parts of a profile together (JPEG APP2), in whatever order they come.

    Parameters
    ----------
    segments
        Number of a part, from 1 on; how many there are; and its bytes.

    Returns
    -------
    bytes or None
        The profile; empty if a part is missing or there twice; None without parts.
    """
    if not segments:
        return None
    parts = {number: part for number, _, part in segments}
    count = len(segments)
    if {total for _, total, _ in segments} != {count} or set(parts) != set(range(1, count + 1)):
        return b""
    return b"".join(parts[number] for number in range(1, count + 1))
