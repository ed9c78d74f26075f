"""Colours of frames, against the formulas of the standards, in float64."""

import itertools
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from iqa_runtime.errors import ImageError
from iqa_runtime.video import read_frames
from iqa_runtime.video.color import FrameTags, reading_of
from iqa_runtime.video.pixels import to_rgb
from video_files import UNTAGGED, moving_planes, video_frame, write_video

ROUNDED = 0.501
"""Levels: rounded to nearest, computed in float32."""

CONVERTED = 1.0
"""Levels that the colour kernel may be off, from R'G'B' of 8 bits on."""

WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
WEIGHTS[9] = (0.2627, 0.0593)  # Kr and Kb, ITU-T H.273, table 4

D65 = (0.3127, 0.3290)
PRIMARIES = {  # H.273, table 2
    1: (0.640, 0.330, 0.300, 0.600, 0.150, 0.060),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}


def expected_rgb(planes: list[NDArray[Any]], matrix: int, *, full: bool, depth: int = 8) -> NDArray[np.float64]:
    """Return R'G'B' of 0 to 255: E'Y and E'PB, E'PR from the integers (H.273, 8.3), solved for R'G'B'."""
    y, cb, cr = (plane.astype(np.float64) for plane in planes)
    unit, most = 2 ** (depth - 8), 2**depth - 1
    ey = y / most if full else (y - 16 * unit) / (219 * unit)
    pb, pr = ((c - 128 * unit) / (most if full else 224 * unit) for c in (cb, cr))
    red, blue = WEIGHTS[matrix]
    r = ey + 2 * (1 - red) * pr
    b = ey + 2 * (1 - blue) * pb
    g = (ey - red * r - blue * b) / (1 - red - blue)
    return 255 * np.clip(np.stack([r, g, b], axis=-1), 0, 1)


def random_planes(depth: int = 8, seed: int = 0, height: int = 48, width: int = 64) -> list[NDArray[Any]]:
    values = np.random.default_rng(seed).integers(0, 2**depth, (3, height, width))
    return list(values.astype(np.uint8 if depth == 8 else np.uint16))


def first_frame(path: Path, **settings: Any) -> Any:
    return next(read_frames(path, every=1.0, **settings))


@pytest.mark.parametrize(("matrix", "color_range"), list(itertools.product(WEIGHTS, (1, 2))))
def test_every_matrix_and_range_gives_what_the_standard_says(tmp_path: Path, matrix: int, color_range: int) -> None:
    planes = random_planes()
    path = write_video(tmp_path / "a.mkv", [planes], codec="ffv1", layout="yuv444p", tags=(1, 1, matrix, color_range))
    frame = first_frame(path)
    assert frame.color == "sRGB"
    assert np.abs(frame.pixels - expected_rgb(planes, matrix, full=color_range == 2)).max() <= ROUNDED


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mov", "libx264"), ("a.mkv", "libx264")])
@pytest.mark.parametrize("tags", [(1, 1, 1, 1), (1, 1, 1, 2), (1, 6, 6, 1), (9, 14, 9, 1)])
def test_tags_travel_in_every_container(tmp_path: Path, name: str, codec: str, tags: tuple[int, int, int, int]) -> None:
    planes = random_planes(seed=1)
    path = write_video(tmp_path / name, [planes], codec=codec, layout="yuv444p", tags=tags)
    frame = first_frame(path, color_space="stored")
    assert frame.color == "stored"
    assert np.abs(frame.pixels - expected_rgb(planes, tags[2], full=tags[3] == 2)).max() <= ROUNDED


@pytest.mark.parametrize(("layout", "depth"), [("yuv444p10le", 10), ("yuv444p12le", 12), ("yuv444p16le", 16)])
@pytest.mark.parametrize("color_range", [1, 2])
def test_more_than_8_bits_are_rounded_once(tmp_path: Path, layout: str, depth: int, color_range: int) -> None:
    planes = random_planes(depth)
    path = write_video(tmp_path / "a.mkv", [planes], codec="ffv1", layout=layout, tags=(1, 1, 1, color_range))
    expected = expected_rgb(planes, 1, full=color_range == 2, depth=depth)
    assert np.abs(first_frame(path).pixels - expected).max() <= ROUNDED


@pytest.mark.parametrize("layout", ["yuv420p", "yuv422p", "yuv411p", "yuv440p", "yuv410p", "yuvj420p", "yuv420p10le"])
def test_flat_colours_survive_the_sampling_of_chroma(layout: str) -> None:
    depth, full = (10 if layout.endswith("10le") else 8), layout.startswith("yuvj")
    for seed in range(20):
        colour = [plane[:1, :1] for plane in random_planes(depth, seed)]
        frame = _flat(layout, [int(value[0, 0]) for value in colour], colour[0].dtype)
        tags = FrameTags(layout=layout, primaries=1, transfer=1, matrix=1, color_range=0)
        pixels = to_rgb(frame, reading_of(tags, 32, 32, "sRGB"))
        expected = expected_rgb(colour, 1, full=full, depth=depth)
        assert np.abs(pixels - expected).max() <= ROUNDED


def _flat(layout: str, colour: list[int], dtype: Any) -> Any:
    frame = av.VideoFrame(32, 32, layout)
    for plane, value in zip(frame.planes, colour, strict=True):
        target: NDArray[Any] = np.ndarray((plane.height, plane.line_size // dtype.itemsize), dtype, buffer=plane)
        target[:] = value
    return frame


@pytest.mark.parametrize(("layout", "depth"), [("gbrp", 8), ("gbrp10le", 10)])
def test_stored_rgb_is_taken_as_it_is(layout: str, depth: int) -> None:
    g, b, r = random_planes(depth)
    tags = FrameTags(layout=layout, primaries=1, transfer=13, matrix=0, color_range=2)
    pixels = to_rgb(video_frame([g, b, r], layout), reading_of(tags, 48, 64, "sRGB"))
    assert np.abs(pixels - np.stack([r, g, b], axis=-1) * (255 / (2**depth - 1))).max() <= ROUNDED


def test_gray_becomes_three_equal_channels(tmp_path: Path) -> None:
    gray, _, _ = random_planes(seed=2)
    path = write_video(tmp_path / "gray.mkv", [[gray]], codec="ffv1", layout="gray", tags=(1, 1, 1, 2))
    assert np.array_equal(first_frame(path).pixels, np.stack([gray] * 3, axis=-1))


@pytest.mark.parametrize(
    ("height", "width", "matrix"),
    [(576, 720, 6), (480, 640, 6), (720, 1280, 1), (578, 640, 1), (544, 1280, 1), (576, 1278, 6)],
)
def test_an_untagged_frame_is_read_by_its_size(height: int, width: int, matrix: int) -> None:
    tags = FrameTags(layout="yuv420p", primaries=2, transfer=2, matrix=2, color_range=0)
    reading = reading_of(tags, height, width, "sRGB")
    assert (reading.weights, reading.full_range, reading.conversion.color) == (WEIGHTS[matrix], False, "untagged")


@pytest.mark.parametrize(("primaries", "matrix"), [(1, 1), (9, 9), (5, 5), (6, 6)])
def test_primaries_stand_in_for_a_matrix_that_is_not_said(primaries: int, matrix: int) -> None:
    tags = FrameTags(layout="yuv420p", primaries=primaries, transfer=2, matrix=2, color_range=0)
    for height in (480, 2160):
        assert reading_of(tags, height, 600, "sRGB").weights == WEIGHTS[matrix]


def test_an_untagged_file_says_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_planes(1), tags=UNTAGGED)
    assert first_frame(path).color == "untagged"


def _to_xyz(primaries: int) -> NDArray[np.float64]:
    x, y = np.array(PRIMARIES[primaries]).reshape(3, 2).T
    basis = np.stack([x / y, np.ones(3), (1 - x - y) / y])
    white = np.array([D65[0] / D65[1], 1, (1 - D65[0] - D65[1]) / D65[1]])
    return basis * np.linalg.solve(basis, white)


@pytest.mark.parametrize(
    ("primaries", "matrix", "name"),
    [
        (12, 1, "Display P3 -> sRGB"),
        (9, 9, "Rec. 2020 -> sRGB"),
        (5, 5, "BT.601 (625 lines) -> sRGB"),
        (6, 6, "BT.601 (525 lines) -> sRGB"),
    ],
)
def test_other_primaries_become_those_of_srgb(tmp_path: Path, primaries: int, matrix: int, name: str) -> None:
    y, cb, cr = random_planes(seed=3)
    planes = [y // 2 + 60, cb // 4 + 96, cr // 4 + 96]
    path = write_video(tmp_path / "a.mkv", [planes], codec="ffv1", layout="yuv444p", tags=(primaries, 1, matrix, 1))
    frame = first_frame(path)
    encoded = np.rint(expected_rgb(planes, matrix, full=False)) / 255
    light = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)  # IEC 61966-2-1
    other = np.clip(light @ (np.linalg.inv(_to_xyz(1)) @ _to_xyz(primaries)).T, 0, 1)
    expected = 255 * np.where(other <= 0.0031308, 12.92 * other, 1.055 * other ** (1 / 2.4) - 0.055)
    assert frame.color == name
    assert np.abs(frame.pixels - expected).max() <= CONVERTED


@pytest.mark.parametrize(("transfer", "curve"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused_with_a_remedy(tmp_path: Path, transfer: int, curve: str) -> None:
    path = write_video(tmp_path / "hdr.mkv", moving_planes(2), codec="libx265", tags=(9, transfer, 9, 1), options={})
    with pytest.raises(ImageError, match=rf"hdr\.mkv: a video in HDR \({curve}\).*tone-map it first"):
        first_frame(path)


@pytest.mark.parametrize("matrix", [8, 10, 14])
def test_a_matrix_without_a_rule_is_refused(matrix: int) -> None:
    tags = FrameTags(layout="yuv420p", primaries=9, transfer=1, matrix=matrix, color_range=1)
    with pytest.raises(ImageError, match=f"matrix {matrix} "):
        reading_of(tags, 480, 640, "sRGB")


@pytest.mark.parametrize("layout", ["yuva420p", "pal8", "bgra", "xyz12le"])
def test_a_layout_without_a_rule_is_refused(layout: str) -> None:
    tags = FrameTags(layout=layout, primaries=1, transfer=1, matrix=1, color_range=1)
    with pytest.raises(ImageError, match=f"stored as {layout}, which is not read"):
        reading_of(tags, 480, 640, "sRGB")
