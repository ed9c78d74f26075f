"""Every decoding rule of docs/images.md with its expected pixel values, and every way a source can be wrong."""

import io
import os
import random
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from iqa_runtime.errors import FileError, ImageError, UsageError
from iqa_runtime.images.formats import IMAGE_SUFFIXES, inspect_header
from iqa_runtime.images.loading import load_image

WHITE = [255, 255, 255]
PHOTOGRAPHS = Path(__file__).parents[3] / "examples" / "photographs"
JPEG_TOLERANCE = 1  # levels: OpenCV turns inks into RGB with a shift where Pillow divides by 255

GRADIENT = np.stack(np.meshgrid(np.arange(9) * 28, np.arange(7) * 40, indexing="xy"), axis=-1)
GRADIENT = np.dstack([GRADIENT, np.full((7, 9), 100)]).astype(np.uint8)
"""7 x 9 RGB, different at every pixel, so that each of the eight orientations differs."""


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(size: tuple[int, int], depth: int, color: int, rows: list[bytes], *chunks: tuple[bytes, bytes]) -> bytes:
    """Build a PNG by hand, for kinds Pillow cannot write. `color` as in IHDR; `chunks` come before the pixels."""
    header = struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data


def tiff(size: tuple[int, int], tags: dict[int, list[int]], pixels: bytes, order: str = "<") -> bytes:
    """Build an uncompressed TIFF of one strip by hand; every tag a SHORT except the strip's length, a LONG."""
    tags = {256: [size[0]], 257: [size[1]], 259: [1], 273: [8], 278: [size[1]], 279: [len(pixels)]} | tags
    directory, beyond = b"", b""
    start = 8 + len(pixels) + len(pixels) % 2
    end = start + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        kind, code = (4, "I") if tag == 279 else (3, "H")
        packed = struct.pack(f"{order}{len(values)}{code}", *values)
        if len(packed) > 4:
            directory += struct.pack(f"{order}HHII", tag, kind, len(values), end + len(beyond))
            beyond += packed
        else:
            directory += struct.pack(f"{order}HHI4s", tag, kind, len(values), packed)
    mark = {"<": b"II\x2a\0", ">": b"MM\0\x2a"}[order] + struct.pack(f"{order}I", start)
    strip = pixels + bytes(len(pixels) % 2)
    return mark + strip + struct.pack(f"{order}H", len(tags)) + directory + bytes(4) + beyond


def bmp(size: tuple[int, int], bits: int, header: bytes, pixels: bytes) -> bytes:
    """Build a BMP by hand; `header` is what follows the bits per pixel."""
    start = 14 + 16 + len(header)
    info = struct.pack("<IiiHH", 16 + len(header), *size, 1, bits)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + info + header + pixels


def pixels_of(data: bytes) -> list[Any]:
    return load_image(data).tolist()


def gray(*values: int) -> list[list[int]]:
    return [[value] * 3 for value in values]


class TestSources:
    def test_path_text_and_bytes_give_the_same_pixels(self, tmp_path: Path) -> None:
        data = encode(Image.fromarray(GRADIENT), "PNG")
        path = tmp_path / "really a png.jpg"
        path.write_bytes(data)
        for source in (path, str(path), data):
            image = load_image(source)
            assert image.dtype == np.uint8
            assert image.flags.c_contiguous
            np.testing.assert_array_equal(image, GRADIENT)

    def test_a_contiguous_array_is_not_copied(self) -> None:
        assert load_image(GRADIENT) is GRADIENT

    @pytest.mark.parametrize("view", [GRADIENT[:, ::-1], GRADIENT[::2, 1::3], GRADIENT.transpose(1, 0, 2)])
    def test_any_strides_are_accepted(self, view: NDArray[np.uint8]) -> None:
        image = load_image(view)
        assert image.flags.c_contiguous
        np.testing.assert_array_equal(image, view)

    @pytest.mark.parametrize(
        ("array", "says"),
        [
            (GRADIENT.astype(np.float32) / 255, "float32.*convert"),
            (GRADIENT.astype(np.int64), "int64.*convert"),
            (GRADIENT[..., 0], "repeat the gray channel"),
            (np.dstack([GRADIENT, GRADIENT[..., 0]]), "alpha channel"),
            (GRADIENT.transpose(2, 0, 1), "channels last"),
            (GRADIENT[None], "one image"),
            (GRADIENT[:0], "one image"),
        ],
    )
    def test_another_array_is_told_how_to_convert(self, array: NDArray[Any], says: str) -> None:
        with pytest.raises(UsageError, match=says):
            load_image(array)

    @pytest.mark.parametrize("source", [None, 3, [1, 2], Image.new("RGB", (2, 2)), bytearray(b"BM")])
    def test_another_type_is_refused(self, source: Any) -> None:
        with pytest.raises(UsageError, match=type(source).__name__):
            load_image(source)

    def test_paths_that_are_no_file(self, tmp_path: Path) -> None:
        for name, says in (
            (tmp_path / "missing.jpg", "missing.jpg: cannot read"),
            (tmp_path, "not a regular file"),
            ("https://example.org/photo.jpg", "URLs are not fetched"),
            ("a\0b", "not a path"),
        ):
            with pytest.raises(FileError, match=says):
                load_image(name)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_a_pipe_does_not_block(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.jpg")
        with pytest.raises(FileError, match="not a regular file"):
            load_image(tmp_path / "pipe.jpg")

    def test_a_file_too_large_for_the_decoder_is_refused_unread(self, tmp_path: Path) -> None:
        path = tmp_path / "sparse.png"
        with path.open("wb") as file:
            file.truncate(2**31)
        with pytest.raises(ImageError, match="2147483648 bytes"):
            load_image(path)

    def test_errors_name_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "broken.png"
        path.write_bytes(b"8BPS")
        with pytest.raises(ImageError, match=r"broken\.png: this is a Photoshop document; convert it"):
            load_image(path)
        with pytest.raises(ImageError, match="image bytes: the file is empty"):
            load_image(b"")

    def test_suffixes_are_lower_case_and_of_the_five_formats(self) -> None:
        assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"} <= set(IMAGE_SUFFIXES)
        assert all(suffix == suffix.lower() for suffix in IMAGE_SUFFIXES)


class TestPixelLimit:
    def test_the_limit_is_inclusive(self) -> None:
        data = encode(Image.fromarray(GRADIENT), "BMP")
        assert load_image(data, pixel_limit=63).shape == (7, 9, 3)
        with pytest.raises(ImageError, match="9 x 7 pixels, over the limit of 62"):
            load_image(data, pixel_limit=62)

    def test_it_is_checked_before_decoding(self) -> None:
        bomb = png((60_000, 60_000), 8, 2, [b""])
        with pytest.raises(ImageError, match="over the limit of 200000000"):
            load_image(bomb)

    def test_a_size_opencv_refuses_is_an_image_error(self) -> None:
        with pytest.raises(ImageError, match="OpenCV cannot decode"):
            load_image(png((60_000, 60_000), 8, 2, [b""]), pixel_limit=2**40)

    def test_a_limit_below_one_is_refused(self) -> None:
        with pytest.raises(UsageError, match="pixel_limit=0"):
            load_image(GRADIENT, pixel_limit=0)


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize(
        ("kind", "mode"),
        [
            ("JPEG", "RGB"),
            ("JPEG", "L"),
            ("PNG", "RGB"),
            ("PNG", "RGBA"),
            ("PNG", "L"),
            ("WEBP", "RGB"),
            ("WEBP", "RGBA"),
        ],
    )
    def test_exif(self, kind: str, mode: str, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x112] = orientation
        options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
        stored = Image.fromarray(GRADIENT).convert(mode)
        data = encode(stored, kind, exif=exif, **options)
        assert inspect_header(data).orientation == orientation
        assert (inspect_header(data).width, inspect_header(data).height) == (9, 7)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        image = load_image(data)
        assert image.flags.c_contiguous
        np.testing.assert_array_equal(image, np.asarray(upright))

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("depth", [8, 16])
    def test_tiff(self, depth: int, orientation: int) -> None:
        stored = GRADIENT.astype(np.uint16) * 257 if depth == 16 else GRADIENT
        kind = {258: [depth] * 3, 262: [2], 277: [3], 274: [orientation]}
        expected = {
            1: GRADIENT,
            2: GRADIENT[:, ::-1],
            3: GRADIENT[::-1, ::-1],
            4: GRADIENT[::-1],
            5: GRADIENT.transpose(1, 0, 2),
            6: np.rot90(GRADIENT, -1),
            7: GRADIENT[::-1, ::-1].transpose(1, 0, 2),
            8: np.rot90(GRADIENT),
        }
        np.testing.assert_array_equal(load_image(tiff((9, 7), kind, stored.tobytes())), expected[orientation])

    def test_a_meaningless_value_is_upright(self) -> None:
        exif = Image.Exif()
        exif[0x112] = 9
        np.testing.assert_array_equal(load_image(encode(Image.fromarray(GRADIENT), "PNG", exif=exif)), GRADIENT)


class TestAlpha:
    """Over white: 255 - a * (255 - c) / 255, rounded to nearest."""

    COLORS = np.array([[[200, 100, 0, 255], [200, 100, 0, 128], [200, 100, 0, 1], [200, 100, 0, 0]]], np.uint8)
    EXPECTED = ([200, 100, 0], [227, 177, 127], [255, 254, 254], WHITE)

    @pytest.mark.parametrize("kind", ["PNG", "WEBP"])
    def test_channel(self, kind: str) -> None:
        options: dict[str, Any] = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        assert pixels_of(encode(Image.fromarray(self.COLORS), kind, **options)) == [list(self.EXPECTED)]

    def test_16_bit_keeps_the_upper_byte_of_colour_and_alpha(self) -> None:
        samples = self.COLORS.astype(np.uint16) * 256 + 255
        assert pixels_of(png((4, 1), 16, 6, [samples.astype(">u2").tobytes()])) == [list(self.EXPECTED)]
        kind = {258: [16] * 4, 262: [2], 277: [4], 338: [2]}
        assert pixels_of(tiff((4, 1), kind, samples.tobytes())) == [list(self.EXPECTED)]

    def test_gray_with_alpha(self) -> None:
        assert pixels_of(png((3, 1), 8, 4, [bytes([100, 255, 100, 128, 100, 0])])) == [gray(100, 177, 255)]

    def test_every_colour_and_alpha_is_rounded_to_nearest(self) -> None:
        color, alpha = np.meshgrid(np.arange(256), np.arange(256))
        stored = np.dstack([color] * 3 + [alpha]).astype(np.uint8)
        exact = (color * alpha + 255 * (255 - alpha)) / 255
        for data in (
            encode(Image.fromarray(stored), "PNG"),
            tiff((256, 256), {258: [8] * 4, 262: [2], 277: [4], 338: [2]}, stored.tobytes()),
        ):
            np.testing.assert_array_equal(load_image(data), np.rint(exact)[..., None].repeat(3, axis=2))

    def test_premultiplied_tiff(self) -> None:
        stored = np.array([[[100, 50, 0, 128], [100, 50, 0, 255], [0, 0, 0, 0], [9, 9, 9, 250]]], np.uint8)
        expected = [[[227, 177, 127], [100, 50, 0], WHITE, [14, 14, 14]]]
        kind = {262: [2], 277: [4], 338: [1]}
        assert pixels_of(tiff((4, 1), kind | {258: [8] * 4}, stored.tobytes())) == expected
        assert pixels_of(tiff((4, 1), kind | {258: [16] * 4}, (stored.astype(np.uint16) * 256).tobytes())) == expected

    def test_palette_with_alpha(self) -> None:
        palette = (b"PLTE", bytes([200, 100, 0, 10, 20, 30]))
        data = png((3, 1), 8, 3, [bytes([0, 1, 0])], palette, (b"tRNS", bytes([128])))
        assert pixels_of(data) == [[[227, 177, 127], [10, 20, 30], [227, 177, 127]]]

    @pytest.mark.parametrize("depth", [1, 2, 4, 8])
    @pytest.mark.parametrize("interlaced", [False, True])
    @pytest.mark.parametrize("transparent", [0, 1, 2])
    def test_every_colour_of_a_palette_with_alpha(self, depth: int, interlaced: bool, transparent: int) -> None:
        generator = np.random.default_rng(depth)
        colors = generator.integers(0, 256, (1 << depth, 3))
        alpha = np.full(1 << depth, 255)
        alpha[:transparent] = generator.integers(0, 255, transparent)
        indices = generator.integers(0, 1 << depth, (1, 23))
        bits = (indices[..., None] >> np.arange(depth - 1, -1, -1) & 1).astype(np.uint8).reshape(1, -1)
        row = np.packbits(bits, axis=1).tobytes()
        chunks = [(b"PLTE", colors.astype(np.uint8).tobytes())]
        chunks += [(b"tRNS", alpha[:transparent].astype(np.uint8).tobytes())] * (transparent > 0)
        data = png((23, 1), depth, 3, [row], *chunks)
        if interlaced:  # of the passes of Adam7, one row has the first, second, fourth and sixth
            passes = [indices[0, start::step] for start, step in ((0, 8), (4, 8), (2, 4), (1, 2))]
            spread = [(part[:, None] >> np.arange(depth - 1, -1, -1) & 1).astype(np.uint8) for part in passes]
            pixels = zlib.compress(b"".join(b"\0" + np.packbits(part.reshape(-1)).tobytes() for part in spread))
            start = data[:8]
            header = struct.pack(">IIBBBBB", 23, 1, depth, 3, 0, 0, 1)
            for kind, body in ((b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")):
                start += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            data = start
        expected = np.rint((colors * alpha[:, None] + 255 * (255 - alpha[:, None])) / 255).astype(int)[indices]
        assert pixels_of(data) == expected.tolist()

    @pytest.mark.parametrize(("depth", "row"), [(2, b"\x18"), (4, b"\x01\x20"), (8, b"\0\1\2")])
    @pytest.mark.parametrize("transparent", [[], [(b"tRNS", b"\x80")]])
    def test_a_colour_beyond_the_palette_is_damage(
        self, depth: int, row: bytes, transparent: list[tuple[bytes, bytes]]
    ) -> None:
        three, two = (b"PLTE", bytes(range(9))), (b"PLTE", bytes(range(6)))
        assert load_image(png((3, 1), depth, 3, [row], three, *transparent)).shape == (1, 3, 3)
        with pytest.raises(ImageError, match="a colour beyond the 2 of its palette"):
            load_image(png((3, 1), depth, 3, [row], two, *transparent))

    def test_a_palette_that_is_missing_or_impossible_is_damage(self) -> None:
        palette = (b"PLTE", bytes(6))
        for chunks in ([], [palette, palette], [(b"PLTE", b"")], [(b"PLTE", bytes(5))], [(b"PLTE", bytes(771))]):
            with pytest.raises(ImageError, match="palette"):
                load_image(png((3, 1), 8, 3, [bytes(3)], *chunks))

    @pytest.mark.parametrize(
        ("depth", "row", "key", "expected"),
        [
            (1, b"\xa0", 1, [255, 0, 255]),
            (2, b"\x1b", 2, [0, 85, 255, 255]),
            (4, b"\x0f\x50", 5, [0, 255, 255]),
            (8, bytes([90, 91]), 90, [255, 91]),
            (16, b"\x12\x34\x12\x35", 0x1234, [255, 0x12]),
        ],
    )
    def test_transparent_gray(self, depth: int, row: bytes, key: int, expected: list[int]) -> None:
        data = png((len(expected), 1), depth, 0, [row], (b"tRNS", struct.pack(">H", key)))
        assert pixels_of(data) == [gray(*expected)]

    @pytest.mark.parametrize(
        ("depth", "row", "key", "expected"),
        [(1, b"\xa0", 0x102, [255, 255, 255]), (4, b"\x0f\x50", 0xFFF5, [0, 255, 255]), (8, b"\5\6", 0x105, [255, 6])],
    )
    def test_bits_beyond_the_depth_of_a_transparent_gray_mean_nothing(
        self, depth: int, row: bytes, key: int, expected: list[int]
    ) -> None:
        assert pixels_of(png((len(expected), 1), depth, 0, [row], (b"tRNS", struct.pack(">H", key)))) == [
            gray(*expected)
        ]

    def test_the_first_possible_transparent_gray_counts_if_it_comes_before_the_pixels(self) -> None:
        key, other = (b"tRNS", struct.pack(">H", 90)), (b"tRNS", struct.pack(">H", 91))
        row = bytes([90, 91])
        assert pixels_of(png((2, 1), 8, 0, [row], key, other)) == [gray(255, 91)]
        for length in (1, 3, 4):
            assert pixels_of(png((2, 1), 8, 0, [row], (b"tRNS", bytes(length)))) == [gray(90, 91)]
        data = png((2, 1), 8, 0, [row], key)
        at, length = data.index(b"tRNS") - 4, 14
        behind = data[:at] + data[at + length : -12] + data[at : at + length] + data[-12:]
        assert pixels_of(behind) == [gray(90, 91)]

    @pytest.mark.parametrize(("depth", "scale"), [(8, 1), (16, 256)])
    def test_transparent_colour(self, depth: int, scale: int) -> None:
        stored = (np.array([1, 2, 3, 1, 2, 4]) * scale).astype(f">u{depth // 8}")
        key = (b"tRNS", struct.pack(">3H", *(value * scale for value in (1, 2, 3))))
        assert pixels_of(png((2, 1), depth, 2, [stored.tobytes()], key)) == [[WHITE, [1, 2, 4]]]

    def test_transparency_is_turned_too(self) -> None:
        exif = (b"eXIf", b"II\x2a\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, 6, 0, 0))
        data = png((2, 1), 8, 0, [bytes([90, 91])], (b"tRNS", struct.pack(">H", 90)), exif)
        assert pixels_of(data) == [gray(255), gray(91)]

    def test_bmp_alpha_counts_only_where_the_header_declares_it(self) -> None:
        bgra = bytes([0, 100, 200, 128])
        undeclared = struct.pack("<IIiiII", 0, 0, 0, 0, 0, 0)
        assert pixels_of(bmp((1, 1), 32, undeclared, bgra)) == [[[200, 100, 0]]]
        masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        declared = struct.pack("<IIiiII", 3, 4, 0, 0, 0, 0) + masks + b"BGRs" + bytes(64)
        assert pixels_of(bmp((1, 1), 32, declared, bgra)) == [[[227, 177, 127]]]


class TestSamples:
    def test_gray_becomes_three_equal_channels(self) -> None:
        image = Image.fromarray(np.array([[0, 77, 255]], np.uint8))
        for kind in ("PNG", "BMP", "TIFF"):
            assert pixels_of(encode(image, kind)) == [gray(0, 77, 255)]
        flat = load_image(encode(Image.new("L", (16, 8), 77), "JPEG"))
        assert (flat == 77).all()
        assert flat.shape == (8, 16, 3)

    @pytest.mark.parametrize(
        ("depth", "row", "expected"),
        [
            (1, b"\xa0", [255, 0, 255]),
            (2, b"\x1b", [0, 85, 170, 255]),
            (4, b"\x0f\x50", [0, 255, 85]),
            (16, b"\x00\xff\x01\x00\xfe\xff\xff\x00", [0, 1, 254, 255]),
        ],
    )
    def test_gray_of_other_depths(self, depth: int, row: bytes, expected: list[int]) -> None:
        size = (len(expected), 1)
        assert pixels_of(png(size, depth, 0, [row])) == [gray(*expected)]
        assert pixels_of(tiff(size, {258: [depth], 262: [1], 277: [1]}, row, order=">")) == [gray(*expected)]

    @pytest.mark.parametrize("depth", [1, 2, 4, 8])
    def test_gray_with_white_as_zero(self, depth: int) -> None:
        row = {1: b"\xa0", 2: b"\xcc", 4: b"\xf0\xf0", 8: bytes([255, 0, 255])}[depth]
        assert pixels_of(tiff((3, 1), {258: [depth], 262: [0], 277: [1]}, row)) == [gray(0, 255, 0)]

    def test_16_bit_keeps_the_upper_byte(self) -> None:
        samples = np.array([[[0x00FF, 0x0100, 0x80FF], [0x1234, 0xFE00, 0xFFFF]]], np.uint16)
        expected = [[[0, 1, 0x80], [0x12, 0xFE, 255]]]
        assert pixels_of(png((2, 1), 16, 2, [samples.astype(">u2").tobytes()])) == expected
        kind = {258: [16] * 3, 262: [2], 277: [3]}
        assert pixels_of(tiff((2, 1), kind, samples.tobytes())) == expected
        assert pixels_of(tiff((2, 1), kind, samples.astype(">u2").tobytes(), order=">")) == expected

    def test_8_bit_made_16_bit_comes_back_exactly(self) -> None:
        kind = {258: [16] * 3, 262: [2], 277: [3]}
        wide = GRADIENT.astype(np.uint16) * 257
        np.testing.assert_array_equal(load_image(tiff((9, 7), kind, wide.tobytes())), GRADIENT)

    @pytest.mark.parametrize("depth", [1, 2, 4, 8])
    def test_palette(self, depth: int) -> None:
        palette = (b"PLTE", bytes([200, 100, 0, 10, 20, 30]))
        row = {1: b"\x40", 2: b"\x10", 4: b"\x01\x00", 8: b"\0\1\0"}[depth]
        expected = [[[200, 100, 0], [10, 20, 30], [200, 100, 0]]]
        assert pixels_of(png((3, 1), depth, 3, [row], palette)) == expected
        colors = [
            value * 257 for channel in ([200, 10], [100, 20], [0, 30]) for value in channel + [0] * (2**depth - 2)
        ]
        assert pixels_of(tiff((3, 1), {258: [depth], 262: [3], 277: [1], 320: colors}, row)) == expected

    def test_bmp_palette_and_bottom_up_and_top_down_rows(self) -> None:
        rest = struct.pack("<IIiiII", 0, 0, 0, 0, 2, 0) + bytes([0, 100, 200, 0, 30, 20, 10, 0])
        first, second = [[200, 100, 0]], [[10, 20, 30]]
        data = bmp((1, 2), 8, rest, bytes([0, 0, 0, 0, 1, 0, 0, 0]))
        data = data[:10] + struct.pack("<II", 14 + 40 + 8, 40) + data[18:]
        assert pixels_of(data) == [second, first]
        assert pixels_of(data[:22] + struct.pack("<i", -2) + data[26:]) == [first, second]

    @pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
    def test_lossless_tiff_compressions(self, compression: str) -> None:
        data = encode(Image.fromarray(GRADIENT), "TIFF", compression=compression)
        np.testing.assert_array_equal(load_image(data), GRADIENT)

    def test_lossless_webp(self) -> None:
        assert pixels_of(encode(Image.fromarray(GRADIENT), "WEBP", lossless=True)) == GRADIENT.tolist()

    @pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
    def test_cmyk_is_mixed_as_printed_inks(self, kind: str) -> None:
        inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0]]], np.uint8)
        inks = np.concatenate([inks, np.array([[[0, 0, 0, 255], [0, 0, 0, 128], [128, 0, 0, 64], [9, 99, 199, 20]]])])
        blocks = inks.repeat(8, axis=0).repeat(8, axis=1).astype(np.uint8)
        options: dict[str, Any] = {"quality": 100} if kind == "JPEG" else {}
        data = encode(Image.frombytes("CMYK", (32, 16), blocks.tobytes()), kind, **options)
        printed = (255 - inks[..., :3].astype(int)) * (255 - inks[..., 3:].astype(int)) / 255
        found = load_image(data)[4::8, 4::8].astype(float)
        assert np.abs(found - printed).max() <= JPEG_TOLERANCE + 0.5
        with Image.open(io.BytesIO(data)) as image:
            pillow = np.asarray(image.convert("RGB")).astype(int)
        assert np.abs(load_image(data).astype(int) - pillow).max() <= JPEG_TOLERANCE

    def test_jpeg_agrees_with_pillow(self) -> None:
        path = Path(__file__).parents[3] / "examples" / "photographs" / "brushes.jpg"
        with Image.open(path) as image:
            np.testing.assert_array_equal(load_image(path), np.asarray(image.convert("RGB")))


class TestDamage:
    """Seeded cuts and flips of one file of each kind: an image of the header's size or an ImageError, nothing else."""

    PHOTO = Image.fromarray(np.random.default_rng(1).integers(0, 256, (37, 53, 4), dtype=np.uint8))
    FILES: ClassVar = {
        "jpeg": encode(PHOTO.convert("RGB"), "JPEG"),
        "progressive": encode(PHOTO.convert("RGB"), "JPEG", progressive=True),
        "cmyk": encode(PHOTO.convert("CMYK"), "JPEG"),
        "png": encode(PHOTO, "PNG"),
        "webp": encode(PHOTO, "WEBP"),
        "lossless_webp": encode(PHOTO, "WEBP", lossless=True),
        "bmp": encode(PHOTO.convert("RGB"), "BMP"),
        "tiff": encode(PHOTO, "TIFF"),
        "lzw": encode(PHOTO.convert("RGB"), "TIFF", compression="tiff_lzw"),
        "tiff_jpeg": encode(PHOTO.convert("RGB"), "TIFF", compression="jpeg"),
    }

    @pytest.mark.parametrize("name", FILES)
    def test_fuzz(self, name: str) -> None:
        whole, generator = self.FILES[name], random.Random(name)
        assert load_image(whole).shape == (37, 53, 3)
        refused = 0
        for round_ in range(200):
            data = bytearray(whole)
            match round_ % 4:
                case 0:
                    del data[generator.randrange(len(data)) :]
                case 1:
                    data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
                case 2:
                    data[generator.randrange(min(len(data), 64))] = generator.randrange(256)
                case _:
                    start = generator.randrange(len(data))
                    del data[start : start + generator.randrange(1, 40)]
            try:
                image = load_image(bytes(data), pixel_limit=10**6)
            except ImageError:
                refused += 1
            else:
                header = inspect_header(bytes(data))
                assert image.shape in ((header.height, header.width, 3), (header.width, header.height, 3))
        assert refused >= 50  # at the least every cut

    @pytest.mark.parametrize("name", ["jpeg", "progressive", "png", "webp", "bmp", "lzw"])
    def test_a_cut_file_never_reaches_the_decoder(self, name: str, capfd: pytest.CaptureFixture[str]) -> None:
        whole = self.FILES[name]
        for step in range(1, 20):
            with pytest.raises(ImageError):
                load_image(whole[: len(whole) * step // 20])
        assert capfd.readouterr().err == ""

    @pytest.mark.parametrize(("mode", "options"), [("RGB", {}), ("RGB", {"progressive": True}), ("CMYK", {})])
    def test_damage_inside_a_jpeg_is_noticed(
        self, mode: str, options: dict[str, Any], capfd: pytest.CaptureFixture[str]
    ) -> None:
        with Image.open(PHOTOGRAPHS / "stream.jpg") as photograph:
            whole = encode(photograph.convert(mode), "JPEG", quality=90, **options)
        generator, refused = random.Random(0), 0
        for _ in range(20):
            data = bytearray(whole)
            start = generator.randrange(2000, len(data) - 600)
            data[start : start + 512] = bytes(512)
            try:
                load_image(bytes(data))
            except ImageError:
                refused += 1
        assert refused >= 15
        assert capfd.readouterr().err == ""

    def test_png_pixels_that_do_not_inflate_are_refused(self) -> None:
        with pytest.raises(ImageError, match="cannot be decoded"):
            load_image(png((4, 4), 8, 2, [bytes(12)] * 2))


def test_threads_decode_the_same_pixels() -> None:
    files = list(TestDamage.FILES.values())
    alone = [load_image(data).tobytes() for data in files]
    with ThreadPoolExecutor(4) as pool:
        together = [image.tobytes() for image in pool.map(load_image, files * 8)]
    assert together == alone * 8


def test_cv2_is_loaded_by_the_first_decode_only() -> None:
    program = """if True:
        import sys
        import numpy
        from iqa_runtime.images.loading import load_image
        load_image(numpy.zeros((2, 2, 3), numpy.uint8))
        try:
            load_image(b"GIF89a")
        except ValueError:
            pass
        assert "cv2" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", program], check=True)
