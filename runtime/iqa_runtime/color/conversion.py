"""From what a file says about its colours to what is done about it: relative colorimetric conversion to sRGB.

Colours beyond sRGB are clipped. White becomes white, and black what littleCMS makes it by default, which is without
black point compensation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.color import curves, spaces
from iqa_runtime.color.curves import BadProfileError
from iqa_runtime.color.littlecms import is_available, table_conversion
from iqa_runtime.color.profiles import Profile, parse_profile
from iqa_runtime.color.tags import Channels, ColorTag, RgbSpace
from iqa_runtime.errors import ImageError, UsageError
from iqa_runtime.kernels import ColorTables, color_tables, to_srgb

Pixels = NDArray[np.uint8]

_STEPS = np.linspace(0, 255, 9).round().astype(np.uint8)
_PROBE = np.concatenate(
    [
        np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1),
        np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS), axis=-1).reshape(-1, 3),
    ]
)[None]
"""Colours that tell what a conversion does: all grays, and a lattice."""

_SRGB_LEVELS = 1  # what rounding alone may change
_SRGB_GAMMA = (0.4500, 0.4600)  # gAMA of 1 / 2.2 is what writers of sRGB give (PNG, 11.3.2.2)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conversion:
    """What is done to the colours of a picture.

    Attributes
    ----------
    color
        What a result says about it, see `iqa_runtime.Score`.
    tables
        Of the conversion of RGB; None if nothing is done, or `samples` does all.
    samples
        Turns H x W x `channels` into RGB; None if `tables` are enough.
    channels
        Of `samples`; inks are 255 where they are full.
    """

    color: str
    tables: ColorTables | None = None
    samples: Callable[[Pixels], Pixels] | None = None
    channels: Channels = "RGB"

    def apply(self, pixels: Pixels) -> Pixels:
        """Convert pixels as they were decoded, in place where they can be written to.

        Parameters
        ----------
        pixels
            uint8, H x W x 3; x 1 or three equal channels for gray; x 4 for inks, where `takes_inks`.

        Returns
        -------
        numpy.ndarray
            uint8, H x W x 3, or as given where there is nothing to do.
        """
        if self.tables is None and self.samples is None:
            return pixels
        if pixels.shape[2] == 1 and self.channels != "gray":
            pixels = pixels.repeat(3, axis=2)
        if self.samples is not None:
            return self.samples(pixels[..., :1] if self.channels == "gray" else pixels)
        if self.tables is not None:
            pixels = np.require(pixels, requirements=["C", "W"])
            to_srgb(pixels, self.tables)
        return pixels

    @property
    def takes_inks(self) -> bool:
        """Whether it turns cyan, magenta, yellow and black into RGB, so that they must not be mixed before."""
        return self.channels == "CMYK" and self.samples is not None


UNTAGGED = Conversion(color="untagged")
STORED = Conversion(color="stored")
SRGB = Conversion(color="sRGB")
DAMAGED = Conversion(color="profile damaged")


def conversion_of(tag: ColorTag, channels: Channels) -> Conversion:
    """Say what is to be done to a picture.

    Parameters
    ----------
    tag
        What its file says.
    channels
        What it is stored as. Palettes are RGB.

    Raises
    ------
    ImageError
        If its colours are those of HDR (PQ or HLG), which have no meaning in sRGB without a choice.
    """
    try:
        if tag.cicp is not None and channels != "CMYK":
            return _of_cicp(*tag.cicp)
        if tag.space is not None:
            return _of_space(tag.space, channels)
        if tag.profile is not None:
            return _of_profile(tag.profile, channels)
        if tag.srgb:
            return SRGB
        if tag.gamma is not None or tag.chromaticities is not None:
            return _of_gamma(tag.gamma, tag.chromaticities)
    except BadProfileError:
        return DAMAGED
    if tag.exif == "Adobe RGB" and channels == "RGB":
        return _of_matrix(spaces.ADOBE_COLORANTS, np.stack([curves.power(spaces.ADOBE_GAMMA)] * 3))
    return SRGB if tag.exif is not None and channels != "CMYK" else UNTAGGED


def _of_cicp(primaries: int, transfer: int, matrix: int, full_range: int) -> Conversion:
    _refuse_hdr(transfer)
    if matrix != 0:
        raise BadProfileError("code points of anything but RGB")
    colorants, curve = spaces.of_cicp(primaries, transfer, full_range=bool(full_range))
    return _of_matrix(colorants, np.stack([curve] * 3))


def _of_space(space: RgbSpace, channels: Channels) -> Conversion:
    _refuse_hdr(space.transfer)
    curve = spaces.curve_of(space.transfer) if space.exponent is None else curves.power(1 / space.exponent)
    name = "gray profile" if channels == "gray" else None
    return _of_matrix(spaces.colorants(space.primaries, space.white), np.stack([curve] * 3), name=name)


def _of_gamma(gamma: float | None, chromaticities: tuple[float, ...] | None) -> Conversion:
    least, most = _SRGB_GAMMA
    is_srgb = gamma is None or least <= gamma <= most
    if gamma == 0:
        raise BadProfileError("a gamma of 0")
    curve = curves.SRGB if gamma is None or is_srgb else curves.power(1 / gamma)
    if chromaticities is None:
        colorants = spaces.SRGB_COLORANTS
    else:
        colorants = spaces.colorants(chromaticities[2:], (chromaticities[0], chromaticities[1]))
    return _of_matrix(colorants, np.stack([curve] * 3))


def _of_profile(data: bytes, channels: Channels) -> Conversion:
    profile = parse_profile(data)
    _refuse_hdr(profile.transfer)
    # Gray becomes three equal channels, to which a profile of RGB can be applied; not the other way round.
    if profile.channels != channels and (profile.channels, channels) != ("RGB", "gray"):
        raise BadProfileError(f"a profile of {profile.channels} for {channels}")
    if not profile.curves:
        return _of_tables(data, profile)
    tones = np.stack(profile.curves * (3 // len(profile.curves)))
    if profile.colorants is None:
        return _of_matrix(spaces.SRGB_COLORANTS, tones, name="gray profile")
    return _of_matrix(profile.colorants, tones)


def _of_matrix(colorants: spaces.Matrix, tones: NDArray[np.float64], name: str | None = None) -> Conversion:
    try:
        tables = color_tables(tones, spaces.to_srgb_matrix(colorants))
    except UsageError as error:
        raise BadProfileError("colorants of no known size") from error
    probe = _PROBE.copy()
    to_srgb(probe, tables)
    if np.abs(probe.astype(np.int16) - _PROBE).max() <= _SRGB_LEVELS:
        return SRGB
    name = name or spaces.name_of(colorants, tones) or "RGB profile"
    return Conversion(color=f"{name} -> sRGB", tables=tables)


def _of_tables(data: bytes, profile: Profile) -> Conversion:
    name = f"{profile.channels} profile"
    if not is_available():
        return Conversion(color=f"{name} not applied")
    samples = table_conversion(data, profile.channels)
    return Conversion(color=f"{name} -> sRGB", samples=samples, channels=profile.channels)


def _refuse_hdr(transfer: int | None) -> None:
    if transfer in spaces.HDR_CURVES:
        curve = spaces.HDR_CURVES[transfer]
        raise ImageError(f"a picture in HDR ({curve}): a score is of SDR; save it in sRGB or Display P3, tone-mapped")
