"""Resizing beside Pillow, which defines it: every byte, with every instruction set, and the twin."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from chosen_kernels import COMPILED, forced, random_image
from iqa_runtime.errors import UsageError
from iqa_runtime.kernels import MAX_RESIZED_SIDE, resize, resizing_numpy

RESAMPLINGS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@pytest.fixture(params=[*COMPILED, "numpy"], autouse=True)
def kernel(request: pytest.FixtureRequest) -> Iterator[None]:
    with forced(request.param):
        yield


def noise(height: int, width: int, seed: int = 0, *, extreme: bool = False) -> NDArray[np.uint8]:
    """Return random pixels; extreme ones are 0 or 255, so that sums leave the range that a byte has."""
    pixels = random_image(height, width, seed)
    return np.where(pixels > 127, 255, 0).astype(np.uint8) if extreme else pixels


def pillow(image: NDArray[np.uint8], size: tuple[int, int], resampling: str) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize(size[::-1], RESAMPLINGS[resampling]))


sides = st.integers(1, 90) | st.sampled_from([1, 2, 3, 4, 5, 16, 17, 127, 128, 129, 255])


@given(
    size=st.tuples(sides, sides),
    wanted=st.tuples(sides, sides),
    resampling=st.sampled_from(list(RESAMPLINGS)),
    extreme=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_byte_is_pillows(
    size: tuple[int, int], wanted: tuple[int, int], resampling: str, extreme: bool, seed: int
) -> None:
    image = noise(*size, seed, extreme=extreme)
    np.testing.assert_array_equal(resize(image, wanted, resampling), pillow(image, wanted, resampling))


@given(
    size=st.tuples(sides, sides),
    wanted=st.tuples(sides, sides),
    resampling=st.sampled_from(list(RESAMPLINGS)),
    data=st.data(),
)
def test_a_region_is_cut_out_of_the_whole(
    size: tuple[int, int], wanted: tuple[int, int], resampling: str, data: st.DataObject
) -> None:
    top, left = data.draw(st.integers(0, wanted[0] - 1)), data.draw(st.integers(0, wanted[1] - 1))
    height, width = data.draw(st.integers(1, wanted[0] - top)), data.draw(st.integers(1, wanted[1] - left))
    image = noise(*size)
    part = resize(image, wanted, resampling, region=(top, left, height, width))
    whole = pillow(image, wanted, resampling)
    np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])


@pytest.mark.parametrize("resampling", list(RESAMPLINGS))
@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((65_500, 1), (7, 5)),
        ((1, 65_500), (5, 7)),
        ((3, 65_500), (3, 512)),
        ((1, 1), (300, 200)),
        ((2, 3), (1, 400)),
        ((600, 800), (512, 683)),
        ((683, 512), (683, 512)),
        ((130, 7), (90, 100)),  # far more rows than columns are lost
    ],
)
def test_odd_shapes(size: tuple[int, int], wanted: tuple[int, int], resampling: str) -> None:
    image = noise(*size, extreme=True)
    np.testing.assert_array_equal(resize(image, wanted, resampling), pillow(image, wanted, resampling))


@pytest.mark.parametrize("resampling", list(RESAMPLINGS))
@pytest.mark.parametrize(
    "view", [lambda a: a[::-1], lambda a: a[::2], lambda a: a[3:40, 5:50], lambda a: np.repeat(a[:1], 9, axis=0)]
)
def test_strides(view, resampling: str) -> None:
    image = view(noise(61, 67))
    wanted = (23, 31)
    np.testing.assert_array_equal(
        resize(image, wanted, resampling), pillow(np.ascontiguousarray(image), wanted, resampling)
    )


def test_rows_that_are_one_and_the_same() -> None:
    image = np.broadcast_to(noise(1, 50), (40, 50, 3))
    np.testing.assert_array_equal(resize(image, (20, 30)), pillow(np.ascontiguousarray(image), (20, 30), "bicubic"))


def test_a_given_array_is_filled_and_the_same_size_is_a_copy() -> None:
    image = noise(30, 40)
    out = np.zeros((30, 40, 3), np.uint8)
    assert resize(image, (30, 40), out=out) is out
    np.testing.assert_array_equal(out, image)
    assert not np.may_share_memory(resize(image, (30, 40)), image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": np.zeros((4, 4), np.uint8)}, "height x width x 3"),
        ({"image": np.zeros((4, 4, 3), np.float32)}, "uint8"),
        ({"image": np.zeros((4, 8, 3), np.uint8)[:, ::2]}, "side by side"),
        ({"size": (0, 4)}, "1 to"),
        ({"size": (4, MAX_RESIZED_SIDE + 1)}, "1 to"),
        ({"size": 4}, "height, width"),
        ({"size": (4.5, 4)}, "height, width"),
        ({"resampling": "area"}, "nearest, box"),
        ({"region": (0, 0, 0, 4)}, "within"),
        ({"region": (-1, 0, 2, 2)}, "within"),
        ({"region": (0, 0, 5, 4)}, "within"),
        ({"region": (0, 0)}, "top, left"),
        ({"out": np.zeros((5, 4, 3), np.uint8)}, "4 x 4 x 3 uint8"),
        ({"out": np.zeros((4, 4, 3), np.int8)}, "4 x 4 x 3 uint8"),
        ({"out": np.zeros((8, 4, 3), np.uint8)[::2]}, "C-contiguous"),
    ],
)
def test_bad_arguments(arguments, message: str) -> None:
    usual = {"image": np.zeros((8, 8, 3), np.uint8), "size": (4, 4)}
    with pytest.raises(UsageError, match=message):
        resize(**(usual | arguments))


def test_an_output_over_the_image() -> None:
    memory = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(UsageError, match="overlaps"):
        resize(memory, (4, 8), out=memory[:4])


def test_a_side_that_is_too_long() -> None:
    with pytest.raises(UsageError, match="can be resized"):
        resize(np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (MAX_RESIZED_SIDE + 1, 1, 3)), (4, 4))


def test_the_compiled_kernel_means_the_same_weights() -> None:
    compiled = pytest.importorskip("iqa_runtime._kernels")
    assert (compiled.WEIGHT_BITS, compiled.TAPS) == (resizing_numpy.WEIGHT_BITS, resizing_numpy.TAPS)
