"""Some rows of a JPEG file: the bits of the whole picture, refused where that is, and where they are not had alone."""

from __future__ import annotations

import io
import struct
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import icc
from iqa_runtime.errors import ImageError
from iqa_runtime.images import jpeg
from iqa_runtime.images.header import Band
from iqa_runtime.images.loading import LoadedImage, load_with_color

pytest.importorskip("iqa_runtime._jpeg_bands")

SAMPLINGS = {
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:4:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    "4:1:1": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
}
HEIGHT, WIDTH = 150, 90
BANDS = [(20, 41), (77, 78), (90, 121)]  # rows are left out before, between and after them


def picture(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height)), np.uint8)


def encode(pixels: NDArray[np.uint8], sampling: str = "4:2:0", **options: int) -> bytes:
    settings = {"IMWRITE_JPEG_SAMPLING_FACTOR": SAMPLINGS[sampling], "IMWRITE_JPEG_QUALITY": 85} | options
    arguments = [value for name, setting in settings.items() for value in (getattr(cv2, name), setting)]
    done, data = cv2.imencode(".jpg", pixels, arguments)
    assert done
    return data.tobytes()


def turned(data: bytes, orientation: int) -> bytes:
    body = b"Exif\0\0II\x2a\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)
    return data[:2] + struct.pack(">BBH", 0xFF, 0xE1, len(body) + 2) + body + data[2:]


def load_bands(data: bytes, bands: list[Band] | None = None) -> LoadedImage:
    return load_with_color(data, bands=lambda *_: bands or BANDS)


def rows_of(pixels: NDArray[np.uint8], bands: list[Band] | None = None) -> NDArray[np.uint8]:
    return np.concatenate([pixels[top:bottom] for top, bottom in bands or BANDS])


def outcome(data: bytes, *, in_bands: bool) -> str | NDArray[np.uint8]:
    """Return the pixels of the bands, or what is said instead."""
    try:
        if not in_bands:
            return rows_of(load_with_color(data).pixels)
        loaded = load_bands(data)
    except ImageError as error:
        return str(error)
    return loaded.pixels if loaded.bands is not None else rows_of(loaded.pixels)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"IMWRITE_JPEG_PROGRESSIVE": 1},
        {"IMWRITE_JPEG_RST_INTERVAL": 3, "IMWRITE_JPEG_OPTIMIZE": 1},
        {"IMWRITE_JPEG_PROGRESSIVE": 1, "IMWRITE_JPEG_RST_INTERVAL": 1, "IMWRITE_JPEG_QUALITY": 100},
    ],
)
def test_rows_have_the_bits_of_the_whole_picture(sampling: str, options: dict[str, int]) -> None:
    generator = np.random.default_rng(len(sampling) + len(options))
    for seed in range(8):
        height, width = generator.integers([4, 16], [200, 140]).tolist()
        data = encode(picture(height, width, seed), sampling, **options)
        whole = load_with_color(data).pixels
        for _ in range(4):
            edges = np.unique(generator.integers(0, height + 1, 6))
            bands = [tuple(pair) for pair in edges[: len(edges) // 2 * 2].reshape(-1, 2).tolist()]
            loaded = load_bands(data, bands)
            assert loaded.bands == bands
            assert (loaded.height, loaded.width) == (height, width)
            np.testing.assert_array_equal(loaded.pixels, rows_of(whole, bands))


def test_gray_becomes_rgb() -> None:
    data = encode(picture()[..., 1])
    loaded = load_bands(data)
    assert loaded.bands == BANDS
    np.testing.assert_array_equal(loaded.pixels, rows_of(load_with_color(data).pixels))


def test_scans_of_one_component_each() -> None:
    """Three gray files made one, whose tables are all the same."""
    planes = [encode(picture()[..., component]) for component in range(3)]
    scans = [plane[plane.index(b"\xff\xda") : -2] for plane in planes]
    head, frame = planes[0][: planes[0].index(b"\xff\xda")], planes[0].index(b"\xff\xc0")
    of_three = head[frame + 4 : frame + 9] + bytes([3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    data = head[:frame] + b"\xff\xc0\0\x11" + of_three + head[frame + 13 :]
    for number, scan in enumerate(scans, start=1):
        data += scan[:5] + bytes([number]) + scan[6:]
    data += b"\xff\xd9"
    loaded = load_bands(data)
    assert loaded.bands == BANDS
    np.testing.assert_array_equal(loaded.pixels, rows_of(load_with_color(data).pixels))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rows_are_those_of_the_upright_picture(orientation: int) -> None:
    data = turned(encode(picture(160, 150)), orientation)
    whole, some = load_with_color(data).pixels, load_bands(data)
    assert some.bands == (BANDS if orientation < 5 else None)
    np.testing.assert_array_equal(some.pixels, whole if some.bands is None else rows_of(whole))


def test_colours_are_converted() -> None:
    buffer = io.BytesIO()
    profile = icc.matrix_profile(icc.DISPLAY_P3, icc.SRGB_CURVE)
    Image.fromarray(picture()).save(buffer, "JPEG", icc_profile=profile)
    some, whole = load_bands(buffer.getvalue()), load_with_color(buffer.getvalue())
    assert some.bands == BANDS
    assert some.color == whole.color == "Display P3 -> sRGB"
    np.testing.assert_array_equal(some.pixels, rows_of(whole.pixels))


@pytest.mark.parametrize("options", [{}, {"IMWRITE_JPEG_PROGRESSIVE": 1}, {"IMWRITE_JPEG_RST_INTERVAL": 5}])
def test_a_file_cut_anywhere_is_refused(options: dict[str, int]) -> None:
    data = encode(picture(), **options)
    for size in range(2, len(data) - 1, 97):
        said = outcome(data[:size] + b"\xff\xd9", in_bands=True)
        assert isinstance(said, str)
        assert said == outcome(data[:size] + b"\xff\xd9", in_bands=False)


@pytest.mark.parametrize("options", [{}, {"IMWRITE_JPEG_PROGRESSIVE": 1}, {"IMWRITE_JPEG_RST_INTERVAL": 5}])
def test_damage_anywhere_is_met_as_in_the_whole_picture(options: dict[str, int]) -> None:
    data = encode(picture(), **options)
    start = data.index(b"\xff\xda") + 14
    generator = np.random.default_rng(1)
    refused = 0
    for place in np.linspace(start, len(data) - 3, 150).astype(int).tolist():
        damaged = bytearray(data)
        damaged[place] = int(generator.integers(0, 256))
        some, whole = (outcome(bytes(damaged), in_bands=in_bands) for in_bands in (True, False))
        np.testing.assert_equal(some, whole)
        refused += isinstance(whole, str)
    assert refused > 20


def test_damage_below_the_last_band_is_refused() -> None:
    data = encode(picture())
    damaged = data[:-60] + data[-20:]
    assert isinstance(outcome(damaged, in_bands=False), str)
    assert outcome(damaged, in_bands=True) == outcome(damaged, in_bands=False)


def test_filling_is_left_to_the_whole_picture() -> None:
    data = encode(picture())
    filled = data[:-2] + bytes(4) + data[-2:]
    loaded = load_bands(filled)
    assert loaded.bands is None
    np.testing.assert_array_equal(loaded.pixels, load_with_color(data).pixels)


def as_pillow_saves(format: str, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture()).convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


def gray_with_factors() -> bytes:
    """Sampling factors of one component mean nothing."""
    data = bytearray(encode(picture()[..., 0]))
    data[data.index(b"\xff\xc0") + 11] = 0x22
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        as_pillow_saves("PNG"),
        as_pillow_saves("JPEG", "CMYK"),
        encode(picture(HEIGHT, 4)),
        encode(picture(HEIGHT, 15)),
        gray_with_factors(),
    ],
    ids=["PNG", "inks", "4 pixels wide", "15 pixels wide", "gray with factors"],
)
def test_where_it_is_not_done_the_picture_is_whole(data: bytes) -> None:
    loaded = load_bands(data)
    assert loaded.bands is None
    np.testing.assert_array_equal(loaded.pixels, load_with_color(data).pixels)


def test_without_libjpeg_turbo_the_picture_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "_has_bands", False)
    assert load_bands(encode(picture())).bands is None


def test_with_the_twins_of_the_kernels_the_picture_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IQA_KERNELS", "numpy")
    assert load_bands(encode(picture())).bands is None


def test_the_pixel_limit_holds() -> None:
    with pytest.raises(ImageError, match="over the limit of 100"):
        load_with_color(encode(picture()), pixel_limit=100, bands=lambda *_: BANDS)
