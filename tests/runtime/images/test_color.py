"""Colours of files: tags of every format are found, and pixels are those that littleCMS makes of the decoded ones."""

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

import icc
from iqa_runtime import Scorer
from iqa_runtime.errors import ImageError
from iqa_runtime.images.loading import load_image, load_with_color

ONE_LEVEL = 1
"""littleCMS computes 8-bit pictures with 14 fractional bits, which is a level here and there."""

OVER_WHITE = 2
"""Levels: of a colour converted within one, laid over white and rounded again."""

P3_SCORES = 0.002
"""Between a photograph and its copy in Display P3 of 8 bits, whose rounding is twice that of the original."""

P3 = icc.matrix_profile(icc.DISPLAY_P3, icc.SRGB_CURVE)
ADOBE = icc.matrix_profile(icc.ADOBE_RGB, icc.GAMMA_2_2)
SRGB = icc.matrix_profile(icc.SRGB, icc.SRGB_CURVE)
CMYK = icc.table_profile(b"CMYK", 4)
GRAY = icc.gray_profile(icc.para(0, 1.8))

HEIGHT, WIDTH = 40, 56
PHOTOGRAPHS = Path(__file__).parents[3] / "examples" / "photographs"


def picture(mode: str) -> Image.Image:
    """Smooth colours, so that JPEG and WebP lose little, far from neutral ones."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / (HEIGHT, WIDTH)[0]
    planes = [0.5 + 0.5 * np.sin(3 * x + 2 * k + (k + 1) * y) for k in range(len(Image.new(mode, (1, 1)).getbands()))]
    pixels = np.rint(255 * np.stack(planes, axis=-1)).astype(np.uint8)
    return Image.frombytes(mode, (WIDTH, HEIGHT), pixels.tobytes())


def encoded(image: Image.Image, form: str, profile: bytes | None = None, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, form, icc_profile=profile, **options)
    return stream.getvalue()


FILES = {
    "JPEG": ("RGB", "JPEG", {"quality": 95}, P3, "Display P3"),
    "progressive JPEG": ("RGB", "JPEG", {"progressive": True}, ADOBE, "Adobe RGB"),
    "JPEG without subsampling": ("RGB", "JPEG", {"subsampling": 0}, P3, "Display P3"),
    "gray JPEG": ("L", "JPEG", {}, GRAY, "gray profile"),
    "CMYK JPEG": ("CMYK", "JPEG", {"quality": 95}, CMYK, "CMYK profile"),
    "PNG": ("RGB", "PNG", {}, P3, "Display P3"),
    "gray PNG": ("L", "PNG", {}, GRAY, "gray profile"),
    "WebP": ("RGB", "WEBP", {"quality": 95}, P3, "Display P3"),
    "lossless WebP": ("RGB", "WEBP", {"lossless": True}, ADOBE, "Adobe RGB"),
    "TIFF": ("RGB", "TIFF", {}, P3, "Display P3"),
    "TIFF of JPEG": ("RGB", "TIFF", {"compression": "jpeg"}, P3, "Display P3"),
    "gray TIFF": ("L", "TIFF", {"compression": "tiff_lzw"}, GRAY, "gray profile"),
    "CMYK TIFF": ("CMYK", "TIFF", {}, CMYK, "CMYK profile"),
}


@pytest.mark.parametrize("name", FILES)
def test_an_embedded_profile_is_applied(name: str) -> None:
    mode, form, options, profile, space = FILES[name]
    data = encoded(picture(mode), form, profile, **options)
    loaded = load_with_color(data)
    expected = icc.by_littlecms(profile, Image.open(BytesIO(data)).convert(mode))
    assert loaded.color == f"{space} -> sRGB"
    assert np.abs(loaded.pixels - expected).max() <= ONE_LEVEL
    plain = load_with_color(data, color_space="stored")
    assert plain.color == "stored"
    np.testing.assert_array_equal(plain.pixels, load_image(encoded(picture(mode), form, **options)))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_what_says_nothing_and_what_says_srgb_keeps_its_pixels(form: str) -> None:
    plain = load_with_color(encoded(picture("RGB"), form))
    tagged = load_with_color(encoded(picture("RGB"), form, SRGB))
    assert (plain.color, tagged.color) == ("untagged", "sRGB")
    np.testing.assert_array_equal(plain.pixels, tagged.pixels)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("profile", [b"no profile", P3[:300], icc.matrix_profile([icc.D50] * 3, icc.SRGB_CURVE)])
def test_a_damaged_profile_is_ignored(form: str, profile: bytes) -> None:
    loaded = load_with_color(encoded(picture("RGB"), form, profile))
    assert loaded.color == "profile damaged"
    np.testing.assert_array_equal(loaded.pixels, load_image(encoded(picture("RGB"), form)))


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})])
def test_colours_are_converted_before_they_are_laid_over_white(form: str, options: dict[str, Any]) -> None:
    image = picture("RGBA")
    data = encoded(image, form, P3, **options)
    alpha = np.asarray(image)[..., 3:] / 255
    expected = icc.by_littlecms(P3, image.convert("RGB")) * alpha + 255 * (1 - alpha)
    assert np.abs(load_image(data) - expected).max() <= OVER_WHITE


def test_a_palette_is_converted() -> None:
    indexed = picture("RGB").quantize(50)
    expected = icc.by_littlecms(P3, indexed.convert("RGB"))
    loaded = load_with_color(encoded(indexed, "PNG", P3))
    assert loaded.color == "Display P3 -> sRGB"
    assert np.abs(loaded.pixels - expected).max() <= ONE_LEVEL


def test_16_bits_are_converted_from_their_upper_8() -> None:
    import cv2

    wide = np.asarray(picture("RGB")).astype(np.uint16) * 257
    plain = cv2.imencode(".png", wide[..., ::-1])[1].tobytes()
    data = plain[:33] + chunk(b"iCCP", b"P3\0\0" + zlib.compress(P3)) + plain[33:]
    assert np.abs(load_image(data) - icc.by_littlecms(P3, picture("RGB"))).max() <= ONE_LEVEL


def test_a_turned_picture_is_converted_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture("RGB"), "JPEG", P3, exif=exif)
    expected = np.rot90(icc.by_littlecms(P3, Image.open(BytesIO(data)).convert("RGB")), -1)
    assert np.abs(load_image(data) - expected).max() <= ONE_LEVEL


# --- PNG ---


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes) -> bytes:
    plain = encoded(picture("RGB"), "PNG")
    return plain[:33] + b"".join(chunks) + plain[33:]


def chromaticities(*values: int) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *values))


P3_CHRM = chromaticities(31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
SRGB_CHRM = chromaticities(31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
GAMMA = chunk(b"gAMA", struct.pack(">I", 45455))


@pytest.mark.parametrize(
    ("chunks", "color"),
    [
        ([chunk(b"cICP", bytes([12, 13, 0, 1]))], "Display P3 -> sRGB"),
        ([chunk(b"cICP", bytes([9, 1, 0, 1])), chunk(b"iCCP", b"x\0\0" + zlib.compress(P3))], "Rec. 2020 -> sRGB"),
        ([chunk(b"cICP", bytes([1, 13, 0, 1]))], "sRGB"),
        ([chunk(b"cICP", bytes([12, 13, 0]))], "untagged"),
        ([chunk(b"sRGB", b"\0"), GAMMA, P3_CHRM], "sRGB"),
        ([GAMMA], "sRGB"),
        ([GAMMA, SRGB_CHRM], "sRGB"),
        ([GAMMA, P3_CHRM], "Display P3 -> sRGB"),
        ([P3_CHRM], "Display P3 -> sRGB"),
        ([chunk(b"gAMA", struct.pack(">I", 100_000))], "RGB profile -> sRGB"),
        ([chunk(b"gAMA", struct.pack(">I", 0))], "profile damaged"),
        ([chunk(b"gAMA", struct.pack(">I", 2**32 - 1))], "profile damaged"),
        ([chunk(b"gAMA", b"\0\0\0")], "untagged"),
        ([GAMMA, chromaticities(*[0] * 8)], "profile damaged"),
        ([chunk(b"iCCP", b"x\0\1" + zlib.compress(P3))], "profile damaged"),
        ([chunk(b"iCCP", b"x" * 80 + b"\0\0" + zlib.compress(P3))], "profile damaged"),
        ([chunk(b"iCCP", b"x")], "profile damaged"),
        ([chunk(b"iCCP", b"")], "profile damaged"),
        ([chunk(b"iCCP", b"x\0\0" + zlib.compress(P3)[:-9])], "profile damaged"),
        ([chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(1 << 26), 9)), chunk(b"sRGB", b"\0")], "profile damaged"),
        ([chunk(b"iCCP", b"x\0\0" + zlib.compress(GRAY))], "profile damaged"),
    ],
)
def test_chunks_of_png_say_what_colours_are(chunks: list[bytes], color: str) -> None:
    loaded = load_with_color(png(*chunks))
    assert loaded.color == color
    if "->" not in color:
        np.testing.assert_array_equal(loaded.pixels, np.asarray(picture("RGB")))


def test_chunks_behind_the_pixels_say_nothing() -> None:
    plain = encoded(picture("RGB"), "PNG")
    assert load_with_color(plain[:-12] + P3_CHRM + plain[-12:]).color == "untagged"


def test_hdr_is_refused() -> None:
    for transfer in (16, 18):
        with pytest.raises(ImageError, match="HDR"):
            load_image(png(chunk(b"cICP", bytes([9, transfer, 0, 1]))))
        assert load_image(png(chunk(b"cICP", bytes([9, transfer, 0, 1]))), color_space="stored").any()


# --- JPEG ---


def with_segments(*bodies: bytes) -> bytes:
    plain = encoded(picture("RGB"), "JPEG")
    segments = b"".join(b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body for body in bodies)
    return plain[:2] + segments + plain[2:]


def part(number: int, count: int, body: bytes) -> bytes:
    return b"ICC_PROFILE\0" + bytes([number, count]) + body


THIRD = len(P3) // 3
PARTS = [P3[:THIRD], P3[THIRD : 2 * THIRD], P3[2 * THIRD :]]


def test_parts_of_a_profile_are_put_together_in_any_order() -> None:
    for order in ((1, 2, 3), (3, 1, 2), (2, 3, 1)):
        data = with_segments(*(part(number, 3, PARTS[number - 1]) for number in order))
        assert load_with_color(data).color == "Display P3 -> sRGB"


@pytest.mark.parametrize(
    "segments",
    [
        [part(1, 3, PARTS[0]), part(2, 3, PARTS[1])],
        [part(1, 2, PARTS[0]), part(1, 2, PARTS[0])],
        [part(1, 1, P3), part(1, 1, P3)],
        [part(0, 1, P3)],
        [part(1, 0, P3)],
        [part(1, 2, PARTS[0]), part(2, 3, PARTS[1])],
        [part(1, 1, b"")],
        [b"ICC_PROFILE\0"],
        [b"ICC_PROFILE\0\1"],
        [part(number, 255, bytes(65_000)) for number in range(1, 256)],
        [part(number % 256, 255, bytes(65_000)) for number in range(600)],
    ],
)
def test_parts_that_make_no_profile_are_damaged(segments: list[bytes]) -> None:
    loaded = load_with_color(with_segments(*segments))
    assert loaded.color == "profile damaged"
    np.testing.assert_array_equal(loaded.pixels, load_image(encoded(picture("RGB"), "JPEG")))


def test_other_application_data_is_no_profile() -> None:
    assert load_with_color(with_segments(b"MPF\0" + bytes(30), b"ICC_PROFILES are nice")).color == "untagged"


# --- TIFF ---


def test_a_profile_of_tiff_beyond_the_file_is_damaged() -> None:
    data = bytearray(encoded(picture("RGB"), "TIFF", P3))
    entry = data.index(struct.pack("<HH", 34675, 7))
    for count, place in ((2**32 - 1, 8), (len(P3), 2**32 - 9), (0, 8)):
        changed = bytearray(data)
        changed[entry + 4 : entry + 12] = struct.pack("<II", count, place)
        assert load_with_color(bytes(changed)).color == "profile damaged"


def test_a_profile_of_tiff_may_be_large() -> None:
    # Those of printers are; as numbers of a directory it would be refused.
    large = icc.matrix_profile(icc.DISPLAY_P3, icc.SRGB_CURVE, extra={b"priv": bytes(3 << 20)})
    assert load_with_color(encoded(picture("RGB"), "TIFF", large)).color == "Display P3 -> sRGB"


# --- EXIF ---


def exif_block(order: str, space: int | None, index: bytes | None) -> bytes:
    """An EXIF block with a colour space and an interoperability index."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    block = mark + struct.pack(f"{order}IHHHIII", 8, 1, 0x8769, 4, 1, 26, 0)
    entries = []
    if space is not None:
        entries.append(struct.pack(f"{order}HHIHH", 0xA001, 3, 1, space, 0))
    if index is not None:
        entries.append(struct.pack(f"{order}HHII", 0xA005, 4, 1, 26 + 6 + 12 * (len(entries) + 1)))
    block += struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    if index is not None:
        block += struct.pack(f"{order}HHHI", 1, 1, 2, 4) + index + bytes(4)
    return b"Exif\0\0" + block


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("space", "index", "color"),
    [
        (1, None, "sRGB"),
        (1, b"R98\0", "sRGB"),
        (65535, b"R03\0", "Adobe RGB -> sRGB"),
        (65535, b"R98\0", "untagged"),
        (65535, None, "untagged"),
        (None, b"R03\0", "untagged"),
        (2, None, "untagged"),
    ],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_says_what_colours_are(form: str, order: str, space: int | None, index: bytes | None, color: str) -> None:
    block = exif_block(order, space, index)
    data = encoded(picture("RGB"), form, exif=block, **({"lossless": True} if form == "WEBP" else {}))
    loaded = load_with_color(data)
    assert loaded.color == color
    if color.startswith("Adobe"):
        expected = icc.by_littlecms(ADOBE, Image.open(BytesIO(data)).convert("RGB"))
        assert np.abs(loaded.pixels - expected).max() <= ONE_LEVEL
    assert load_with_color(encoded(picture("RGB"), form, P3, exif=block)).color == "Display P3 -> sRGB"


@pytest.mark.parametrize(("big", "color"), [(False, "sRGB"), (True, "untagged")])
def test_exif_of_tiff_is_in_its_own_directory(big: bool, color: str) -> None:
    data = encoded(picture("RGB"), "TIFF", exif=exif_block("<", 1, None), big_tiff=big)
    assert load_with_color(data).color == color


def test_cut_exif_says_nothing_and_harms_nothing() -> None:
    block = exif_block(">", 65535, b"R03\0")
    for length in range(6, len(block) - 4):
        assert load_with_color(encoded(picture("RGB"), "JPEG", exif=block[:length])).color == "untagged"


# --- scores ---


def test_a_copy_in_display_p3_scores_as_the_original() -> None:
    photograph = sorted(PHOTOGRAPHS.glob("*.jpg"))[0]
    original = Image.open(photograph).convert("RGB")
    to_p3 = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(BytesIO(P3)), "RGB", "RGB")
    copy = encoded(ImageCms.applyTransform(original, to_p3), "PNG", P3)
    with Scorer("edge") as scorer:
        as_it_is, as_p3 = scorer.score(encoded(original, "PNG")), scorer.score(copy)
        assert (as_it_is.color, as_p3.color) == ("untagged", "Display P3 -> sRGB")
        assert as_it_is.value is not None
        assert as_p3.value is not None
        assert abs(as_it_is.value - as_p3.value) <= P3_SCORES
        assert as_p3.row()["color"] == "Display P3 -> sRGB"
        assert scorer.score(np.asarray(original)).color == "untagged"
