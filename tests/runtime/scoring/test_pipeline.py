"""Batches across images: order, bounded memory, early exit, interruptions."""

from __future__ import annotations

import gc
import itertools
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray

from changed_backend import Outputs, onnx_runtime_with
from iqa_runtime import BackendError, ResourceError, Scorer, UsageError
from iqa_runtime.backends import base
from iqa_runtime.backends.batch_run import BatchRun
from iqa_runtime.backends.onnx_runtime import OnnxRuntimeBackend
from iqa_runtime.images.loading import LoadedImage
from iqa_runtime.scoring import crops, pipeline, preparation

Noise = Callable[..., NDArray[np.uint8]]
Run = Callable[[], Outputs]

DEADLINE = 60
"""Seconds after which a test that waits for a thread gives up; nothing is measured by it."""


def decode_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("iqa-decode")]


def test_batches_are_filled_across_images_and_results_keep_their_order(artefacts: Any, noise: Noise) -> None:
    images = [noise(40 + index, 60 - index, index) for index in range(11)]
    with Scorer(artefacts.mean(), batch_size=7, threads=2) as scorer:
        alone = [scorer.score(image) for image in images]
        assert list(scorer.score_many(iter(images))) == alone
    assert len({result.value for result in alone}) == len(images)


def test_no_images_no_results(artefacts: Any) -> None:
    with Scorer(artefacts.mean()) as scorer:
        assert list(scorer.score_many([])) == []


def test_endless_streams_are_scored_as_they_come(artefacts: Any, noise: Noise) -> None:
    image = noise(40, 40)
    with Scorer(artefacts.mean(), threads=2) as scorer:
        stream = scorer.score_many(itertools.repeat(image))
        values = [result.value for result in itertools.islice(stream, 20)]
        stream.close()  # type: ignore[attr-defined]
    assert len(set(values)) == 1
    assert not decode_threads()


def test_dropping_the_iterator_ends_the_threads(artefacts: Any, noise: Noise) -> None:
    image = noise(40, 40)
    with Scorer(artefacts.mean(), threads=2) as scorer:
        for result in scorer.score_many(itertools.repeat(image)):
            assert result.value is not None
            break
        gc.collect()
        assert not decode_threads()


@pytest.mark.parametrize("allowed", range(4))
def test_where_no_thread_can_be_started_the_message_says_so(
    artefacts: Any, noise: Noise, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    """Decoders, the model and time limits start threads; any of them may be the one too many."""
    start, left = threading.Thread.start, itertools.count(allowed, -1)

    def start_if_allowed(thread: threading.Thread) -> None:
        if next(left) <= 0:
            raise RuntimeError("can't start new thread")
        start(thread)

    for timeout in (None, DEADLINE):
        with Scorer(artefacts.mean(), threads=2, timeout=timeout) as scorer, monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start_if_allowed)
            left = itertools.count(allowed, -1)
            try:
                results = list(scorer.score_many([noise(40, 40)] * 5))
                errors = [result.error for result in results if result.error is not None]
            except ResourceError as error:
                errors = [error]
        assert errors
        assert all("no further thread can be started; give fewer ``threads``" in str(error) for error in errors)
        assert all(isinstance(error, ResourceError) for error in errors)
    assert not decode_threads()


def test_interrupting_the_model_ends_the_stream(artefacts: Any, noise: Noise) -> None:
    with Scorer(artefacts.mean(), backend=onnx_runtime_with(Mock(side_effect=KeyboardInterrupt))) as scorer:
        # The exception kept, its frames keep the generators: only closing them ends the threads.
        with pytest.raises(KeyboardInterrupt) as caught:
            list(scorer.score_many([noise(40, 40)] * 3))
        # They end by themselves: nobody waits for a decoder after Ctrl-C.
        for thread in decode_threads():
            thread.join(DEADLINE)
        assert not decode_threads()
        assert caught.tb is not None


def test_a_failing_backend_is_the_error_of_the_images_in_its_batch(artefacts: Any, noise: Noise) -> None:
    calls = itertools.count()

    def failing_once(run: Run) -> Outputs:
        if next(calls) == 2:
            raise BackendError("out of memory")
        return run()

    backend = onnx_runtime_with(failing_once)
    with Scorer(artefacts.mean(), crops="center", batch_size=2, threads=1, backend=backend) as scorer:
        results = list(scorer.score_many([noise(40, 40)] * 6))
    assert [result.error is None for result in results] == [True, True, False, False, True, True]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("crops", ["five", "grid:16"])
def test_few_decoded_images_are_alive_at_a_time(
    artefacts: Any, noise: Noise, monkeypatch: pytest.MonkeyPatch, threads: int, crops: str
) -> None:
    changed = threading.Condition(threading.RLock())  # a picture may be forgotten wherever its last holder is
    taken = decoded = alive = most = 0

    def sources() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(30):
            taken += 1
            yield b"some bytes"

    def gone() -> None:
        nonlocal alive
        with changed:
            alive -= 1

    def decode(source: Any, *, pixel_limit: int, color_space: str, **_: object) -> LoadedImage:
        nonlocal alive, decoded, most
        image = noise(160, 160, len(source) + pixel_limit % 2)
        weakref.finalize(image, gone)
        with changed:
            alive += 1
            decoded += 1
            most = max(most, alive)
            changed.notify()
        return LoadedImage(image, color_space, *image.shape[:2])

    monkeypatch.setattr(preparation, "load_with_color", decode)
    with Scorer(artefacts.mean(), threads=threads, batch_size=16, crops=crops) as scorer:
        for _ in scorer.score_many(sources()):
            # The threads decode all they have been given before the next one is given out.
            with changed:
                assert changed.wait_for(lambda: decoded == taken, DEADLINE)
    assert most <= threads + 1
    assert alive == 0


@pytest.mark.parametrize(("crops", "ahead"), [("five", 8), ("grid:16", 2), ("random:2000", 2)])
def test_images_are_read_far_ahead_only_where_little_waits_of_them(
    artefacts: Any, noise: Noise, crops: str, ahead: int
) -> None:
    image = noise(64, 64)
    taken = itertools.count()
    with Scorer(artefacts.mean(), threads=2, batch_size=5, crops=crops) as scorer:
        stream = scorer.score_many(image for _ in taken)
        results = list(itertools.islice(stream, 10))
        # Those given out, those that wait, and at most two in batches under way and the one being filled.
        assert ahead <= next(taken) - len(results) <= ahead + 1 + 3
        stream.close()  # type: ignore[attr-defined]


def test_the_next_batch_is_filled_while_the_model_works(
    artefacts: Any, noise: Noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = threading.Semaphore(0)
    fill = crops.extract_patches

    def extract(*arguments: Any, **options: Any) -> Any:
        filled.release()
        return fill(*arguments, **options)

    monkeypatch.setattr(crops, "extract_patches", extract)
    waited: list[bool] = []

    def patient(run: Run) -> Outputs:
        if not waited:
            waited.append(all(filled.acquire(timeout=DEADLINE) for _ in range(2)))
        return run()

    backend = onnx_runtime_with(patient)
    with Scorer(artefacts.mean(), threads=1, batch_size=1, crops="center", backend=backend) as scorer:
        assert len(list(scorer.score_many([noise(40, 40)] * 2))) == 2
    assert waited == [True]


def test_a_stream_that_the_garbage_collector_ends_in_a_thread_of_the_model(artefacts: Any, noise: Noise) -> None:
    class Holder:
        stream: Any

    image = noise(40, 40)
    dropped, collected = threading.Event(), threading.Event()
    begun = threading.Semaphore(0)
    runs = itertools.count()

    class Collecting(OnnxRuntimeBackend):
        def begin(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> BatchRun:
            running = super().begin(inputs, outputs)
            begun.release()
            return running

        def _run(self, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
            # The first gives the result that is waited for, once there is a second.
            number = next(runs)
            if number == 0:
                assert all(begun.acquire(timeout=DEADLINE) for _ in range(2))
            if number == 1 and dropped.wait(DEADLINE):
                gc.collect()
                collected.set()
            return super()._run(inputs, outputs)

    with Scorer(artefacts.mean(), threads=1, crops="center", batch_size=1, backend=Collecting) as scorer:
        gc.disable()
        try:
            holder = Holder()
            holder.stream = itertools.chain(scorer.score_many([image] * 50), [holder])
            next(holder.stream)
            del holder
            dropped.set()
            assert collected.wait(DEADLINE), "the thread waits for itself"
        finally:
            gc.enable()
        assert scorer.score(image).value is not None


def test_a_result_is_not_kept_back_until_later_batches_are_full(artefacts: Any, noise: Noise) -> None:
    class Prompt(OnnxRuntimeBackend):
        """Has ended with a batch before the next image is taken."""

        def begin(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> BatchRun:
            running = super().begin(inputs, outputs)
            running.result()
            return running

    image = noise(40, 40)
    taken = itertools.count()
    with Scorer(artefacts.mean(), threads=1, crops="center", batch_size=8, backend=Prompt) as scorer:
        stream = scorer.score_many(image for _ in taken)
        assert next(stream).value is not None
        # Its batch of 8, and four that are read ahead.
        assert next(taken) == 8 + 4
        stream.close()  # type: ignore[attr-defined]


def test_failed_files_do_not_pile_up_behind_a_batch_that_is_not_full(artefacts: Any, noise: Noise) -> None:
    taken = itertools.count()

    def source() -> Any:
        yield noise(40, 40)
        for _ in taken:
            yield b"no image"

    with Scorer(artefacts.mean(), threads=1, crops="center", batch_size=8) as scorer:
        stream = scorer.score_many(source())
        assert next(stream).value is not None
        assert next(taken) < 200
        stream.close()  # type: ignore[attr-defined]


def test_maps_wait_in_one_batch_only(artefacts: Any, noise: Noise) -> None:
    image = noise(40, 40)
    taken = itertools.count()
    with Scorer(artefacts.mapped(), threads=1, crops="grid", batch_size=8, maps=True) as scorer:
        stream = scorer.score_many(image for _ in taken)
        results = list(itertools.islice(stream, 8))
        assert next(taken) - len(results) <= 8 + 2
        stream.close()  # type: ignore[attr-defined]


def test_a_grid_of_thousands_of_crops_is_never_whole_in_memory(artefacts: Any, noise: Noise) -> None:
    image = noise(900, 1200)
    with Scorer(artefacts.mean(), crops="grid:16", batch_size=8, threads=1) as scorer:
        scorer.score(image[:64, :64])
        tracemalloc.start()
        result = scorer.score(image)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    crop_bytes = 3 * artefacts.side**2 * 4
    assert result.patches > 4000
    # Positions, their Python numbers and the scores, a batch: far below the crops.
    assert peak < 0.05 * result.patches * crop_bytes


def test_the_models_time_is_shared_by_the_items_of_a_batch(
    artefacts: Any, noise: Noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (preparation, pipeline):
        monkeypatch.setattr(module, "perf_counter", lambda: 0.0)
    # The clock as it stands before and after each of the four runs: they take 1, 2, 3 and 4 seconds.
    monkeypatch.setattr(base, "perf_counter", iter([0.0, 1.0, 1.0, 3.0, 3.0, 6.0, 6.0, 10.0]).__next__)
    with Scorer(artefacts.mean(), crops="center", batch_size=4, threads=1) as scorer:
        results = list(scorer.score_many([noise(40, 40)] * 4))
    assert [result.milliseconds for result in results] == [1000 * 10 / 4] * 4


def test_fewer_or_more_references_than_images(artefacts: Any, noise: Noise) -> None:
    image = noise(40, 40)
    with Scorer(artefacts.difference()) as scorer:
        with pytest.raises(UsageError, match="fewer references"):
            list(scorer.score_many([image] * 3, [image] * 2))
        with pytest.raises(UsageError, match="more references"):
            list(scorer.score_many([image] * 2, [image] * 3))
