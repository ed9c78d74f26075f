"""What the header of a JPEG XL file says: its colours above all, and what is refused undecoded."""

import struct
import sys
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray

from iqa_runtime.errors import ImageError
from iqa_runtime.images.formats import inspect_header
from iqa_runtime.images.loading import load_image, load_with_color
from jpegxl_files import Numbers, box, boxed, decoded, encoded, frame, header, noise, solid, space, with_header

DISPLAY_P3 = (11, 13)  # primaries and transfer
CURVE_TOLERANCE = 1  # levels: a curve of 256 integers beside the formula


def png(pixels: NDArray[np.uint8], *chunks: tuple[bytes, bytes]) -> bytes:
    """Write a PNG with chunks of ours before its pixels."""
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    ihdr = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 0)
    parts = [(b"IHDR", ihdr), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def test_a_header_with_everything_in_it_is_passed_over() -> None:
    data = with_header(encoded(noise()), full=True)
    assert np.array_equal(decoded(data), noise())
    assert np.array_equal(load_image(data), noise())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_are_those_of_libjxl(orientation: int) -> None:
    data = with_header(encoded(noise()), orientation=orientation)
    assert np.array_equal(load_image(data), decoded(data, keeporientation=False))
    assert inspect_header(data).orientation == orientation


class TestColors:
    @pytest.mark.parametrize(
        ("primaries", "white", "code", "transfer", "says"),
        [
            (1, 1, 1, 13, "sRGB"),
            (*(11, 1, 12), 13, "Display P3 -> sRGB"),
            (*(9, 1, 9), 1, "Rec. 2020 -> sRGB"),
            (*(1, 1, 1), 1, "Rec. 709 -> sRGB"),
            (*(11, 11, 11), 13, "RGB profile -> sRGB"),
            (*(1, 1, 1), 8, "RGB profile -> sRGB"),
        ],
    )
    def test_code_points_are_those_of_png(
        self, primaries: int, white: int, code: int, transfer: int, says: str
    ) -> None:
        pixels = noise()
        found = load_with_color(with_header(encoded(pixels), colors=space(primaries, transfer, white=white)))
        assert found.color == says
        same = load_with_color(png(pixels, (b"cICP", bytes([code, transfer, 0, 1]))))
        assert np.array_equal(found.pixels, same.pixels)

    def test_numbers_are_those_of_a_profile(self) -> None:
        pixels = noise()
        adobe = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
        found = load_with_color(with_header(encoded(pixels), colors=space(adobe, 256 / 563)))
        assert found.color == "Adobe RGB -> sRGB"
        chromaticities = [31270, 32900, *(round(value * 100_000) for value in adobe)]
        chunks = ((b"gAMA", struct.pack(">I", 45471)), (b"cHRM", struct.pack(">8I", *chromaticities)))
        # There a gamma of about 1 / 2.2 means the curve of sRGB.
        same = load_with_color(png(pixels, *chunks))
        assert np.array_equal(load_image(with_header(encoded(pixels), colors=space(adobe, 13))), same.pixels)

    def test_cinema_has_a_power(self) -> None:
        pixels = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
        data = with_header(encoded(pixels), width=256, height=1, colors=space(1, 17))
        light = (pixels / 255) ** 2.6
        expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
        assert np.abs(load_image(data) - expected).max() <= CURVE_TOLERANCE

    def test_gray_has_a_curve(self) -> None:
        pixels = np.arange(256, dtype=np.uint8)[None]
        data = with_header(encoded(pixels), width=256, height=1, colors=space(transfer=1 / 1.8, kind=1))
        found = load_with_color(data)
        assert found.color == "gray profile -> sRGB"
        light = (pixels[..., None] / 255) ** 1.8
        expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
        assert np.abs(found.pixels - expected).max() <= CURVE_TOLERANCE

    def test_lossy_ones_are_converted_from_what_they_are_decoded_to(self) -> None:
        pixels = np.full((64, 64, 3), (200, 100, 50), np.uint8)
        data = encoded(pixels, distance=0.5)
        other = with_header(data, width=64, height=64, xyb=True, colors=space(*DISPLAY_P3))
        # The same light by other primaries, which is the same sRGB in the end.
        assert not np.array_equal(decoded(other), decoded(data))
        assert np.abs(load_image(other).astype(int) - load_image(data)).max() <= CURVE_TOLERANCE
        assert load_with_color(other).color == "Display P3 -> sRGB"

    @pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
    def test_hdr_is_refused(self, transfer: int, name: str) -> None:
        with pytest.raises(ImageError, match=rf"HDR \({name}\).*; save it in sRGB"):
            load_image(with_header(encoded(noise()), colors=space(9, transfer)))

    @pytest.mark.parametrize(
        ("colors", "says"),
        [
            (space(icc=1), "ICC profile in its coded data.* make a PNG of it with djxl"),
            (space(icc=1, kind=1), "ICC profile in its coded data"),
            (space(kind=2), "neither RGB nor gray"),
            (space(kind=1, white=10), "gray that is not for D65"),
            (space(5), "code points 1, 5"),
            (space(white=3), "code points 3, 1"),
            (space(transfer=4), "transfer of code point 4"),
            (space(transfer=0.0), "exponent of 0"),
        ],
    )
    def test_others_are_refused(self, colors: Numbers, says: str) -> None:
        with pytest.raises(ImageError, match=says):
            inspect_header(with_header(encoded(noise()), colors=colors))


class TestRefused:
    def test_other_samples(self) -> None:
        with pytest.raises(ImageError, match="of 17 bits; save it with 8 or 16"):
            inspect_header(with_header(encoded(noise()), depth=17))
        with pytest.raises(ImageError, match="with a preview"):
            inspect_header(with_header(encoded(noise()), preview=True))

    @pytest.mark.parametrize(
        "channels",
        [
            [(2, 2), (0, 4), (1, 1), (1, 1)],  # transparency twice
            [(1, 2), (0, 1), (1, 2), (0, 1), (0, 2), (0, 2), (0, 2)],  # depth
            [(1, 2), (0, 1), (2, 2), (2, 4), (0, 1), (0, 2), (0, 2), (0, 2)],  # black
        ],
    )
    def test_other_channels(self, channels: Numbers) -> None:
        with pytest.raises(ImageError, match="channels beyond colours and transparency"):
            inspect_header(with_header(encoded(noise()), channels=channels))

    def test_what_no_codestream_is(self) -> None:
        with pytest.raises(ImageError, match="does not begin as one"):
            inspect_header(boxed(box(b"jxlc", b"\xff\xd8\xff\xe0")))
        with pytest.raises(ImageError, match="ends early"):
            inspect_header(b"\xff\x0a\xfa\x1f")

    def test_more_pixels_than_allowed_undecoded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = encoded(np.zeros((2000, 3000, 3), np.uint8))
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
        assert len(data) < 10_000
        with pytest.raises(ImageError, match="3000 x 2000 pixels, over the limit of 5999999"):
            load_image(data, pixel_limit=5_999_999)

    def test_the_largest_sizes_are_told_without_counting_their_parts(self) -> None:
        data = header(1 << 30, 1 << 30) + frame(solid(1, 2, 3)) + bytes(10_000)
        assert inspect_header(data).width == 1 << 30
        with pytest.raises(ImageError, match="1073741824 x 1073741824 pixels, over the limit"):
            load_image(data)
