"""ICC profiles made here, for tests: matrices with curves, gray, and small tables of inks."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

D50 = (0.9642, 1.0, 0.8249)

# XYZ of red, green and blue under D50, as published profiles have them.
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
PROPHOTO = ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82490))
REC_2020 = ((0.67348, 0.27904, -0.00193), (0.16566, 0.67535, 0.02998), (0.12505, 0.04561, 0.79686))


def fixed(*numbers: float) -> bytes:
    """Numbers as s15Fixed16Number."""
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


def para(kind: int, *numbers: float) -> bytes:
    return b"para" + bytes(4) + struct.pack(">HH", kind, 0) + fixed(*numbers)


def curv(*samples: int) -> bytes:
    return b"curv" + bytes(4) + struct.pack(f">I{len(samples)}H", len(samples), *samples)


SRGB_CURVE = para(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
REC_709_CURVE = para(3, 1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
GAMMA_2_2 = curv(563)


def xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + fixed(*values)


def text(words: str) -> bytes:
    encoded = words.encode("utf-16-be")
    return (
        b"mluc" + bytes(4) + struct.pack(">II2sH", 1, 12, b"en", 21843) + struct.pack(">II", len(encoded), 28) + encoded
    )


def profile(
    space: bytes, tags: dict[bytes, bytes], *, connection: bytes = b"XYZ ", kind: bytes = b"mntr", version: int = 4
) -> bytes:
    """Put a profile together of its elements."""
    tags = {b"desc": text("made for a test"), b"wtpt": xyz(D50), b"cprt": text("none"), **tags}
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for name, element in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(element))
        body += element + bytes(-len(element) % 4)
    head = struct.pack(">I4sB3x4s4s4s", start + len(body), b"    ", version, kind, space, connection)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(*D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def matrix_profile(
    colorants: Sequence[Sequence[float]], *curves: bytes, extra: dict[bytes, bytes] | None = None, version: int = 4
) -> bytes:
    """A profile of RGB; of one curve, or three."""
    tags = {name: xyz(values) for name, values in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)}
    tags |= dict(zip((b"rTRC", b"gTRC", b"bTRC"), curves * (3 // len(curves)), strict=True))
    return profile(b"RGB ", tags | (extra or {}), version=version)


def gray_profile(curve: bytes, *, connection: bytes = b"XYZ ") -> bytes:
    return profile(b"GRAY", {b"kTRC": curve}, connection=connection)


def table_profile(space: bytes, channels: int) -> bytes:
    """A profile whose colours are mixed by a table of 2 corners a channel (``mft2``) that leads to Lab.

    Inks darken; red, green and blue brighten. Lab is coded as in version 2: 0xFF00 is L* 100, 0x8000 is a* 0.
    """
    tint = [(0x2000, -0x2800, -0x3200), (0x3000, 0x4A00, -0x0500), (0x0A00, -0x0500, 0x5D00), (0xD000, 0, 0)]
    corners = []
    for index in range(2**channels):
        used = [bool(index >> (channels - 1 - channel) & 1) for channel in range(channels)]
        inks = used if channels == 4 else [not one for one in used]
        light, a, b = 0xFF00, 0x8000, 0x8000
        for ink, (dark, to_a, to_b) in zip(inks, tint, strict=False):
            if ink:
                light, a, b = light - dark, a + to_a, b + to_b
        corners += [max(light, 0), min(max(a, 0), 0xFFFF), min(max(b, 0), 0xFFFF)]
    element = (
        b"mft2" + bytes(4) + bytes([channels, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + struct.pack(">HH", 2, 2)
    )
    element += struct.pack(">2H", 0, 65535) * channels + struct.pack(f">{len(corners)}H", *corners)
    element += struct.pack(">2H", 0, 65535) * 3
    return profile(space, {b"A2B0": element}, connection=b"Lab ", kind=b"prtr", version=2)


def by_littlecms(profile: bytes, stored: Image.Image) -> NDArray[np.int16]:
    """Convert what Pillow decoded into sRGB, whatever profile it came with."""
    stored.info.pop("icc_profile", None)
    converted = ImageCms.profileToProfile(
        stored,
        ImageCms.ImageCmsProfile(BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
    )
    assert converted is not None
    return np.asarray(converted).astype(np.int16)
