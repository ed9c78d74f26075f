"""What a file is that is no picture which is read here, by its first bytes."""

from __future__ import annotations

import re
from enum import StrEnum


class Container(StrEnum):
    """A container of video whose frames can be read."""

    MP4 = "an MP4 or QuickTime"
    MATROSKA = "a Matroska or WebM"


_KINDS = (
    (re.compile(rb"....ftypcrx", re.DOTALL), "a Canon raw image"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"8BPS"), "a Photoshop document"),
    (re.compile(rb"\x76\x2f\x31\x01"), "an OpenEXR image"),
    (re.compile(rb"#\?(RADIANCE|RGBE)"), "a Radiance HDR image"),
    (re.compile(rb"P7\s"), "a Netpbm PAM image"),
    (re.compile(rb"P[Ff]\s"), "a PFM image"),
    (re.compile(rb"\x00\x00[\x01\x02]\x00"), "an ICO or CUR icon"),
    (re.compile(rb"FUJIFILMCCD-RAW|II[RU]|IIRO"), "a camera raw image"),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive"),
    (re.compile(rb"\x1f\x8b"), "a gzip archive"),
    (re.compile(rb"RIFF....AVI ", re.DOTALL), "an AVI video"),
    (re.compile(rb"G.{187}G|.{4}G.{191}G", re.DOTALL), "an MPEG transport stream"),
    (re.compile(rb"\x00\x00\x01[\xba\xb3]"), "an MPEG video"),
    (re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), "a Windows Media video"),
    (re.compile(rb"FLV\x01"), "a Flash video"),
    (re.compile(rb"OggS"), "an Ogg file"),
    (re.compile(rb"\s*<(\?xml|svg|!doctype|html)", re.IGNORECASE), "an SVG, XML or HTML document"),
)

_CONTAINERS = (
    (re.compile(rb"....(?:ftyp(?!crx)|moov|mdat|wide|free|skip|pnot)", re.DOTALL), Container.MP4),
    (re.compile(rb"\x1a\x45\xdf\xa3"), Container.MATROSKA),
)


def kind_of(data: bytes) -> str | None:
    """Return what a file looks like, with an article; None if that is not known."""
    return next((kind for pattern, kind in _KINDS if pattern.match(data)), None)


def video_container(data: bytes) -> Container | None:
    """Return the container that a file begins as; some formats of pictures begin as MP4 does, and are asked first."""
    return next((container for pattern, container in _CONTAINERS if pattern.match(data)), None)
