"""Conversions to sRGB beside littleCMS, and what is ignored because it means nothing."""

import struct
import zlib
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

import icc
from iqa_runtime.color import littlecms
from iqa_runtime.color.conversion import Conversion, conversion_of
from iqa_runtime.color.tags import MAX_PROFILE_BYTES, ColorTag, inflated_profile, joined_profile
from iqa_runtime.errors import ImageError

ONE_LEVEL = 1
"""littleCMS computes 8-bit pictures with 14 fractional bits, which is a level here and there."""

MODES = {"RGB": "RGB", "gray": "L", "CMYK": "CMYK"}
P3 = icc.matrix_profile(icc.DISPLAY_P3, icc.SRGB_CURVE)


def samples(channels: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random colours, and every value of each channel beside extremes of the others."""
    random = np.random.default_rng(seed).integers(0, 256, (200, 256, channels), dtype=np.uint8)
    for channel in range(channels):
        for row, others in enumerate((0, 255)):
            random[2 * channel + row] = others
            random[2 * channel + row, :, channel] = np.arange(256)
    random[190] = np.arange(256)[:, None]
    return random


def by_littlecms(profile: bytes, pixels: NDArray[np.uint8], mode: str) -> NDArray[np.int16]:
    picture = Image.frombytes(mode, (pixels.shape[1], pixels.shape[0]), pixels.tobytes())
    return icc.by_littlecms(profile, picture)


def of_profile(data: bytes, channels: str = "RGB") -> Conversion:
    return conversion_of(ColorTag(profile=data), channels)


RAMP = [round(65535 * (index / 1023) ** 2.2) for index in range(1024)]
SPACES = {
    "Display P3": P3,
    "Adobe RGB": icc.matrix_profile(icc.ADOBE_RGB, icc.GAMMA_2_2, version=2),
    "ProPhoto RGB": icc.matrix_profile(icc.PROPHOTO, icc.para(0, 1.8)),
    "Rec. 2020": icc.matrix_profile(icc.REC_2020, icc.REC_709_CURVE),
    "Rec. 709": icc.matrix_profile(icc.SRGB, icc.REC_709_CURVE),
    "RGB profile": icc.matrix_profile(icc.SRGB, icc.curv(*RAMP)),
}
OTHER_CURVES = {
    "identity": icc.curv(),
    "gamma 1": icc.curv(256),
    "two samples": icc.curv(0, 65535),
    "three channels of their own": icc.para(0, 2.0),
    "with an offset inside": icc.para(1, 2.2, 0.9, 0.1),
    "with an offset outside": icc.para(2, 2.2, 0.9, 0.05, 0.03),
    "with seven numbers": icc.para(4, 2.4, 0.9, 0.05, 0.08, 0.05, 0.02, 0.004),
    "beyond 1": icc.para(2, 2.0, 1.2, 0.01, 0.1),
}


@pytest.mark.parametrize("name", SPACES)
def test_a_matrix_profile_is_converted_as_littlecms_does(name: str) -> None:
    pixels = samples(3)
    conversion = of_profile(SPACES[name])
    expected = by_littlecms(SPACES[name], pixels, "RGB")
    assert conversion.color == f"{name} -> sRGB"
    assert np.abs(conversion.apply(pixels.copy()) - expected).max() <= ONE_LEVEL


@pytest.mark.parametrize("name", OTHER_CURVES)
def test_curves_of_all_kinds_are_read(name: str) -> None:
    pixels = samples(3)
    profile = icc.matrix_profile(icc.ADOBE_RGB, OTHER_CURVES[name], icc.GAMMA_2_2, icc.SRGB_CURVE)
    expected = by_littlecms(profile, pixels, "RGB")
    assert np.abs(of_profile(profile).apply(pixels.copy()) - expected).max() <= ONE_LEVEL


@pytest.mark.parametrize("connection", [b"XYZ ", b"Lab "])
@pytest.mark.parametrize("gamma", [1.8, 2.2])
def test_a_gray_profile_is_converted_as_littlecms_does(gamma: float, connection: bytes) -> None:
    gray = samples(1)
    profile = icc.gray_profile(icc.para(0, gamma), connection=connection)
    conversion = of_profile(profile, "gray")
    assert conversion.color == "gray profile -> sRGB"
    difference = np.abs(conversion.apply(gray.repeat(3, axis=2)) - by_littlecms(profile, gray, "L"))
    assert difference.max() <= ONE_LEVEL


@pytest.mark.parametrize(("space", "channels", "count"), [(b"CMYK", "CMYK", 4), (b"RGB ", "RGB", 3)])
def test_a_profile_of_tables_is_converted_as_littlecms_does(space: bytes, channels: str, count: int) -> None:
    pixels = samples(count)
    profile = icc.table_profile(space, count)
    conversion = of_profile(profile, channels)
    assert conversion.color == f"{channels} profile -> sRGB"
    np.testing.assert_array_equal(conversion.apply(pixels), by_littlecms(profile, pixels, MODES[channels]))


def test_without_littlecms_tables_are_not_applied_and_the_result_says_so() -> None:
    with (
        mock.patch.object(littlecms, "is_available", return_value=False),
        mock.patch("iqa_runtime.color.conversion.is_available", return_value=False),
    ):
        conversion = of_profile(icc.table_profile(b"CMYK", 4), "CMYK")
    assert conversion.color == "CMYK profile not applied"
    assert conversion.samples is None


SRGB_SAMPLES = [
    round(65535 * (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4))
    for value in np.arange(1024) / 1023
]


@pytest.mark.parametrize(
    "profile",
    [
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        icc.matrix_profile(icc.SRGB, icc.SRGB_CURVE, extra={b"desc": icc.text("Display P3")}),
        icc.matrix_profile(icc.SRGB, icc.curv(*SRGB_SAMPLES), version=2),
    ],
)
def test_what_says_srgb_by_its_numbers_is_left_alone(profile: bytes) -> None:
    conversion = of_profile(profile)
    pixels = samples(3)
    assert conversion.color == "sRGB"
    assert conversion.apply(pixels) is pixels
    assert np.abs(by_littlecms(profile, pixels, "RGB") - pixels).max() <= ONE_LEVEL


def test_a_name_alone_says_nothing() -> None:
    profile = icc.matrix_profile(icc.DISPLAY_P3, icc.SRGB_CURVE, extra={b"desc": icc.text("sRGB IEC61966-2.1")})
    assert of_profile(profile).color == "Display P3 -> sRGB"


def test_gray_pixels_take_a_profile_of_rgb_but_not_the_other_way_round() -> None:
    assert of_profile(P3, "gray").color == "Display P3 -> sRGB"
    grays = samples(1).repeat(3, axis=2)
    np.testing.assert_array_equal(of_profile(P3, "gray").apply(grays.copy()), grays)
    assert of_profile(icc.gray_profile(icc.GAMMA_2_2), "RGB").color == "profile damaged"
    assert of_profile(icc.table_profile(b"CMYK", 4), "RGB").color == "profile damaged"
    assert of_profile(P3, "CMYK").color == "profile damaged"


# --- what means nothing ---


def with_curve(curve: bytes) -> bytes:
    return icc.matrix_profile(icc.DISPLAY_P3, icc.SRGB_CURVE, icc.SRGB_CURVE, curve)


def patched(place: int, replacement: bytes) -> bytes:
    return P3[:place] + replacement + P3[place + len(replacement) :]


FIRST_TAG = 132
HOSTILE = {
    "empty": b"",
    "one byte": b"\0",
    "header alone": P3[:128],
    "text": b"ICC profile" * 100,
    "signature missing": patched(36, b"none"),
    "a size beyond the data": patched(0, b"\xff\xff\xff\xff"),
    "a size of nothing": patched(0, bytes(4)),
    "version 5": patched(8, b"\5"),
    "version 0": patched(8, b"\0"),
    "four billion tags": patched(128, b"\xff\xff\xff\xff"),
    "more tags than there are": patched(128, b"\0\0\0\x63"),
    "no tags": patched(128, bytes(4)),
    "a link of devices": patched(12, b"link"),
    "a named space": patched(16, b"6CLR"),
    "a connection of devices": patched(20, b"RGB "),
    "a matrix to Lab": patched(20, b"Lab "),
    "tags beyond the end": P3[:FIRST_TAG]
    + b"".join(
        P3[entry : entry + 4] + b"\xff\xff\xff\xf0" + P3[entry + 8 : entry + 12]
        for entry in range(FIRST_TAG, FIRST_TAG + 12 * 9, 12)
    )
    + P3[FIRST_TAG + 12 * 9 :],
    "four billion samples": with_curve(b"curv" + bytes(4) + b"\xff\xff\xff\xff" + bytes(40)),
    "more samples than there are": with_curve(b"curv" + bytes(4) + struct.pack(">I", 21) + bytes(40)),
    "a curve that ends early": with_curve(b"para" + bytes(4) + bytes([0, 3, 0, 0]) + icc.fixed(2.4)),
    "a curve of no type": with_curve(b"text" + bytes(40)),
    "a curve of type 5": with_curve(icc.para(5, 1, 1, 1, 1, 1, 1, 1)),
    "a constant curve": with_curve(icc.curv(*[30000] * 256)),
    "gamma 0": with_curve(icc.para(0, 0)),
    "gamma 0 in a count of 1": with_curve(icc.curv(0)),
    "a negative gamma": with_curve(icc.para(0, -2.2)),
    "a gamma of 32767": with_curve(icc.para(3, 32767, 1, 0, 0, 0)),
    "a division by 0": with_curve(icc.para(1, 2.2, 0, 1)),
    "a curve that is 0": with_curve(icc.para(3, 2.2, 0, 0, 0, 0)),
    "colorants of 0": icc.matrix_profile([(0, 0, 0)] * 3, icc.SRGB_CURVE),
    "equal colorants": icc.matrix_profile([icc.D50] * 3, icc.SRGB_CURVE),
    "colorants in a plane": icc.matrix_profile([icc.SRGB[0], icc.SRGB[1], icc.SRGB[0]], icc.SRGB_CURVE),
    "colorants of 30000": icc.matrix_profile([(30000, 0, 0), (0, 30000, 0), (0, 0, 30000)], icc.SRGB_CURVE),
    "colorants that are text": icc.matrix_profile(icc.DISPLAY_P3, icc.SRGB_CURVE, extra={b"gXYZ": b"text" + bytes(20)}),
    "a colorant that ends early": icc.matrix_profile(
        icc.DISPLAY_P3, icc.SRGB_CURVE, extra={b"gXYZ": b"XYZ " + bytes(8)}
    ),
    "no green": P3.replace(b"gXYZ", b"gZYX", 1),
    "tables that are none": icc.matrix_profile(icc.DISPLAY_P3, icc.SRGB_CURVE, extra={b"A2B0": b"mft2" + b"\xff" * 60}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_profile_that_means_nothing_is_damaged(name: str) -> None:
    conversion = of_profile(HOSTILE[name])
    assert conversion.color == "profile damaged"
    pixels = samples(3)
    assert conversion.apply(pixels) is pixels


def test_no_cut_and_no_changed_byte_raises() -> None:
    rng = np.random.default_rng(0)
    for whole, channels in ((P3, "RGB"), (icc.table_profile(b"CMYK", 4), "CMYK")):
        assert "->" in of_profile(whole, channels).color
        for length in range(0, len(whole), 29):
            assert of_profile(whole[:length], channels).color == "profile damaged"
        for _ in range(60):
            changed = bytearray(whole)
            for place in rng.integers(0, len(whole), 4):
                changed[place] = rng.integers(0, 256)
            pixels = samples(len(channels))[:4, :4]
            assert of_profile(bytes(changed), channels).apply(pixels).dtype == np.uint8


def test_a_profile_inflates_to_its_limit_and_no_further() -> None:
    assert inflated_profile(zlib.compress(P3)) == P3
    assert inflated_profile(zlib.compress(bytes(MAX_PROFILE_BYTES + 1))) == b""
    assert inflated_profile(zlib.compress(P3)[:-1]) == b""
    assert inflated_profile(b"no zlib") == b""


def test_parts_of_a_profile_come_in_any_order_but_all_of_them_once() -> None:
    parts = [(1, 3, b"a"), (2, 3, b"b"), (3, 3, b"c")]
    assert joined_profile([]) is None
    assert joined_profile(parts) == joined_profile(parts[::-1]) == b"abc"
    for broken in (parts[:2], [*parts, parts[0]], [(0, 1, b"a")], [(1, 2, b"a"), (2, 3, b"b")], [(1, 0, b"a")]):
        assert joined_profile(broken) == b""


# --- other tags ---


def test_the_first_tag_counts() -> None:
    srgb = ColorTag(profile=P3, srgb=True, gamma=1.0, exif="Adobe RGB")
    assert conversion_of(srgb, "RGB").color == "Display P3 -> sRGB"
    assert conversion_of(ColorTag(profile=b"", srgb=True), "RGB").color == "profile damaged"
    assert conversion_of(ColorTag(cicp=(9, 1, 0, 1), profile=P3), "RGB").color == "Rec. 2020 -> sRGB"
    assert conversion_of(ColorTag(srgb=True, gamma=1.0), "RGB").color == "sRGB"
    assert conversion_of(ColorTag(gamma=0.45455, exif="Adobe RGB"), "RGB").color == "sRGB"
    assert conversion_of(ColorTag(exif="Adobe RGB"), "RGB").color == "Adobe RGB -> sRGB"
    assert conversion_of(ColorTag(exif="sRGB"), "RGB").color == "sRGB"
    assert conversion_of(ColorTag(exif="sRGB"), "CMYK").color == "untagged"
    assert conversion_of(ColorTag(), "RGB").color == "untagged"


@pytest.mark.parametrize(
    ("tag", "profile"),
    [
        (ColorTag(cicp=(12, 13, 0, 1)), P3),
        (ColorTag(cicp=(9, 14, 0, 1)), SPACES["Rec. 2020"]),
        (ColorTag(cicp=(1, 1, 0, 1)), SPACES["Rec. 709"]),
        (ColorTag(cicp=(1, 8, 0, 1)), icc.matrix_profile(icc.SRGB, icc.para(0, 1.0))),
        (ColorTag(cicp=(2, 4, 0, 1)), icc.matrix_profile(icc.SRGB, icc.para(0, 2.2))),
        (ColorTag(exif="Adobe RGB"), SPACES["Adobe RGB"]),
        (ColorTag(gamma=1 / 1.8), icc.matrix_profile(icc.SRGB, icc.para(0, 1.8))),
        (
            ColorTag(gamma=1 / 1.8, chromaticities=(0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)),
            icc.matrix_profile(icc.DISPLAY_P3, icc.para(0, 1.8)),
        ),
        (ColorTag(chromaticities=(0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)), P3),
        (
            ColorTag(gamma=1 / 1.8, chromaticities=(0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001)),
            SPACES["ProPhoto RGB"],
        ),
    ],
)
def test_other_tags_mean_what_a_profile_of_the_same_space_means(tag: ColorTag, profile: bytes) -> None:
    pixels = samples(3)
    expected = by_littlecms(profile, pixels, "RGB")
    assert np.abs(conversion_of(tag, "RGB").apply(pixels) - expected).max() <= ONE_LEVEL


def test_a_narrow_range_is_spread() -> None:
    conversion = conversion_of(ColorTag(cicp=(1, 13, 0, 0)), "RGB")
    grays = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    exact = np.clip((np.arange(256) - 16) * 255 / 219, 0, 255)
    assert np.abs(conversion.apply(grays)[0, :, 0] - exact).max() <= ONE_LEVEL


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_refused_with_a_remedy(transfer: int) -> None:
    element = b"cicp" + bytes(4) + bytes([9, transfer, 0, 1])
    for tag in (
        ColorTag(cicp=(9, transfer, 0, 1)),
        ColorTag(profile=icc.matrix_profile(icc.REC_2020, icc.SRGB_CURVE, extra={b"cicp": element})),
    ):
        with pytest.raises(ImageError, match=r"HDR \(.*\): .* save it in sRGB"):
            conversion_of(tag, "RGB")


@pytest.mark.parametrize(
    "tag",
    [
        ColorTag(cicp=(3, 13, 0, 1)),
        ColorTag(cicp=(1, 255, 0, 1)),
        ColorTag(cicp=(1, 13, 1, 1)),
        ColorTag(gamma=0.0),
        ColorTag(gamma=42949.0),
        ColorTag(gamma=0.45455, chromaticities=(0.0,) * 8),
        ColorTag(chromaticities=(0.3127, 0.0, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)),
        ColorTag(chromaticities=(0.3127, 0.329, 0.64, 0.33, 0.64, 0.33, 0.15, 0.06)),
        ColorTag(chromaticities=(0.3127, 0.329, 42949.0, 0.33, 0.3, 0.6, 0.15, 0.06)),
    ],
)
def test_tags_that_mean_nothing_are_damaged(tag: ColorTag) -> None:
    assert conversion_of(tag, "RGB").color == "profile damaged"
