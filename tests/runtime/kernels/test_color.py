"""The colour kernel: its twin against the definition in floats, every instruction set against the twin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from chosen_kernels import COMPILED, forced, random_image
from iqa_runtime.errors import UsageError
from iqa_runtime.kernels import color_numpy, color_tables, to_srgb

OFF_NEAREST = 0.02
"""Levels beyond a half that an encoded number may be off: a line of 64 or 512 numbers stands for a curve."""

# Display P3 to sRGB, from its published primaries (SMPTE EG 432-1, D65).
P3_TO_SRGB = np.array([[1.2249, -0.2249, 0.0], [-0.0421, 1.0421, 0.0], [-0.0196, -0.0786, 1.0982]])
VALUES = np.arange(256) / 255


def decoded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear light of sRGB, as IEC 61966-2-1 writes it."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def encoded(light: NDArray[np.float64]) -> NDArray[np.float64]:
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def test_every_number_is_encoded_to_nearest_and_none_goes_back() -> None:
    table = color_numpy.encoding().astype(np.float64)
    exact = encoded(np.arange(65536) / 65535)
    assert np.abs(table - exact).max() <= 0.5 + OFF_NEAREST
    assert (np.diff(table) >= 0).all()
    assert (table[[0, -1]] == (0, 255)).all()


def test_slopes_and_rests_fit_the_kernel() -> None:
    level, rest, slope = color_numpy.encoding_lines().astype(int)
    assert slope.max() <= 127  # the kernel multiplies them as signed bytes
    rest = np.where(rest > 127, rest - 256, rest)
    assert (32 * rest + 255 * slope).max() < 2**15
    assert level.max() <= 255


@pytest.mark.parametrize("name", [*COMPILED, "numpy"])
def test_nothing_changes_where_nothing_is_to_be_done(name: str) -> None:
    image = random_image(61, 67)
    expected = image.copy()
    with forced(name):
        to_srgb(image, color_tables(np.stack([decoded(VALUES)] * 3), np.eye(3)))
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("name", [*COMPILED, "numpy"])
def test_colours_are_those_of_floats(name: str) -> None:
    image = random_image(61, 67)
    exact = encoded(decoded(image / 255) @ P3_TO_SRGB.T)
    with forced(name):
        to_srgb(image, color_tables(np.stack([decoded(VALUES)] * 3), P3_TO_SRGB))
    # 16 bits of linear light are a twentieth of a level where the curve is steepest, three times a pixel.
    assert np.abs(image - exact).max() <= 0.5 + OFF_NEAREST + 0.15


def test_neutral_colours_stay_neutral() -> None:
    grays = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    to_srgb(grays, color_tables(np.stack([decoded(VALUES)] * 3), P3_TO_SRGB + 1e-4))
    np.testing.assert_array_equal(grays, np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2))


@pytest.mark.parametrize("name", COMPILED)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 9), width=st.integers(1, 300))
def test_every_instruction_set_gives_the_bits_of_the_twin(name: str, seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    curves = rng.random((3, 256)) if seed % 2 else np.sort(rng.random((3, 256)) ** 3)
    matrix = rng.normal(0, 10.0 ** rng.integers(-2, 2), (3, 3))
    tables = color_tables(curves, matrix)
    # Rows lie apart, so that what is between them is seen to stay as it is.
    space = rng.integers(0, 256, (height, width + rng.integers(0, 3), 3), dtype=np.uint8)
    expected = space.copy()
    with forced("numpy"):
        to_srgb(expected[:, :width], tables)
    with forced(name):
        to_srgb(space[:, :width], tables)
    np.testing.assert_array_equal(space, expected)


@pytest.mark.parametrize("name", [*COMPILED, "numpy"])
def test_sums_at_the_limits_do_not_overflow(name: str) -> None:
    image = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]]], np.uint8)
    image = np.repeat(image, 40, axis=1)
    for matrix in (np.full((3, 3), 42.0), np.full((3, 3), -42.0), np.diag([127.0, -127.0, -1.4999])):
        light = (image / 255) @ matrix.T
        converted = image.copy()
        with forced(name):
            to_srgb(converted, color_tables(np.stack([VALUES] * 3), matrix))
        np.testing.assert_array_equal(converted, np.rint(encoded(light)).astype(np.uint8))


def test_arguments_are_checked() -> None:
    tables = color_tables(np.stack([VALUES] * 3), np.eye(3))
    for image in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(UsageError, match="image is"):
            to_srgb(image, tables)
    fixed = np.zeros((4, 4, 3), np.uint8)
    fixed.flags.writeable = False
    with pytest.raises(UsageError, match="cannot be written"):
        to_srgb(fixed, tables)
    with pytest.raises(UsageError, match="3 x 256"):
        color_tables(np.zeros((3, 255)), np.eye(3))
    with pytest.raises(UsageError, match="0 to 1"):
        color_tables(np.full((3, 256), np.nan), np.eye(3))
    with pytest.raises(UsageError, match="0 to 1"):
        color_tables(np.zeros((3, 256)), np.full((3, 3), np.inf))
    with pytest.raises(UsageError, match="at most 127"):
        color_tables(np.zeros((3, 256)), np.diag([129.0, 1, 1]))
