"""Read ICC profiles of versions 2 and 4 (ICC.1:2001-04, ICC.1:2022), as far as they are matrices and curves.

Nothing is read beyond the profile, and nothing in it makes more work than its own bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from iqa_runtime.color.curves import BadProfileError, Curve, checked_curve, parse_curve
from iqa_runtime.color.spaces import Matrix
from iqa_runtime.color.tags import Channels

_HEADER = 128
_MAX_TAGS = 100  # as littleCMS allows
_FIXED = 65536  # s15Fixed16Number
_CLASSES = {b"mntr", b"scnr", b"prtr", b"spac"}  # those that belong to pictures
_CHANNELS: dict[bytes, Channels] = {b"RGB ": "RGB", b"GRAY": "gray", b"CMYK": "CMYK"}
_TABLES = {b"A2B0", b"A2B1", b"D2B0", b"D2B1"}
_L_STAR_LINEAR = 8.0  # CIE 15: L* up to which light is proportional to it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Profile:
    """What a profile says.

    Attributes
    ----------
    channels
        What it is for.
    colorants
        XYZ of red, green and blue as columns; None if colours are mixed by tables.
    curves
        Of red, green and blue, or of gray; none if colours are mixed by tables.
    transfer
        The code point of its transfer (``cicp``), None without one.
    """

    channels: Channels
    colorants: Matrix | None = None
    curves: tuple[Curve, ...] = ()
    transfer: int | None = None


def parse_profile(data: bytes) -> Profile:
    """Read a profile.

    Raises
    ------
    BadProfileError
        If it is truncated, corrupt, of another version, or not one for pictures.
    """
    try:
        tags = _read_tags(data)
        kind, space, connection = data[12:16], data[16:20], data[20:24]
        if kind not in _CLASSES or space not in _CHANNELS or connection not in (b"XYZ ", b"Lab "):
            raise BadProfileError(f"a profile from {space!r} to {connection!r}")
        channels = _CHANNELS[space]
        transfer = tags[b"cicp"][9] if len(tags.get(b"cicp", b"")) >= 12 else None
        if channels == "CMYK" or _TABLES & set(tags):
            if not _TABLES & set(tags):
                raise BadProfileError("a profile of inks without tables")
            return Profile(channels=channels, transfer=transfer)
        if channels == "gray":
            gray = parse_curve(tags[b"kTRC"])
            tone = gray if connection == b"XYZ " else checked_curve(_light_of_l_star(100 * gray))
            return Profile(channels=channels, curves=(tone,), transfer=transfer)
        if connection != b"XYZ ":
            raise BadProfileError("a matrix that does not lead to XYZ")
        return Profile(
            channels=channels,
            colorants=np.stack([_xyz(tags[name]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")], axis=1),
            curves=tuple(parse_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")),
            transfer=transfer,
        )
    except KeyError as error:
        raise BadProfileError(f"a profile without {error.args[0]!r}") from error
    except struct.error as error:
        raise BadProfileError("a profile that ends early") from error


def _read_tags(data: bytes) -> dict[bytes, bytes]:
    """Return the elements that lie inside the profile; of two with one name, the first."""
    (size,) = struct.unpack_from(">I", data)
    (count,) = struct.unpack_from(">I", data, _HEADER)
    if data[36:40] != b"acsp" or data[8] not in (2, 4) or not _HEADER < size <= len(data) or count > _MAX_TAGS:
        raise BadProfileError("no header of a profile")
    tags: dict[bytes, bytes] = {}
    for entry in range(_HEADER + 4, _HEADER + 4 + 12 * count, 12):
        name, offset, length = struct.unpack_from(">4sII", data, entry)
        if offset + length <= size:
            tags.setdefault(name, data[offset : offset + length])
    return tags


def _xyz(element: bytes) -> Curve:
    kind, *numbers = struct.unpack_from(">4s4x3i", element)
    if kind != b"XYZ ":
        raise BadProfileError(f"a colorant of type {kind!r}")
    return np.array(numbers) / _FIXED


def _light_of_l_star(l_star: Curve) -> Curve:
    """Return Y of L* (CIE 15)."""
    root = (l_star + 16) / 116
    return np.where(l_star > _L_STAR_LINEAR, root**3, l_star * 27 / 24389)
