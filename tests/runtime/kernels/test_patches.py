"""The kernels: the NumPy twin against hand-made values and other libraries, every instruction set against the twin."""

import importlib.machinery
import math
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from chosen_kernels import COMPILED, forced, random_image
from iqa_runtime import kernels
from iqa_runtime.errors import UsageError
from iqa_runtime.kernels import extract_patches, instruction_set, patches, patches_numpy

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
UNIT = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def assert_same_bits(actual: NDArray[Any], expected: NDArray[Any]) -> None:
    """No tolerance: the kernels look up or reproduce the twin's values, so that not one bit may differ."""
    assert actual.dtype == expected.dtype
    bits = np.dtype(f"u{actual.dtype.itemsize}")
    np.testing.assert_array_equal(actual.view(bits), expected.view(bits))


# --- what is computed ---


@pytest.mark.parametrize("name", [*COMPILED, "numpy"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_values_computed_by_hand(name: str, dtype: type) -> None:
    image = np.array([[[0, 51, 255], [255, 102, 0]], [[51, 51, 51], [102, 0, 255]]], dtype=np.uint8)
    mean, std = (0.5, 0.2, 0.0), (0.5, 0.25, 2.0)
    with forced(name):
        plain = extract_patches(image, np.array([[0, 0], [1, 1]]), (1, 2), mean, std, dtype=dtype)
        swapped = extract_patches(image, np.array([[0, 0]]), (2, 1), mean, std, swap_channels=True, dtype=dtype)
    # (0/255 - .5)/.5 = -1, (1 - .5)/.5 = 1; (.2 - .2)/.25 = 0, (.4 - .2)/.25 = .8; 1/2 = .5, 0
    # The second crop starts at the last pixel, whose right neighbour is its left one, reflected.
    expected = np.array([[[[-1, 1]], [[0, 0.8]], [[0.5, 0]]], [[[-0.2, -0.6]], [[-0.8, 0]], [[0.5, 0.1]]]])
    np.testing.assert_array_equal(plain, expected.astype(dtype))
    np.testing.assert_array_equal(swapped, np.array([[[[1], [-0.6]], [[0], [0]], [[0], [0.1]]]]).astype(dtype))


@pytest.mark.parametrize(("height", "width", "reach"), [(5, 7, 4), (2, 3, 9), (1, 4, 6), (1, 1, 3), (6, 1, 20)])
def test_reflection_is_that_of_numpy_and_opencv(height: int, width: int, reach: int) -> None:
    image = random_image(height, width)
    size = (height + 2 * reach, width + 2 * reach)
    patch = extract_patches(image, np.array([[-reach, -reach]]), size, *UNIT)[0].transpose(1, 2, 0)
    pixels = np.rint(patch * 255).astype(np.uint8)
    np.testing.assert_array_equal(pixels, np.pad(image, ((reach,) * 2, (reach,) * 2, (0, 0)), mode="reflect"))
    np.testing.assert_array_equal(pixels, cv2.copyMakeBorder(image, reach, reach, reach, reach, cv2.BORDER_REFLECT_101))


def test_reflected_indices_bounce_as_often_as_needed() -> None:
    np.testing.assert_array_equal(
        patches_numpy.reflect(np.arange(-5, 9), 4), [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2]
    )
    np.testing.assert_array_equal(patches_numpy.reflect(np.arange(-2, 3), 1), 0)


@pytest.mark.parametrize("name", [*COMPILED, "numpy"])
def test_rounds_once_from_double_precision(name: str) -> None:
    # 256 grays in all channels; what double precision gives, computed one value at a time without NumPy's arithmetic.
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3)
    mean, std = IMAGENET
    expected = [[(gray / 255.0 - mean[c]) / std[c] for gray in range(256)] for c in range(3)]
    for dtype in (np.float32, np.float16):
        with forced(name):
            patch = extract_patches(image, np.array([[0, 0]]), (1, 256), mean, std, dtype=dtype)
        assert_same_bits(patch[0, :, 0], np.array(expected).astype(dtype))


# --- every instruction set against the twin ---

sides = st.integers(1, 70)
offsets = st.integers(-150, 150) | st.sampled_from([kernels.MAX_POSITION, -kernels.MAX_POSITION])
means = st.tuples(*[st.floats(-1, 2) | st.integers(0, 255).map(lambda gray: gray / 255)] * 3)
stds = st.tuples(*[st.floats(1e-2, 10) | st.sampled_from([1.0, 0.5, 1 / 255])] * 3)


@st.composite
def images(draw: st.DrawFn) -> NDArray[np.uint8]:
    """Images cut out of larger ones, their rows sometimes upside down, every second or all the same."""
    height, width, left = draw(sides), draw(sides), draw(st.integers(0, 3))
    whole = random_image(height, width + left, draw(st.integers(0, 2**32 - 1)))[:, left:]
    views = (whole, whole[::-1], whole[::2], np.broadcast_to(whole[:1], whole.shape))
    return views[draw(st.integers(0, 3))]


@pytest.mark.parametrize("name", COMPILED)
@settings(max_examples=150)
@given(
    image=images(),
    positions=st.lists(st.tuples(offsets, offsets), max_size=4),
    size=st.tuples(sides, sides),
    mean=means,
    std=stds,
    swap_channels=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float16]),
    threads=st.integers(1, 3),
)
def test_same_bits_as_the_twin(
    name: str,
    image: NDArray[np.uint8],
    positions: list[tuple[int, int]],
    size: tuple[int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    swap_channels: bool,
    dtype: type,
    threads: int,
) -> None:
    tops_and_lefts = np.array(positions, dtype=np.int64).reshape(-1, 2)
    options: dict[str, Any] = {"swap_channels": swap_channels, "dtype": dtype}
    with forced(name):
        actual = extract_patches(image, tops_and_lefts, size, mean, std, threads=threads, **options)
    with forced("numpy"):
        expected = extract_patches(image, tops_and_lefts, size, mean, std, **options)
    assert_same_bits(actual, expected)


@pytest.mark.parametrize("name", ["avx512", "avx2", "neon"])
def test_formula_and_table_give_the_same_bits(name: str) -> None:
    """Both ways of the SIMD kernels: the formula for usual constants, the table where pixel / 255 meets the mean."""
    compiled = pytest.importorskip("iqa_runtime._kernels")
    image = random_image(40, 50)
    usual, meeting = IMAGENET, ((math.nextafter(51 / 255, 1),) * 3, (1.0,) * 3)
    for (mean, std), by_formula in ((usual, True), (meeting, False)):
        with forced(name):
            table = patches._table(mean, std, np.dtype(np.float32))
            assert compiled.formula_is_exact(table, mean, std, False, name) is by_formula
            actual = extract_patches(image, np.array([[3, 4]]), (33, 35), mean, std)
        with forced("numpy"):
            assert_same_bits(actual, extract_patches(image, np.array([[3, 4]]), (33, 35), mean, std))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", ["avx512", "avx2", "neon"])
def test_lookup_is_rare(name: str, dtype: type) -> None:
    """Without the nudged scale one in twenty half-precision calls would look up; with it hardly any does."""
    compiled = pytest.importorskip("iqa_runtime._kernels")
    generator = np.random.default_rng(5)
    with forced(name):
        exact = 0
        for _ in range(200):
            mean, std = tuple(generator.uniform(0, 1, 3)), tuple(generator.uniform(0.1, 1, 3))
            table = patches._table(mean, std, np.dtype(dtype))
            exact += compiled.formula_is_exact(table, mean, std, False, name)
    assert exact >= 198


@pytest.mark.parametrize("name", COMPILED)
def test_threads_do_not_change_a_bit(name: str) -> None:
    image, positions = random_image(300, 400), np.array([[0, 0], [76, 176], [-9, 300]])
    with forced(name):
        one, *others = (extract_patches(image, positions, (224, 224), *IMAGENET, threads=n) for n in (1, 2, 3, 64))
    for other in others:
        assert_same_bits(other, one)


@pytest.mark.parametrize("name", COMPILED)
def test_concurrent_calls_do_not_disturb_each_other(name: str) -> None:
    """The kernels release the GIL and share the image and the table."""
    image, positions = random_image(300, 400), np.array([[0, 0], [76, 176], [-9, 300]])
    swaps = [False, True] * 8
    with forced(name):
        expected = [
            extract_patches(image, positions, (99, 98), *IMAGENET, swap_channels=swap) for swap in (False, True)
        ]
        with ThreadPoolExecutor(4) as pool:
            actual = pool.map(
                lambda swap: extract_patches(image, positions, (99, 98), *IMAGENET, swap_channels=swap), swaps
            )
            for swap, patches in zip(swaps, actual, strict=True):
                assert_same_bits(patches, expected[swap])


# --- arguments ---


def test_writes_to_out_and_to_nothing_else() -> None:
    image = random_image(30, 30)
    image.flags.writeable = False
    block = np.full((4, 3, 16, 17), 7, dtype=np.float32)
    returned = extract_patches(image, np.array([[0, 0], [5, 6]]), (16, 17), *IMAGENET, out=block[1:3])
    assert returned.base is block
    assert (block[0] == 7).all()
    assert (block[3] == 7).all()
    assert_same_bits(block[1:3], extract_patches(image, np.array([[0, 0], [5, 6]]), (16, 17), *IMAGENET))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_arrays_begin_at_a_cache_line(dtype: type) -> None:
    for size in range(1, 20):
        array = kernels.aligned_empty((size, 3), dtype)
        array.fill(1)
        assert array.ctypes.data % 64 == 0
        assert (array.shape, array.dtype, array.flags.carray) == ((size, 3), dtype, True)


def test_positions_may_be_strided_and_none() -> None:
    image = random_image(30, 30)
    strided = np.array([[1, 9, 2], [3, 9, 4]])[:, ::2]
    expected = extract_patches(image, np.array([[1, 2], [3, 4]]), (8, 8), *IMAGENET)
    assert_same_bits(extract_patches(image, strided, (8, 8), *IMAGENET), expected)
    assert extract_patches(image, strided[:0], (8, 8), *IMAGENET).shape == (0, 3, 8, 8)


def overlapping() -> dict[str, Any]:
    block = np.zeros(10_000, dtype=np.float32)
    return {"image": block.view(np.uint8)[:2700].reshape(30, 30, 3), "out": block[:192].reshape(1, 3, 8, 8)}


def unwriteable() -> NDArray[np.float32]:
    out = np.zeros((1, 3, 8, 8), dtype=np.float32)
    out.flags.writeable = False
    return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": [[1]]}, "image is a list; use an array of uint8"),
        ({"image": np.zeros((9, 9, 3))}, "image is 9 x 9 x 3 float64; use an array of uint8"),
        ({"image": np.zeros((9, 9), np.uint8)}, "image is 9 x 9 uint8; use height x width x 3"),
        ({"image": np.zeros((9, 9, 4), np.uint8)}, "image is 9 x 9 x 4 uint8; use height x width x 3"),
        ({"image": np.zeros((9, 0, 3), np.uint8)}, "each side at least 1 pixel"),
        ({"image": np.zeros((9, 9, 3), np.uint8)[:, ::2]}, "the bytes of a row must lie side by side"),
        ({"image": np.zeros((9, 9, 3), np.uint8)[..., ::-1]}, "swap_channels=True instead"),
        ({"image": np.zeros((9, 9, 4), np.uint8)[..., :3]}, "ascontiguousarray"),
        ({"positions": [[0, 0]]}, "positions are a list"),
        ({"positions": np.zeros((1, 2))}, "positions are 1 x 2 float64"),
        ({"positions": np.zeros((1, 2), np.int32)}, "positions are 1 x 2 int32"),
        ({"positions": np.zeros((1, 3), np.int64)}, "positions are 1 x 3 int64"),
        ({"positions": np.zeros(2, np.int64)}, "positions are 2 int64"),
        ({"positions": np.array([[0, 2**31]])}, "positions reach from 0 to 2147483648"),
        ({"positions": np.array([[-(2**63), 2**63 - 1]])}, "positions reach from -9223372036854775808"),
        ({"size": 8}, "size is 8; use"),
        ({"size": (8, 8, 3)}, "size is (8, 8, 3); use"),
        ({"size": (8, 8.5)}, "size is (8, 8.5); use"),
        ({"size": (0, 8)}, "sides must be 1 to 65536"),
        ({"size": (8, 65_537)}, "sides must be 1 to 65536"),
        ({"size": (2**80, 8)}, "sides must be 1 to 65536"),
        ({"mean": (0.5, 0.5)}, "mean has 2 values"),
        ({"mean": 0.5}, "mean is 0.5; use 3 numbers"),
        ({"mean": ("a", "b", "c")}, "use 3 numbers"),
        ({"mean": (0.5, 0.5, float("nan"))}, "use finite numbers"),
        ({"std": (0.5, 0.5, float("inf"))}, "use finite numbers above 0"),
        ({"std": (0.5, 0.0, 0.5)}, "use finite numbers above 0"),
        ({"std": (0.5, -1.0, 0.5)}, "use finite numbers above 0"),
        ({"std": (1e-300,) * 3}, "beyond the range of float32"),
        ({"std": (1e-320,) * 3}, "beyond the range of float32"),
        ({"std": (1e-6,) * 3, "dtype": np.float16}, "beyond the range of float16"),
        ({"dtype": np.float64}, "dtype is float64; use float32 or float16"),
        ({"dtype": ">f4"}, "dtype is >f4"),
        ({"dtype": "no dtype"}, "dtype is 'no dtype'"),
        ({"threads": 0}, "threads is 0; use 1 to 64"),
        ({"threads": 65}, "threads is 65"),
        ({"threads": 1.5}, "threads is 1.5"),
        ({"threads": True}, "threads is True"),
        ({"out": np.zeros((1, 3, 8, 9), np.float32)}, "out is 1 x 3 x 8 x 9 float32; it must be 1 x 3 x 8 x 8 float32"),
        ({"out": np.zeros((1, 3, 8, 8))}, "out is 1 x 3 x 8 x 8 float64"),
        ({"out": np.zeros((1, 3, 8, 16), np.float32)[..., ::2]}, "out must be C-contiguous"),
        ({"out": np.zeros(769, np.uint8)[1:].view(np.float32).reshape(1, 3, 8, 8)}, "aligned"),
        ({"out": unwriteable()}, "writeable"),
        (overlapping(), "out overlaps"),
        ({"size": (65_536, 65_536), "positions": np.zeros((10**6, 2), np.int64)}, "extract fewer a call"),
    ],
)
@pytest.mark.parametrize("name", ["", "numpy"])
def test_wrong_arguments_are_one_clear_error(name: str, change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "image": np.zeros((30, 30, 3), np.uint8),
        "positions": np.zeros((1, 2), np.int64),
        "size": (8, 8),
        "mean": IMAGENET[0],
        "std": IMAGENET[1],
        **change,
    }
    with forced(name), pytest.raises(UsageError, match=re.escape(message)):
        extract_patches(**arguments)


# --- the choice of the instruction set ---


def test_compiled_kernels_are_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = pytest.importorskip("iqa_runtime._kernels")
    monkeypatch.delenv("IQA_KERNELS", raising=False)
    assert instruction_set() == compiled.instruction_sets()[0]
    assert compiled.instruction_sets()[-1] == "scalar"
    assert compiled.MAX_THREADS == kernels.MAX_THREADS


def test_an_unavailable_instruction_set_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IQA_KERNELS", "sse9")
    with pytest.raises(UsageError, match=r"IQA_KERNELS=sse9: not available here; .* use one of .*numpy"):
        instruction_set()


def test_falls_back_to_numpy_without_the_extension() -> None:
    """A fresh interpreter in which the compiled module can't be found."""
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    program = f"""
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "iqa_runtime._kernels":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
import numpy as np
from iqa_runtime import kernels
assert not any(str(getattr(m, "__file__", "")).endswith(tuple({suffixes!r})) for n, m in sys.modules.items()
               if n.startswith("iqa_runtime"))
image = np.full((4, 4, 3), 255, np.uint8)
print(kernels.instruction_set(), kernels.extract_patches(image, np.zeros((1, 2), np.int64), (4, 4), *{UNIT!r}).sum())
"""
    environment = {key: value for key, value in os.environ.items() if key != "IQA_KERNELS"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout == "numpy 48.0\n", done.stderr
