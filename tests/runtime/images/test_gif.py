"""GIF files: pixels of Pillow's, and of an encoder of our own for what Pillow doesn't write."""

import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from iqa_runtime.errors import ImageError
from iqa_runtime.images.gif_lzw import decode_gif_lzw
from iqa_runtime.images.loading import load_image, load_with_color

RED, GREEN, BLUE, WHITE = [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]
PALETTE = bytes(RED + GREEN + BLUE + [10, 20, 30])


def lzw(pixels: Sequence[int], bits: int, *, clear_when_full: bool = True, clear_every: int | None = None) -> bytes:
    """Encode by the book; a full table is kept, or cleared, and the table may be cleared sooner."""
    clear, codes = 1 << bits, []
    widths = []

    def put(code: int) -> None:
        codes.append(code)
        widths.append(width)

    table: dict[tuple[int, int], int] = {}
    width = bits + 1
    put(clear)
    following, string, since = clear + 2, int(pixels[0]), 0
    for pixel in pixels[1:]:
        if (string, pixel) in table:
            string = table[string, pixel]
            continue
        put(string)
        since += 1
        if following < 4096:
            table[string, pixel] = following
            following += 1
            # A decoder knows of an entry one code later.
            width = min((following - 1).bit_length(), 12)
        if (following == 4096 and clear_when_full) or since == clear_every:
            put(clear)
            following, since, width, table = clear + 2, 0, bits + 1, {}
        string = pixel
    put(string)
    if following < 4096:
        width = min(following.bit_length(), 12)
    put(clear + 1)
    value = position = 0
    for code, count in zip(codes, widths, strict=True):
        value |= code << position
        position += count
    return value.to_bytes((position + 7) // 8, "little")


def blocks(data: bytes) -> bytes:
    parts = [data[start : start + 255] for start in range(0, len(data), 255)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def image(pixels: NDArray[Any], *, at: tuple[int, int] = (0, 0), bits: int = 2, flags: int = 0) -> bytes:
    height, width = pixels.shape
    return struct.pack("<BHHHHBB", 0x2C, *at, width, height, flags, bits) + blocks(lzw(pixels.ravel().tolist(), bits))


def gif(width: int, height: int, *parts: bytes, palette: bytes = PALETTE) -> bytes:
    flags = 0x80 | (len(palette) // 3).bit_length() - 2 if palette else 0
    screen = struct.pack("<HHBBB", width, height, flags, 0, 0)
    return b"GIF89a" + screen + palette + b"".join(parts) + b"\x3b"


def control(transparent: int) -> bytes:
    return b"\x21\xf9\x04" + struct.pack("<BHB", 1, 0, transparent) + b"\0"


def saved(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "GIF", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("colors", [2, 3, 4, 5, 16, 100, 256])
@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("size", [(1, 1), (9, 7), (90, 61)])
def test_files_of_pillow_have_its_pixels(colors: int, interlace: int, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), np.uint8)
    picture = Image.fromarray(noise).quantize(colors)
    assert np.array_equal(load_image(saved(picture, interlace=interlace)), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("bits", [2, 3, 8])
@pytest.mark.parametrize("clearing", [{}, {"clear_when_full": False}, {"clear_every": 5}, {"clear_every": 1}])
@pytest.mark.parametrize("noisy", [False, True])
def test_all_ways_to_clear_the_table(bits: int, clearing: dict[str, Any], noisy: bool) -> None:
    random = np.random.default_rng(4).integers(0, 1 << bits, 40_000)
    pixels = random if noisy else np.sort(random[:400]).repeat(100)
    coded = lzw(pixels.tolist(), bits, **clearing)
    assert np.array_equal(decode_gif_lzw(coded, bits, len(pixels)), pixels)
    whole = struct.pack("<BHHHHBB", 0x2C, 0, 0, 200, 200, 0, bits) + blocks(coded)
    with Image.open(io.BytesIO(gif(200, 200, whole, palette=bytes(3 << bits)))) as read:
        assert np.array_equal(np.asarray(read).ravel(), pixels)
    with pytest.raises(ImageError, match=r"39999 of 40000|3999\d of|meaning"):
        decode_gif_lzw(lzw(pixels[:-1].tolist(), bits, **clearing), bits, len(pixels))


def test_where_nothing_is_painted_it_is_white() -> None:
    data = gif(3, 2, image(np.array([[0, 2]]), at=(1, 1)))
    assert load_image(data).tolist() == [[WHITE] * 3, [WHITE, RED, BLUE]]


@pytest.mark.parametrize("transparent", [0, 2, 200])
def test_transparent_pixels_are_white(transparent: int) -> None:
    data = gif(2, 1, control(transparent), image(np.array([[0, 2]])))
    expected = [WHITE if transparent == index else color for index, color in ((0, RED), (2, BLUE))]
    assert load_image(data).tolist() == [expected]


def test_a_palette_of_the_image_goes_before_that_of_the_screen() -> None:
    own = struct.pack("<BHHHHB", 0x2C, 0, 0, 2, 1, 0x81) + PALETTE[::-1] + b"\2" + blocks(lzw([0, 3], 2))
    assert load_image(gif(2, 1, own)).tolist() == [[[30, 20, 10], [0, 0, 255]]]
    assert load_image(gif(2, 1, own, palette=b"")).tolist() == [[[30, 20, 10], [0, 0, 255]]]


def test_an_animation_is_refused_and_its_first_image_can_be_had() -> None:
    data = gif(2, 1, control(3), image(np.array([[0, 3]])), control(0), image(np.array([[1, 0]])))
    with pytest.raises(ImageError, match=r"an animated GIF; .* score the first \(``frame=first``\)"):
        load_image(data)
    assert load_image(data, frame="first").tolist() == [[RED, WHITE]]


def test_a_profile_is_read() -> None:
    profile = blocks(b"no profile")
    data = gif(1, 1, b"\x21\xff\x0bICCRGBG1012" + profile, image(np.array([[0]])))
    assert load_with_color(data).color == "profile damaged"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (gif(2, 1), "holds no image"),
        (gif(2, 1, image(np.array([[0, 2]])), palette=b""), "0 colours"),
        (gif(2, 1, image(np.array([[0, 2]])), palette=PALETTE[:6]), "a colour beyond the 2"),
        (gif(2, 1, image(np.array([[0, 2]]), at=(1, 0))), "leaves its screen"),
        (gif(2, 1, image(np.array([[0, 2]]), bits=9)), "of 9 bits"),
        (gif(0, 1, image(np.array([[0, 2]]))), "leaves its screen"),
        (gif(2, 1, b"\x99", image(np.array([[0, 2]]))), "no block begins"),
        (gif(2, 2, image(np.array([[0, 2]])).replace(b"\x02\0\x01\0", b"\x02\0\x02\0")), "2 of 4 pixels"),
    ],
)
def test_what_means_nothing_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        load_image(data)


def test_a_code_without_a_meaning_is_refused() -> None:
    # Clear, plain 0, then entry 7, of which there is none yet.
    coded = (0b100 | 0b000 << 3 | 0b111 << 6).to_bytes(2, "little")
    with pytest.raises(ImageError, match="code without a meaning"):
        decode_gif_lzw(coded, 2, 9)
