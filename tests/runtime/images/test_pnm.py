"""Netpbm files: pixel values worked out by hand, Pillow's and ImageMagick's where they agree on the rule."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from iqa_runtime.errors import ImageError
from iqa_runtime.images.formats import inspect_header
from iqa_runtime.images.loading import load_image


def grays(data: bytes) -> list[list[int]]:
    pixels = load_image(data)
    assert (pixels == pixels[..., :1]).all()
    return np.asarray(pixels[..., 0]).tolist()


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"P1\n3 2\n0 1 0\n1 1 0\n", [[255, 0, 255], [0, 0, 255]]),
        (b"P1 3 2 010110\n", [[255, 0, 255], [0, 0, 255]]),
        (b"P1#c\n3#\n2#\n01#0 1\n0110\n", [[255, 0, 255], [0, 0, 255]]),
        (b"P4\n9 2\n" + bytes([0b10101010, 0b10000000, 0, 0x7F]), [[0, 255] * 4 + [0], [255] * 9]),
        (b"P2\n3 1\n255\n0 128 255\n", [[0, 128, 255]]),
        (b"P2 3 1 # greatest\n3 0 1\t2\r\n", [[0, 85, 170]]),
        (b"P2\n4 1\n1000 0 500 999 1000 ", [[0, 128, 255, 255]]),  # 127.5 goes up
        (b"P2\n4 1\n1023\n0 3 4 1023\n", [[0, 0, 1, 255]]),
        (b"P2\n2 1\n65535\n256 65535\n", [[1, 255]]),
        (b"P5\n3 1\n255\n\0\x80\xff", [[0, 128, 255]]),
        (b"P5 2 1 15\n\7\x0f", [[119, 255]]),
        (b"P5 2 1 65535\n" + struct.pack(">HH", 0x1FF, 0xFFFF), [[1, 255]]),
        (b"P5\n# by hand\n1 1\n# more\n255\n\n", [[10]]),  # one byte of white space alone is taken
    ],
)
def test_grays_and_bits(data: bytes, expected: list[list[int]]) -> None:
    assert grays(data) == expected


def test_colors_of_8_and_16_bits() -> None:
    pixels = random_pixels(5, 7, 3)
    assert np.array_equal(load_image(b"P6 7 5 255\n" + pixels.tobytes()), pixels)
    wide = (pixels.astype(np.uint16) * 256 + 255 - pixels).astype(">u2")
    assert np.array_equal(load_image(b"P6 7 5 65535\n" + wide.tobytes()), pixels)
    text = " ".join(map(str, pixels.ravel().tolist())).encode()
    assert np.array_equal(load_image(b"P3\n7 5\n255\n" + text + b"\n"), pixels)


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_files_of_pillow_have_its_pixels(mode: str) -> None:
    image = Image.fromarray(random_pixels(33, 45, 3)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PPM")
    assert np.array_equal(load_image(buffer.getvalue()), np.asarray(image.convert("RGB")))


def test_text_is_read_across_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = random_pixels(20, 30, 3)
    text = "\n \n".join(map(str, pixels.ravel().tolist())).encode()
    bits = np.asarray(pixels[..., 0] & 1)
    digits = "  ".join(map(str, bits.ravel().tolist())).encode()
    for size in (1, 2, 3, 7, 64):
        monkeypatch.setattr("iqa_runtime.images.pnm._TEXT", size)
        assert np.array_equal(load_image(b"P3 30 20 255 " + text + b"\n"), pixels)
        assert np.array_equal(load_image(b"P1 30 20 " + digits + b"\n")[..., 0], 255 - 255 * bits)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"P5 2 1 100\n\x64\x65", "a sample of 101, beyond its 100"),
        (b"P2 2 1 100 100 101 ", "a sample of 101, beyond its 100"),
        (b"P3 1 1 255 1 2 99999999999999999999 ", "among its samples"),
        (b"P2 2 1 255 1 -2 3 ", "b'-' among its samples"),
        (b"P1 2 1 1 2 1 ", "b'2' among its samples"),
        (b"P5 2 1 0\n\0\0", "a greatest value of 0"),
        (b"P5 2 1 65536\n\0\0", "a greatest value of 65536"),
        (b"P5 0 1 255\n\0", "0 x 1 pixels"),
        (b"P5 2 x 255\n\0\0", "header makes no sense"),
        (b"P7\nWIDTH 1\n", "Netpbm PAM image"),
        (b"PF\n1 1\n-1.0\n", "PFM image"),
        (b"Pf\n1 1\n-1.0\n", "PFM image"),
    ],
)
def test_what_means_nothing_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        load_image(data)


def test_a_number_cut_short_is_none() -> None:
    assert grays(b"P2 2 1 255 12 134\n") == [[12, 134]]
    for cut in (b"P2 2 1 255 12 134", b"P2 2 1 255 12 13", b"P2 2 1 255 12 "):
        with pytest.raises(ImageError, match="truncated PNM"):
            load_image(cut)


def test_several_images_are_refused_and_the_first_can_be_had() -> None:
    first, second = b"P5 2 1 255\n\1\2", b"P6 1 1 255\n\3\4\5"
    with pytest.raises(ImageError, match="several images"):
        load_image(first + second)
    assert grays(first + b"\n") == [[1, 2]]
    assert load_image(first + second, frame="first")[..., 0].tolist() == [[1, 2]]


def test_a_header_of_comments_alone_ends() -> None:
    for data in (b"P5" + b"#\n" * 500_000, b"P5 " + b" " * 1_000_000, b"P2 9 9 255 " + b"# 1\n" * 250_000):
        with pytest.raises(ImageError):
            inspect_header(data)
