"""JPEG XL files: their pixels beside those of libjxl, their boxes, and what is said where that is missing or fails."""

import io
import struct
import sys
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
from iqa_runtime.images.loading import load_image, load_with_color
from jpegxl_files import (
    HEIGHT,
    SIGNATURE,
    WIDTH,
    box,
    boxed,
    decoded,
    encoded,
    noise,
    space,
    stream_of,
    with_header,
)

JPEG_TOLERANCE = 1  # level on average: libjxl decodes coefficients in floats, and smooths chrominance otherwise


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


def test_a_decoder_may_not_return_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(noise())
    other = codecs("libjxl 0.12.0", decode=lambda *_, **__: np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8))
    monkeypatch.setitem(sys.modules, "imagecodecs", other)
    with pytest.raises(ImageError, match="its pixels cannot be decoded"):
        load_image(data)


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
