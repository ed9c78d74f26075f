"""JPEG XL files: headers written bit by bit, before frames that imagecodecs has coded without loss, and its pixels."""

import io
import struct
import sys
import zlib
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from iqa_runtime import Scorer
from iqa_runtime.errors import ImageError
from iqa_runtime.files.inputs import expand_inputs
from iqa_runtime.images.formats import inspect_header
from iqa_runtime.images.jpegxl_header import read_codestream_header
from iqa_runtime.images.loading import load_image, load_with_color

WIDTH, HEIGHT = 90, 61
SIGNATURE = b"\0\0\0\x0cJXL \r\n\x87\n"
HALF_OF_255 = 0x5BF8  # binary16
DISPLAY_P3 = (11, 13)  # primaries and transfer
JPEG_TOLERANCE = 1  # level on average: libjxl decodes coefficients in floats, and smooths chrominance otherwise
CURVE_TOLERANCE = 1  # levels: a curve of 256 integers beside the formula


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(4).integers(0, 256, shape or (HEIGHT, WIDTH, 3), np.uint8)


def encoded(pixels: NDArray[Any], **options: Any) -> bytes:
    imagecodecs = pytest.importorskip("imagecodecs")
    data: bytes = imagecodecs.jpegxl_encode(pixels, **{"effort": 1} | options)
    return data


def decoded(data: bytes, **options: Any) -> NDArray[Any]:
    pixels: NDArray[Any] = pytest.importorskip("imagecodecs").jpegxl_decode(data, index=0, **options)
    return pixels


def stream_of(data: bytes) -> bytes:
    """Return the codestream of a file that imagecodecs has written, in boxes or not."""
    return data[data.index(b"jxlc") + 4 :] if data.startswith(SIGNATURE) else data


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def boxed(*boxes: bytes) -> bytes:
    return SIGNATURE + box(b"ftyp", b"jxl \0\0\0\0jxl ") + b"".join(boxes)


class Bits:
    """Bits, the low one of a byte first."""

    def __init__(self, *numbers: tuple[int, int]) -> None:
        self.value = self.count = 0
        self.put(*numbers)

    def put(self, *numbers: tuple[int, int]) -> "Bits":
        """Append numbers of so many bits."""
        for number, bits in numbers:
            self.value |= number << self.count
            self.count += bits
        return self

    def bytes(self) -> bytes:
        return self.value.to_bytes(-(-self.count // 8), "little")


Numbers = list[tuple[int, int]]
SRGB: Numbers = [(1, 1)]


def side(length: int) -> Numbers:
    return [(3, 2), (length - 1, 30)]


def code_point(value: int) -> Numbers:
    return [(value, 2)] if value < 2 else [(2, 2), (value - 2, 4)] if value < 18 else [(3, 2), (value - 18, 6)]


def xy(*values: float) -> Numbers:
    return [pair for value in values for pair in packed(round(value * 1e6))]


def packed(value: int) -> Numbers:
    """Code a number of a sign, which is positive here."""
    least = next(least for least in (2097152, 1048576, 524288, 0) if 2 * value >= least)
    kind, bits = {0: (0, 19), 524288: (1, 19), 1048576: (2, 20), 2097152: (3, 21)}[least]
    return [(kind, 2), (2 * value - least, bits)]


def space(
    primaries: int | tuple[float, ...] = 1, transfer: int | float = 13, *, white: int = 1, kind: int = 0, icc: int = 0
) -> Numbers:
    """Say what colours are; a transfer that is no whole number is an exponent."""
    numbers: Numbers = [(0, 1), (icc, 1), *code_point(kind)]
    if icc:
        return numbers
    numbers += code_point(white)
    if kind == 0:
        numbers += code_point(2) + xy(*primaries) if isinstance(primaries, tuple) else code_point(primaries)
    is_exponent = isinstance(transfer, float)
    numbers += [(1, 1), (round(transfer * 1e7), 24)] if is_exponent else [(0, 1), *code_point(int(transfer))]
    return [*numbers, *code_point(1)]


def header(
    width: int = WIDTH,
    height: int = HEIGHT,
    *,
    orientation: int = 1,
    depth: int = 8,
    alpha: str = "none",
    xyb: bool = False,
    colors: Numbers = SRGB,
    animated: bool = False,
    preview: bool = False,
    channels: Numbers | None = None,
    full: bool = False,
) -> bytes:
    """Write a header; a `full` one has everything in it that counts for nothing here."""
    bits = Bits((0x0AFF, 16), (0, 1), *side(height), (0, 3), *side(width), (0, 1), (1, 1))
    shown_at: Numbers = [(1, 1), (1, 1), (4, 5), (3, 3)] if full else [(0, 1)]
    bits.put((orientation - 1, 3), *shown_at, (int(preview), 1), (int(animated), 1))
    if animated:
        bits.put((0, 2), (0, 2), (0, 2), (0, 1))
    bits.put((0, 1), (3, 2), (depth - 1, 6), (1, 1))
    straight: Numbers = [(1, 2), (1, 1)]
    premultiplied: Numbers = [(1, 2), (0, 1), (0, 2), (0, 1), (0, 2), (0, 2), (0, 2), (1, 1)]
    bits.put(*(channels or {"none": [(0, 2)], "straight": straight, "premultiplied": premultiplied}[alpha]))
    brightness: Numbers = [(0, 1), (HALF_OF_255, 16), (0, 16), (0, 1), (0, 16)] if full else [(1, 1)]
    extension: Numbers = [(1, 2), (0, 4), (2, 2), (3, 8), (0xABCDE, 20)] if full else [(0, 2)]
    transform: Numbers = [(0, 1), (1, 3), *[(0, 16)] * 15] if full else [(1, 1)]
    bits.put((int(xyb), 1), *colors, *brightness, *extension, *transform)
    return bits.bytes()


def with_header(data: bytes, **options: Any) -> bytes:
    """Put another header before the frames of a file."""
    stream = stream_of(data)
    return header(**options) + stream[read_codestream_header(stream).end :]


def section_of(data: bytes, frame: int) -> bytes:
    """Return the one section of a lossless file whose frame has a header of so many bits, contents included."""
    stream = stream_of(data)
    start = read_codestream_header(stream).end + -(-frame // 8)
    number = int.from_bytes(stream[start : start + 4], "little")
    bits, least = ((10, 0), (14, 1024), (22, 17408), (30, 4211712))[number & 3]
    size = (number >> 2 & (1 << bits) - 1) + least
    assert len(stream) == start + -(-(2 + bits) // 8) + size
    return stream[-size:]


def frame(
    section: bytes,
    *,
    kind: int = 0,
    crop: tuple[int, int, int, int] | None = None,
    mode: int = 0,
    duration: int | None = None,
    last: bool = True,
    slot: int = 0,
    permuted: int = 0,
) -> bytes:
    """Write a frame of RGB without loss: where it lies (left, top, width, height), and how it is laid over others."""
    bits = Bits((0, 1), (kind, 2), (1, 1), (0, 2), (0, 1), (0, 2), (1, 2), *([] if kind == 2 else [(0, 2)]))
    bits.put((int(crop is not None), 1))
    if crop is not None:
        for value in ([] if kind == 2 else [2 * place for place in crop[:2]]) + list(crop[2:]):
            bits.put((0, 2), (value, 8)) if value < 256 else bits.put((3, 2), (value - 18688, 30))
    if kind != 2:
        bits.put((mode, 2))
        if mode or crop:
            bits.put((1, 2))  # laid over what is in the first slot
        if duration is not None:
            bits.put((2, 2), (duration, 8))
        bits.put((int(last), 1))
    if not last or kind == 2:
        bits.put((slot, 2))
        if kind == 2 or not (crop or mode or (duration and not slot)):
            bits.put((int(kind == 2), 1))
    bits.put((0, 2), (0, 1), (0, 1), (0, 2), (0, 2), (0, 2), (permuted, 1))
    assert len(section) < 1024
    return bits.bytes() + Bits((0, 2), (len(section), 10)).bytes() + section


LOSSLESS_FRAME_BITS = 28
"""Of the header of a frame as the encoder writes it for RGB, with the one bit of its table of contents."""


def png(pixels: NDArray[np.uint8], *chunks: tuple[bytes, bytes]) -> bytes:
    """Write a PNG with chunks of ours before its pixels."""
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    ihdr = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 0)
    parts = [(b"IHDR", ihdr), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def over_white(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    color, alpha = pixels[..., :-1].astype(int), pixels[..., -1:].astype(int)
    return ((color * alpha + 255 * (255 - alpha) + 127) // 255).repeat(3 if color.shape[2] == 1 else 1, axis=2)


def light_of(values: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Linearise sRGB values (IEC 61966-2-1)."""
    scaled = values / 255
    return np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize(
    "shape", [(HEIGHT, WIDTH), (1, 1), (8, 8), (256, 8), (96, 128), (360, 640), (600, 300), (5, 700)]
)
@pytest.mark.parametrize("usecontainer", [False, True])
def test_lossless_pixels_come_back(shape: tuple[int, int], usecontainer: bool) -> None:
    pixels = noise(*shape, 3)
    data = encoded(pixels, usecontainer=usecontainer)
    assert np.array_equal(load_image(data), pixels)
    found = inspect_header(data)
    assert (found.format, found.height, found.width, found.several) == ("JPEG XL", *shape, None)
    assert load_with_color(data).color == "sRGB"


@pytest.mark.parametrize("effort", [1, 3, 5, 7])
@pytest.mark.parametrize("distance", [0.5, 2.0, 8.0])
def test_lossy_pixels_are_those_of_libjxl(effort: int, distance: float) -> None:
    image = Image.fromarray(noise(20, 30, 3)).resize((600, 400))
    for line in range(0, 400, 25):  # what repeats is coded as patches
        ImageDraw.Draw(image).text((5, line), "the quick brown fox jumps over the lazy dog " * 2)
    data = encoded(np.asarray(image), effort=effort, distance=distance)
    assert np.array_equal(load_image(data), decoded(data))


@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 2}, {"progressive": True}])
def test_a_jpeg_packed_without_loss_is_read(options: dict[str, Any]) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    buffer = io.BytesIO()
    Image.fromarray(noise(20, 30, 3)).resize((600, 400)).save(buffer, "JPEG", **options)
    data = imagecodecs.jpegxl_encode_jpeg(buffer.getvalue())
    assert imagecodecs.jpegxl_decode_jpeg(data) == buffer.getvalue()
    assert np.array_equal(load_image(data), decoded(data))
    assert np.abs(load_image(data).astype(int) - load_image(buffer.getvalue())).mean() < JPEG_TOLERANCE


def test_a_header_with_everything_in_it_is_passed_over() -> None:
    data = with_header(encoded(noise()), full=True)
    assert np.array_equal(decoded(data), noise())
    assert np.array_equal(load_image(data), noise())


def test_gray_is_three_equal_channels() -> None:
    pixels = noise(HEIGHT, WIDTH)
    assert np.array_equal(load_image(encoded(pixels)), pixels[..., None].repeat(3, axis=2))


def test_transparency_is_laid_over_white() -> None:
    pixels = noise(HEIGHT, WIDTH, 4)
    assert np.array_equal(load_image(encoded(pixels)), over_white(pixels))
    gray = noise(HEIGHT, WIDTH, 2)
    assert np.array_equal(load_image(encoded(gray[None], photometric="gray", planar=False)), over_white(gray))


def test_colours_multiplied_by_their_transparency_get_the_rest_of_white() -> None:
    pixels = noise(HEIGHT, WIDTH, 4)
    data = with_header(encoded(pixels), alpha="premultiplied")
    expected = np.minimum(pixels[..., :3].astype(int) + 255 - pixels[..., 3:], 255)
    assert np.array_equal(load_image(data), expected)
    with pytest.raises(ImageError, match="linear colours multiplied by their transparency"):
        load_image(with_header(encoded(pixels), alpha="premultiplied", depth=16, colors=space(1, 8)))


@pytest.mark.parametrize("depth", [9, 10, 12, 16])
def test_of_more_bits_the_upper_8_are_kept(depth: int) -> None:
    samples = np.random.default_rng(1).integers(0, 1 << depth, (HEIGHT, WIDTH, 3)).astype(np.uint16)
    data = with_header(encoded(samples, bitspersample=depth), depth=depth)
    assert np.array_equal(load_image(data), samples >> depth - 8)


@pytest.mark.parametrize("depth", [1, 2, 4, 7])
def test_fewer_bits_are_spread(depth: int) -> None:
    samples = np.random.default_rng(1).integers(0, 1 << depth, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    expected = np.floor(samples.astype(int) * 255 / ((1 << depth) - 1) + 0.5)
    assert np.array_equal(load_image(encoded(samples, bitspersample=depth)), expected)


@pytest.mark.parametrize("kind", ["u2", "f2", "f4"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_light_finer_than_8_bits_gets_the_curve_of_srgb_first(kind: str, channels: int) -> None:
    values = noise(HEIGHT, WIDTH, channels)
    values[..., 3:] = 255
    scale = 65535 if kind == "u2" else 1
    light = light_of(values) * scale
    # imagecodecs says of these types that they are of light.
    data = encoded((np.rint(light) if kind == "u2" else light).astype(kind).squeeze())
    expected = np.broadcast_to(values[..., :3], (HEIGHT, WIDTH, 3))
    assert np.array_equal(load_image(data), expected)
    assert load_with_color(data).color == "sRGB"
    stored = load_with_color(data, color_space="stored").pixels
    upper = np.rint(light).astype(int) >> 8 if kind == "u2" else np.rint(255 * light.astype(kind).astype(float))
    assert np.array_equal(stored, np.broadcast_to(upper[..., :3], (HEIGHT, WIDTH, 3)))


def test_floats_outside_0_to_1_are_refused_but_for_those_of_loss() -> None:
    samples = noise().astype(np.float32) / 255
    for value in (1.001, -0.001, np.nan):
        samples[3, 4, 1] = value
        with pytest.raises(ImageError, match="floating-point samples outside 0 to 1"):
            load_image(encoded(samples))
    edge = np.zeros((64, 64, 3), np.float32)
    edge[:, 30:] = 1
    data = encoded(edge, distance=3.0)
    assert decoded(data).max() > 1
    assert load_image(data)[0, 40].tolist() == [255, 255, 255]
    with pytest.raises(ImageError, match="floating-point samples outside 0 to 1"):
        load_image(encoded(2 * edge, distance=1.0))


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

    def test_a_decoder_may_not_return_another_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = encoded(noise())
        other = SimpleNamespace(
            JPEGXL=SimpleNamespace(available=True),
            jpegxl_version=lambda: "libjxl 0.12.0",
            jpegxl_decode=lambda *_, **__: np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8),
        )
        monkeypatch.setitem(sys.modules, "imagecodecs", other)
        with pytest.raises(ImageError, match="its pixels cannot be decoded"):
            load_image(data)


FILES: dict[str, Any] = {
    "lossless": lambda: encoded(noise(20, 30, 3)),
    "lossy": lambda: encoded(noise(20, 30, 3), distance=1.0, effort=7),
    "groups": lambda: encoded(noise(4, 70, 3).repeat(5, axis=0).repeat(10, axis=1), effort=7),
    "boxes": lambda: encoded(noise(20, 30, 4), usecontainer=True),
    "floats": lambda: encoded(noise(20, 30, 3).astype(np.float32) / 255),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere_is_refused(name: str) -> None:
    data = FILES[name]()
    for cut in range(len(data)):
        with pytest.raises(ImageError):
            inspect_header(data[:cut])
    assert inspect_header(data + b"\xff\xd8motion photo") == inspect_header(data)
    assert np.array_equal(load_image(data + b"\xff\xd8motion photo"), load_image(data))


def test_a_file_of_parts_out_of_order_is_refused_when_it_is_cut() -> None:
    # A large picture is coded as it comes, and what belongs before it lies behind.
    data = encoded(noise(20, 30, 3).repeat(110, axis=0).repeat(110, axis=1), distance=2.0, effort=3)
    stream = stream_of(data)
    assert load_image(data).shape == (2200, 3300, 3)
    assert inspect_header(data[:-1]).width == 3300  # which only the decoder finds out
    for cut in (*range(0, len(stream), len(stream) // 20), len(stream) - 1):
        with pytest.raises(ImageError):
            load_image(stream[:cut])


class TestBoxes:
    @staticmethod
    def parts(stream: bytes, *places: int) -> list[bytes]:
        pieces = [stream[start:end] for start, end in zip((0, *places), (*places, len(stream)), strict=True)]
        last = len(pieces) - 1
        return [
            box(b"jxlp", struct.pack(">I", number | (number == last) << 31), piece)
            for number, piece in enumerate(pieces)
        ]

    def test_a_codestream_may_lie_in_parts(self) -> None:
        stream = encoded(noise())
        data = boxed(*self.parts(stream, 3, 3, 5000))
        assert np.array_equal(load_image(data), noise())
        boundaries = accumulate((len(SIGNATURE), 20, *(len(part) for part in self.parts(stream, 3, 3, 5000))))
        for cut in [*boundaries][:-1]:
            with pytest.raises(ImageError):
                load_image(data[:cut])

    def test_parts_must_be_there_in_order_and_once(self) -> None:
        one, two, three = self.parts(encoded(noise()), 100, 5000)
        for boxes in ([one, three], [two, one, three], [one, one, two, three], [one, two], [one, box(b"jxlp", b"\0")]):
            with pytest.raises(ImageError, match=r"part \d of its codestream is missing|without an image"):
                load_image(boxed(*boxes))
        with pytest.raises(ImageError, match="part 1 of its codestream is missing"):
            load_image(boxed(one, box(b"jxlc", encoded(noise()))))

    def test_other_boxes_never_reach_a_decoder(self) -> None:
        others = [box(b"brob", b"Exif" + bytes(40)), box(b"jbrd", bytes(99)), box(b"what")]
        assert np.array_equal(load_image(boxed(*others, box(b"jxlc", encoded(noise())), *others)), noise())

    def test_the_last_box_may_have_no_length(self) -> None:
        data = boxed() + struct.pack(">I4s", 0, b"jxlc") + encoded(noise())
        assert np.array_equal(load_image(data), noise())
        with pytest.raises(ImageError):
            load_image(data[:-1])


def solid(*color: int) -> bytes:
    """Return the coded data of a small picture of one colour."""
    pixels = np.full((16, 16, 3), color, np.uint8)
    return section_of(encoded(pixels), LOSSLESS_FRAME_BITS)


def test_the_frames_that_tests_write_are_those_of_the_encoder() -> None:
    data = encoded(np.full((16, 16, 3), (1, 2, 3), np.uint8))
    assert header(16, 16) + frame(solid(1, 2, 3)) == header(16, 16) + data[read_codestream_header(data).end :]


class TestFrames:
    red, blue = (200, 10, 10), (10, 10, 200)

    def test_an_animation_is_refused_and_its_first_frame_can_be_had(self) -> None:
        pixels = np.stack([noise(), noise()[::-1]])
        data = encoded(pixels)
        with pytest.raises(ImageError, match="an animated JPEG XL; a score is of one image"):
            load_image(data)
        assert np.array_equal(load_image(data, frame="first"), pixels[0])
        first = with_header(encoded(noise()), animated=False)
        for cut in range(0, len(first) // 2, 97):
            with pytest.raises(ImageError):
                load_image(data[:cut], frame="first")

    def test_an_animation_of_one_frame_is_a_picture(self) -> None:
        data = header(16, 16, animated=True) + frame(solid(*self.red), duration=5)
        assert (load_image(data) == self.red).all()
        two = (
            header(16, 16, animated=True)
            + frame(solid(*self.red), duration=5, last=False)
            + frame(solid(*self.blue), duration=5)
        )
        assert inspect_header(two, "first").several == "an animated JPEG XL"
        assert (load_image(two, frame="first") == self.red).all()

    def test_layers_are_one_picture(self) -> None:
        under = frame(solid(*self.red), last=False, slot=1)
        over = frame(
            section_of(encoded(np.full((4, 6, 3), self.blue, np.uint8)), LOSSLESS_FRAME_BITS), crop=(3, 5, 6, 4)
        )
        data = header(16, 16) + under + over
        expected = np.full((16, 16, 3), self.red, np.uint8)
        expected[5:9, 3:9] = self.blue
        assert np.array_equal(load_image(data), expected)
        assert inspect_header(data).several is None
        for cut in range(len(data)):
            with pytest.raises(ImageError):
                load_image(data[:cut])

    def test_frames_that_are_not_shown_come_before(self) -> None:
        data = header(16, 16) + frame(solid(*self.blue), kind=2, slot=1, last=False) + frame(solid(*self.red))
        assert (load_image(data) == self.red).all()

    @pytest.mark.parametrize("canvas", [16, 5000])
    def test_more_layers_than_a_picture_explains_are_refused_undecoded(self, canvas: int) -> None:
        layer = frame(solid(*self.red), crop=(0, 0, 16, 8), last=False, slot=1)
        last = frame(solid(*self.red), crop=(0, 0, 16, 8))
        allowed = 3 if canvas > 1000 else 1000
        inspect_header(header(canvas, canvas) + layer * allowed + last)
        with pytest.raises(ImageError, match="more layers than are decoded"):
            inspect_header(header(canvas, canvas) + layer * (allowed + 100) + last)

    def test_a_frame_larger_than_a_picture_explains_is_refused_undecoded(self) -> None:
        data = header(16, 16) + frame(bytes(99), kind=2, crop=(0, 0, 1 << 20, 1 << 20), slot=1, last=False)
        with pytest.raises(ImageError, match=r"more layers than are decoded|ends inside the header"):
            inspect_header(data + bytes(10_000))

    def test_what_lies_behind_parts_out_of_order_is_not_found(self) -> None:
        first = frame(solid(*self.red), last=False, slot=1, permuted=1)
        with pytest.raises(ImageError, match="several layers whose parts are not in order"):
            inspect_header(header(16, 16) + first + frame(solid(*self.blue)))

    def test_a_frame_without_pixels_is_damage(self) -> None:
        with pytest.raises(ImageError, match="a frame of 0 x 4 pixels"):
            inspect_header(header(16, 16) + frame(solid(*self.red), crop=(0, 0, 0, 4)))


SMALL = bytes.fromhex(
    "ff0a500022804808040100a8004b2824c64941c11418435786610c2684312a0693f405420220e83f34b800d80600f503f0a9dcce028603"
)
"""18 x 11 pixels by imagecodecs 2026.3.6: columns of 0, 14, 28 and so on."""


def test_where_imagecodecs_is_missing_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, artefacts: Any, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    (tmp_path / "a.jxl").write_bytes(SMALL)
    with Scorer(artefacts.mean()) as scorer:
        (result,) = scorer.score_many(expand_inputs([str(tmp_path)], io.BytesIO()))
    assert result.row()["score"] is None
    assert "a.jxl: a JPEG XL image, which needs imagecodecs" in result.row()["error"]
    assert 'pip install "iqa-deploy[jxl]"' in result.row()["error"]


def codecs(version: str = "libjxl 0.11.2", *, available: bool = True, decode: Any = None) -> SimpleNamespace:
    return SimpleNamespace(
        JPEGXL=SimpleNamespace(available=available), jpegxl_version=lambda: version, jpegxl_decode=decode
    )


@pytest.mark.parametrize("version", ["0.11.1", "0.9.99", "0.0.0"])
def test_an_old_libjxl_is_refused_with_the_upgrade(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", codecs(f"libjxl {version}"))
    with pytest.raises(ImageError, match=rf"libjxl {version}: before 0\.11\.2 .* pip install --upgrade"):
        load_image(SMALL)


def test_an_imagecodecs_without_jpeg_xl_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", codecs(available=False))
    with pytest.raises(ImageError, match="built without it: pip install"):
        load_image(SMALL)


@pytest.mark.parametrize("version", ["0.11.2", "0.12.0", "1.0.0"])
@pytest.mark.parametrize("error", [RuntimeError, ValueError])
def test_what_a_decoder_says_of_a_file_is_an_error_of_the_file(
    monkeypatch: pytest.MonkeyPatch, version: str, error: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("not this one")

    monkeypatch.setitem(sys.modules, "imagecodecs", codecs(f"libjxl {version}", decode=fail))
    with pytest.raises(ImageError, match=r"corrupt JPEG XL \(not this one\)"):
        load_image(SMALL)


@pytest.mark.parametrize("damage", ["flip", "zero"])
def test_damage_is_an_error_or_a_picture_of_the_same_size(damage: str) -> None:
    generator = np.random.default_rng(7)
    for data in (encoded(noise(20, 30, 3)), encoded(noise(20, 30, 3), distance=1.0, effort=7)):
        for _ in range(60):
            broken = bytearray(data)
            place = int(generator.integers(len(data)))
            broken[place] = broken[place] ^ 1 << int(generator.integers(8)) if damage == "flip" else 0
            try:
                found = inspect_header(bytes(broken))
                if found.width * found.height > 10_000:
                    continue
                assert load_image(bytes(broken)).size == 3 * found.width * found.height
            except ImageError:
                pass


def test_a_file_that_was_written_once_is_read() -> None:
    pytest.importorskip("imagecodecs")
    assert np.array_equal(load_image(SMALL), np.broadcast_to(14 * np.arange(18)[:, None], (11, 18, 3)))
