"""Working ahead in threads: order, bounded look-ahead, the end of the threads; what is kept of an error."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

import icc
from iqa_runtime import PatchPlan, read_contract
from iqa_runtime.errors import ImageError, ResourceError
from iqa_runtime.images.loading import DEFAULT_PIXEL_LIMIT, LoadedImage
from iqa_runtime.scoring.crops import CropInput
from iqa_runtime.scoring.patch_plans import parse_patch_plan
from iqa_runtime.scoring.preparation import Preparer, prefetch
from iqa_runtime.scoring.resizing import parse_resize, with_resize

DEADLINE = 60
"""Seconds after which a test that waits for a thread gives up; nothing is measured by it."""


def decode_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("iqa-decode")]


def test_prefetch_keeps_order_when_later_work_ends_first() -> None:
    done = [threading.Event() for _ in range(40)]

    def work(number: int) -> int:
        # Every third waits for the one behind it.
        if number % 3 == 0 and number + 1 < len(done):
            assert done[number + 1].wait(DEADLINE)
        done[number].set()
        return number

    assert list(prefetch(work, range(40), 4, 4)) == list(range(40))


def test_prefetch_works_ahead_while_the_caller_is_busy() -> None:
    begun = threading.Semaphore(0)

    def work(number: int) -> int:
        begun.release()
        return number

    stream = prefetch(work, range(10), 2, 2)
    next(stream)
    assert all(begun.acquire(timeout=DEADLINE) for _ in range(3))
    stream.close()


def test_prefetch_takes_no_more_than_its_look_ahead() -> None:
    taken = itertools.count()
    stream = prefetch(lambda number: number, taken, 2, 3)
    for _ in range(5):
        next(stream)
    # 5 given out, 3 ahead; the next one taken shows how many were.
    assert next(taken) == 8
    stream.close()


def test_prefetch_ends_its_threads_when_closed() -> None:
    stream = prefetch(lambda number: number, itertools.count(), 2, 2)
    next(stream)
    assert decode_threads()
    stream.close()
    assert not decode_threads()


def test_what_the_arguments_raise_comes_through() -> None:
    def arguments() -> Iterator[int]:
        yield 1
        raise RuntimeError

    with pytest.raises(RuntimeError):
        list(prefetch(lambda number: number, arguments(), 1, 1))
    assert not decode_threads()


def test_ctrl_c_waits_for_no_thread() -> None:
    released = threading.Event()

    def arguments() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(prefetch(lambda _: released.wait(), arguments(), 1, 1))
    (thread,) = decode_threads()
    released.set()
    thread.join()


def test_positions_come_by_item(artefacts: Any, noise: Any) -> None:
    plan = PatchPlan(kind="random", size=artefacts.side, count=8, seed=0)
    contract = read_contract(artefacts.packed(per_item=4))
    prepared = Preparer(contract, plan, pixel_limit=DEFAULT_PIXEL_LIMIT).prepare(noise(40, 50), None)
    assert prepared.subject is not None
    assert prepared.subject.positions.shape == (2, 4, 2)
    assert (prepared.width, prepared.height, prepared.error) == (50, 40, None)


@pytest.mark.parametrize(
    "surprise",
    [
        ImportError("libx.so: failed to map segment"),
        KeyError(6),
        MemoryError(),
        RecursionError("deep"),
        ValueError("byte"),
        OSError(5),
    ],
)
def test_a_surprise_of_one_image_is_its_error_alone(
    surprise: Exception, artefacts: Any, noise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = artefacts.contract()
    preparer = Preparer(contract, contract.patch_plan, pixel_limit=DEFAULT_PIXEL_LIMIT)

    def load(source: Any, *, color_space: str, **options: Any) -> LoadedImage:
        assert options == {"pixel_limit": DEFAULT_PIXEL_LIMIT, "target": None, "bands": None, "frame": None}
        if isinstance(source, str):
            raise surprise
        return LoadedImage(source, color_space, *source.shape[:2])

    monkeypatch.setattr("iqa_runtime.scoring.preparation.load_with_color", load)
    good = noise(64, 64)
    prepared = list(prefetch(lambda source: preparer.prepare(source, None), [good, "bad.jpg", good], 2, 1))
    assert [entry.error is None for entry in prepared] == [True, False, True]
    error = prepared[1].error
    assert isinstance(error, ImageError)
    assert "bad.jpg" in str(error)
    assert ("not enough memory" in str(error)) == isinstance(surprise, MemoryError)
    assert isinstance(error, ResourceError) == isinstance(surprise, (ImportError, MemoryError))
    assert ("give the process more memory" in str(error)) == isinstance(surprise, ImportError)


def test_colours_are_converted_or_stay_as_stored(artefacts: Any) -> None:
    stream = BytesIO()
    picture = Image.new("RGB", (64, 64), (200, 80, 40))
    picture.save(stream, "PNG", icc_profile=icc.matrix_profile(icc.DISPLAY_P3, icc.SRGB_CURVE))
    data, found = stream.getvalue(), {}
    for color_space in ("sRGB", "stored"):
        with_reference = read_contract(artefacts.difference(f"difference_{color_space}"))
        inputs = tuple(replace(tensor, color_space=color_space) for tensor in with_reference.inputs)
        contract = replace(with_reference, inputs=inputs)
        prepared = Preparer(contract, contract.patch_plan, pixel_limit=DEFAULT_PIXEL_LIMIT).prepare(data, data)
        assert prepared.subject is not None
        assert prepared.subject.reference is not None
        np.testing.assert_array_equal(prepared.subject.image, prepared.subject.reference.image)
        found[prepared.color] = prepared.subject.image[0, 0].tolist()
    assert found["stored"] == [200, 80, 40]
    assert np.abs(np.subtract(found["Display P3 -> sRGB"], [216, 69, 17])).max() <= 1  # littleCMS, and its rounding


def test_a_kept_error_holds_on_to_no_frames(artefacts: Any, noise: Any, save_png: Any, tmp_path: Any) -> None:
    contract = artefacts.contract()
    content = save_png(tmp_path / "image.png", noise(40, 40)).read_bytes()
    broken = bytearray(content)
    broken[len(broken) // 2] ^= 255
    for source in (bytes(broken), tmp_path / "missing.png"):
        error = Preparer(contract, contract.patch_plan, pixel_limit=DEFAULT_PIXEL_LIMIT).prepare(source, None).error
        assert error is not None
        link: BaseException | None = error
        while link is not None:
            assert link.__traceback__ is None
            link = link.__cause__ or link.__context__


@pytest.mark.parametrize(
    ("plan", "height", "width", "less"),
    [("five", 90, 81, True), ("random:8", 90, 81, False), ("grid", 90, 81, False), ("five", 7, 4000, True)],
)
def test_crops_alone_are_the_same_crops(
    artefacts: Any, noise: Any, plan: str, height: int, width: int, less: bool
) -> None:
    contract = artefacts.contract()
    crop = CropInput.of_contract(contract, "image")
    preparer = Preparer(contract, parse_patch_plan(plan, contract.patch_plan), pixel_limit=DEFAULT_PIXEL_LIMIT)
    image = noise(height, width)
    whole, alone = (preparer.prepare(image, None, crops_alone=chosen).subject for chosen in (False, True))
    assert whole is not None
    assert alone is not None
    assert (alone.image.nbytes < image.nbytes) is less
    assert (alone.height, alone.width) == (height, width)
    np.testing.assert_array_equal(alone.positions, whole.positions)
    cut = [crop.buffer(len(whole.positions)) for _ in range(2)]
    for out, subject in zip(cut, (whole, alone), strict=True):
        crop.fill(out, subject.image, subject.cuts)
    np.testing.assert_array_equal(*cut)


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 6])
@pytest.mark.parametrize(
    ("plan", "rows"),
    [
        ("five", 3 * 32),
        ("center", 32),
        ("random:2", 2 * 32),
        ("random:40", None),
        ("uniform:6", 3 * 32),
        ("grid", None),
    ],
)
def test_rows_without_crops_are_left_out(artefacts: Any, plan: str, rows: int | None, orientation: int) -> None:
    pytest.importorskip("iqa_runtime._jpeg_bands")
    contract = artefacts.contract()
    crop = CropInput.of_contract(contract, "image")
    preparer = Preparer(contract, parse_patch_plan(plan, contract.patch_plan), pixel_limit=DEFAULT_PIXEL_LIMIT)
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise = np.random.default_rng(0).integers(0, 256, (180, 120, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", exif=exif)
    height, width = (120, 180) if orientation > 4 else (180, 120)
    loaded = preparer.load(buffer.getvalue(), crops_alone=True)
    left_out = rows is not None and orientation < 5
    assert loaded.pixels.shape == (rows if left_out else height, width, 3)
    whole, alone = (preparer.prepare(buffer.getvalue(), None, crops_alone=chosen).subject for chosen in (False, True))
    assert whole is not None
    assert alone is not None
    assert whole.image.shape == (height, width, 3)
    assert (alone.height, alone.width) == (height, width)
    np.testing.assert_array_equal(alone.positions, whole.positions)
    cut = [crop.buffer(len(whole.positions)) for _ in range(2)]
    for out, subject in zip(cut, (whole, alone), strict=True):
        crop.fill(out, subject.image, subject.cuts)
    np.testing.assert_array_equal(*cut)


def test_bands_are_rows_that_crops_are_in(artefacts: Any) -> None:
    contract = artefacts.contract()

    def bands(plan: str, height: int, width: int) -> list[tuple[int, int]] | None:
        chosen = parse_patch_plan(plan, contract.patch_plan)
        return Preparer(contract, chosen, pixel_limit=DEFAULT_PIXEL_LIMIT)._bands(height, width)

    assert bands("five", 200, 100) == [(0, 32), (84, 116), (168, 200)]
    assert bands("five", 128, 100) == [(0, 32), (48, 80), (96, 128)]  # three quarters of the rows
    assert bands("five", 127, 100) is None
    assert bands("center", 31, 100) is None  # it hangs over the edges
    assert bands("center", 200, 20) == [(84, 116)]  # columns may: rows are decoded at their full width
    assert bands("uniform:8", 270, 50) is None
    assert bands("grid:1", 20000, 20000) is None  # more crops than any plan may have


def test_too_many_crops_are_told_with_the_size(artefacts: Any) -> None:
    contract = artefacts.contract()
    preparer = Preparer(contract, parse_patch_plan("grid:1", contract.patch_plan), pixel_limit=DEFAULT_PIXEL_LIMIT)
    buffer = BytesIO()
    Image.new("L", (1100, 1100)).save(buffer, "JPEG")
    prepared = preparer.prepare(buffer.getvalue(), None, crops_alone=True)
    assert "more than 1000000" in str(prepared.error)
    assert (prepared.height, prepared.width) == (1100, 1100)


def test_a_resized_picture_is_decoded_whole(artefacts: Any) -> None:
    contract = with_resize(artefacts.contract(), parse_resize("shorter:60"))
    preparer = Preparer(contract, contract.patch_plan, pixel_limit=DEFAULT_PIXEL_LIMIT)
    buffer = BytesIO()
    Image.new("L", (100, 300)).save(buffer, "JPEG")
    assert preparer.load(buffer.getvalue(), crops_alone=True).bands is None
