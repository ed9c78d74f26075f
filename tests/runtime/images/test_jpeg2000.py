"""JPEG 2000 files, by Pillow and by hand: pixels of Pillow's OpenJPEG, and what headers may ask for."""

import io
import struct
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from iqa_runtime.errors import ImageError
from iqa_runtime.images.formats import inspect_header
from iqa_runtime.images.isobmff import read_boxes
from iqa_runtime.images.loading import load_image, load_with_color

WIDTH, HEIGHT = 90, 61
YCC_TOLERANCE = 1  # levels: Pillow rounds the conversion of YCbCr elsewhere


def texture(mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(6).integers(0, 256, (size[1], size[0], 4), np.uint8)).convert(mode)


def saved(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG2000", **options)
    return buffer.getvalue()


def shown(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        rgba = np.asarray(image.convert("RGBA")).astype(int)
    return ((rgba[..., :3] * rgba[..., 3:] + 255 * (255 - rgba[..., 3:]) + 127) // 255).astype(np.uint8)


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def jp2(stream: bytes, *boxes: bytes, components: int = 3, space: int = 16) -> bytes:
    """Wrap a codestream."""
    ihdr = box(b"ihdr", struct.pack(">IIHBBBB", HEIGHT, WIDTH, components, 7, 7, 0, 0))
    colr = box(b"colr", struct.pack(">BBBI", 1, 0, 0, space))
    head = b"\0\0\0\x0cjP  \r\n\x87\n" + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return (
        head
        + box(b"jp2h", ihdr, *([] if any(b"colr" in each[:8] for each in boxes) else [colr]), *boxes)
        + box(b"jp2c", stream)
    )


def stream_of(image: Image.Image, **options: Any) -> bytes:
    return saved(image, no_jp2=True, **options)


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {}),
        ("RGB", {"no_jp2": True}),
        ("RGB", {"tile_size": (32, 32)}),
        ("RGB", {"irreversible": True, "quality_mode": "dB", "quality_layers": [30, 40]}),
        ("RGB", {"num_resolutions": 1, "codeblock_size": (4, 4), "precinct_size": (64, 64)}),
        ("RGB", {"progression": "RPCL", "tile_size": (40, 40)}),
        ("RGBA", {}),
        ("L", {}),
    ],
)
def test_files_of_pillow_have_its_pixels(mode: str, options: dict[str, Any]) -> None:
    data = saved(texture(mode), **options)
    assert np.array_equal(load_image(data), shown(data))


def test_ycc_becomes_rgb() -> None:
    data = saved(texture("YCbCr"))
    assert np.abs(load_image(data).astype(int) - shown(data)).max() <= YCC_TOLERANCE


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_of_16_bits_the_upper_8_are_kept(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 1 << 16, (HEIGHT, WIDTH, channels), np.uint16)
    pixels[..., 3:] = 65535
    _, encoded = cv2.imencode(".jp2", pixels, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])
    expected = np.broadcast_to(pixels[..., 2::-1] >> 8, (HEIGHT, WIDTH, 3))
    data = encoded.tobytes()
    if channels == 4:  # OpenCV does not say that the fourth is transparency
        meanings = box(b"cdef", struct.pack(">H12H", 4, 0, 0, 1, 1, 0, 2, 2, 0, 3, 3, 1, 0))
        data = jp2(data[data.index(b"\xff\x4f\xff\x51") :], meanings, components=4)
    assert np.array_equal(load_image(data), expected)


# Six columns and five rows that rise from 0 to 4095, by imagecodecs 2026.3.6.
RAMP_OF_12_BITS = (
    "ff4fff5100290000000000060000000500000000000000000000000600000005000000000000000000010b0101ff52000c00"
    "000001000004040001ff5c00044060ff640025000143726561746564206279204f70656e4a5045472076657273696f6e2032"
    "2e352e34ff90000a00000000003f0001ff93dfe0b81221e438e6b5070cc223db3ca0e2a0017c394b7779a627bf18fcaef777"
    "c658de871cd34e93cffcab6ba037620e7fffd9"
)


def test_of_12_bits_the_upper_8_are_kept() -> None:
    expected = np.arange(30).reshape(5, 6) * 4095 // 29 >> 4
    assert np.array_equal(load_image(bytes.fromhex(RAMP_OF_12_BITS))[..., 1], expected)


def palette_boxes(palette: NDArray[np.uint8]) -> list[bytes]:
    entries, columns = palette.shape
    mapping = [struct.pack(">HBB", 0, 1, column) for column in range(columns)]
    sizes = struct.pack(">HB", entries, columns) + b"\7" * columns
    return [box(b"pclr", sizes, palette.tobytes()), box(b"cmap", *mapping)]


def test_a_palette_gives_its_colours() -> None:
    indices = np.random.default_rng(1).integers(0, 5, (HEIGHT, WIDTH), np.uint8)
    palette = np.random.default_rng(2).integers(0, 256, (5, 3), np.uint8)
    stream = stream_of(Image.fromarray(indices))
    data = jp2(stream, *palette_boxes(palette), components=1)
    assert np.array_equal(load_image(data), palette[indices])
    assert np.array_equal(load_image(data), shown(data))
    with pytest.raises(ImageError, match="a colour beyond the 4"):
        load_image(jp2(stream, *palette_boxes(palette[:4]), components=1))


def test_channels_are_what_they_are_said_to_be() -> None:
    planes = np.asarray(texture("RGBA"))
    stream = stream_of(texture("RGBA"))

    def meaning(*entries: tuple[int, int, int]) -> bytes:
        return box(b"cdef", struct.pack(">H", len(entries)), *[struct.pack(">HHH", *entry) for entry in entries])

    swapped = meaning((0, 0, 3), (1, 0, 2), (2, 0, 1), (3, 1, 0))
    straight = meaning((0, 0, 1), (1, 0, 2), (2, 0, 3), (3, 1, 0))
    premultiplied = meaning((0, 0, 1), (1, 0, 2), (2, 0, 3), (3, 2, 0))
    normal = load_image(jp2(stream, straight, components=4))
    assert np.array_equal(load_image(jp2(stream, swapped, components=4)), normal[..., ::-1])
    expected = np.minimum(planes[..., :3].astype(int) + 255 - planes[..., 3:], 255)
    assert np.array_equal(load_image(jp2(stream, premultiplied, components=4)), expected)
    for boxes in ([], [meaning((0, 0, 1), (1, 0, 2), (2, 0, 3), (3, 65535, 65535))]):
        with pytest.raises(ImageError, match="4 channels, not 3 colours and transparency"):
            load_image(jp2(stream, *boxes, components=4))


def test_what_colours_are() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    stream = stream_of(texture())
    assert load_with_color(jp2(stream)).color == "sRGB"
    assert load_with_color(stream).color == "untagged"
    assert load_with_color(jp2(stream, box(b"colr", b"\2\0\0", profile))).color == "sRGB"
    assert load_with_color(jp2(stream, box(b"colr", b"\2\0\0no profile"))).color == "profile damaged"


@pytest.mark.parametrize("name", ["jp2", "stream", "tiles"])
def test_a_file_cut_anywhere_is_refused(name: str) -> None:
    data = {"jp2": saved(texture(size=(20, 15))), "stream": stream_of(texture(size=(20, 15)))}.get(
        name, saved(texture(size=(40, 30)), tile_size=(16, 16))
    )
    for cut in range(len(data)):
        with pytest.raises(ImageError):
            inspect_header(data[:cut])
    assert inspect_header(data).width in (20, 40)


def test_a_tile_less_is_refused() -> None:
    data = stream_of(texture(), tile_size=(32, 32))
    parts = [place for place in range(len(data)) if data.startswith(b"\xff\x90\0\x0a", place)]
    assert len(parts) == 6
    with pytest.raises(ImageError, match="parts of its 6 tiles are missing"):
        inspect_header(data[: parts[2]] + data[parts[3] :])
    with pytest.raises(ImageError, match="out of order"):
        inspect_header(data[: parts[3]] + data[parts[2] :])


def with_field(data: bytes, marker: bytes, place: int, value: bytes) -> bytes:
    start = data.index(marker) + place
    return data[:start] + value + data[start + len(value) :]


@pytest.mark.parametrize(
    ("marker", "place", "value", "says"),
    [
        (b"\xff\x51", 38, b"\0\5", "5 components"),
        (b"\xff\x51", 40, b"\x87", "signed"),
        (b"\xff\x51", 40, b"\6", "8 to 16 bits"),
        (b"\xff\x51", 40, b"\x10", "8 to 16 bits"),
        (b"\xff\x51", 41, b"\2", "subsampled"),
        (b"\xff\x51", 14, b"\0\0\0\1", "with an offset"),
        (b"\xff\x51", 6, b"\0\0\0\0", "0 x 61 pixels"),
        (b"\xff\x52", 6, b"\xff\xff", "too many to decode"),
        (b"\xff\x52", 9, b"\x21", "too many to decode"),
    ],
)
def test_headers_that_are_refused(marker: bytes, place: int, value: bytes, says: str) -> None:
    data = stream_of(texture(), tile_size=(2, 2)) if marker == b"\xff\x52" else stream_of(texture())
    with pytest.raises(ImageError, match=says):
        inspect_header(with_field(data, marker, place, value))


def test_precincts_of_a_pixel_are_refused() -> None:
    data = stream_of(texture(size=(400, 400)), precinct_size=(64, 64))
    style = data.index(b"\xff\x52")
    (length,) = struct.unpack_from(">H", data, style + 2)
    with pytest.raises(ImageError, match="1 layers and 160000 precincts"):
        inspect_header(with_field(data, b"\xff\x52", 14, bytes(length - 12)))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (saved(texture("LA")), "gray and transparency"),
        (saved(texture("CMYK")), "colour space 12"),
        (jp2(stream_of(texture("L")), components=1, space=16), "1 channels, not 3 colours"),
        (saved(texture())[:77], "without an image|should end"),
    ],
)
def test_kinds_that_are_refused(data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        inspect_header(data)


def test_boxes_behind_the_image_are_ignored() -> None:
    data = saved(texture())
    assert [each.kind for each in read_boxes(data, 0, len(data))][-1] == b"jp2c"
    assert inspect_header(data + box(b"uuid", bytes(16))) == inspect_header(data)
    assert inspect_header(data + b"\xff\xd8motion photo") == inspect_header(data)
