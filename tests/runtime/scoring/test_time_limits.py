"""Time limits: who is late has an error, nobody waits for him, and how many may be late is bounded."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from changed_backend import Outputs, onnx_runtime_with
from iqa_runtime import ImageError, Scorer, UsageError
from iqa_runtime.scoring import pipeline, preparation, references, time_limits
from iqa_runtime.scoring.time_limits import MAX_OVERDUE, NotBegunError, TimeLimit
from standing_still import DEADLINE, without_clock

LIMIT = 7.0
"""Seconds that nobody waits here: without a clock."""


class Endless:
    """A function that returns when it is told to."""

    def __init__(self) -> None:
        self.begun, self.released = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.released.wait(DEADLINE)
        return "late"


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    without_clock(monkeypatch, lambda function: isinstance(function, Endless) or "endless.png" in _source(function))


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let pictures by the name of endless.png stand still until the test says so."""
    event = threading.Event()

    def waiting(load: Any) -> Any:
        def load_or_wait(source: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(source, str):
                assert event.wait(DEADLINE)
                source = np.zeros((50, 60, 3), np.uint8)
            return load(source, *arguments, **options)

        return load_or_wait

    monkeypatch.setattr(preparation, "load_with_color", waiting(preparation.load_with_color))
    monkeypatch.setattr(references, "load_judged", waiting(references.load_judged))
    yield event
    event.set()
    end_of_threads()


def _source(function: Any) -> list[Any]:
    return [part for part in getattr(function, "args", ()) if isinstance(part, str)]


def end_of_threads() -> None:
    for thread in threading.enumerate():
        if thread.name == "iqa-limited":
            thread.join(DEADLINE)
            assert not thread.is_alive()


def test_a_call_within_its_limit_returns_and_raises_as_without() -> None:
    limit = TimeLimit(LIMIT)
    assert limit.call(lambda: 3) == 3
    with pytest.raises(KeyError):
        limit.call(lambda: {}[0])
    assert limit.overdue == 0
    end_of_threads()


def test_who_is_late_is_left_alone_and_counted_until_he_ends() -> None:
    limit, late = TimeLimit(LIMIT), Endless()
    with pytest.raises(TimeoutError, match="not ready within its time limit of 7 s"):
        limit.call(late)
    assert late.begun.wait(DEADLINE)
    assert (limit.overdue, limit.call(lambda: 3)) == (1, 3)
    late.released.set()
    end_of_threads()
    assert limit.overdue == 0


def test_the_threads_of_late_calls_keep_no_process_from_ending() -> None:
    late = Endless()
    future = time_limits.in_thread(late)
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "iqa-limited")
    late.released.set()
    assert future.result(DEADLINE) == "late"
    end_of_threads()


def test_so_many_may_be_late_and_one_more_waits_no_longer_than_the_limit() -> None:
    limit = TimeLimit(0.001)
    late = [Endless() for _ in range(MAX_OVERDUE)]
    for each in late:
        with pytest.raises(TimeoutError, match="not ready"):
            limit.call(each)
    with pytest.raises(NotBegunError, match=f"not begun, because {MAX_OVERDUE} others still go on"):
        limit.call(lambda: 3)
    late[3].released.set()
    while limit.overdue == MAX_OVERDUE:
        pass
    assert limit.call(lambda: 3) == 3
    for each in late:
        each.released.set()
    end_of_threads()
    assert limit.overdue == 0


def test_a_place_that_gets_free_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limits, "MAX_OVERDUE", 1)
    limit, late = TimeLimit(DEADLINE), Endless()
    with pytest.raises(TimeoutError):
        limit.call(late)
    results: list[int] = []
    waiting = threading.Thread(target=lambda: results.append(limit.call(lambda: 3)))
    waiting.start()
    late.released.set()
    waiting.join(DEADLINE)
    assert results == [3]
    end_of_threads()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_late_image_is_an_error_and_costs_no_other_its_bits(
    artefacts: Any, noise: Any, released: threading.Event, threads: int
) -> None:
    pictures = [noise(40 + index, 60, index) for index in range(9)]
    sources = [*pictures[:3], "endless.png", *pictures[3:6], "endless.png", *pictures[6:]]
    path = artefacts.deep()
    with Scorer(path, threads=1) as scorer:
        alone = [scorer.score(picture).value for picture in pictures]
    with Scorer(path, threads=threads, timeout=LIMIT) as scorer:
        results = list(scorer.score_many(sources))
        assert scorer.overdue == 2
        with pytest.raises(ImageError, match=r"^endless\.png: not ready within its time limit of 7 s; shrink it"):
            scorer.score("endless.png")
        assert scorer.score(pictures[0]).value == alone[0]
        with pickle.loads(pickle.dumps(scorer)) as other, pytest.raises(ImageError, match="not ready"):
            other.score("endless.png")
    assert [result.value for result in results if result.path is None] == alone
    late = [result for result in results if result.path is not None]
    assert [(result.value, result.width, type(result.error)) for result in late] == [(None, None, ImageError)] * 2
    released.set()
    end_of_threads()
    assert scorer.overdue == 0


@pytest.mark.usefixtures("released")
def test_an_image_whose_reference_is_late_is_late(artefacts: Any, noise: Any) -> None:
    picture = noise(50, 60)
    with Scorer(artefacts.difference(), timeout=LIMIT) as scorer:
        results = list(scorer.score_many([picture] * 3, [picture, "endless.png", picture]))
    assert [result.error is None for result in results] == [True, False, True]


def test_the_model_is_looked_at_between_batches(artefacts: Any, noise: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run takes a second of a clock that nothing else moves."""
    lock, clock = threading.Lock(), [0.0]

    def a_second(run: Any) -> Outputs:
        with lock:
            clock[0] += 1
        outputs: Outputs = run()
        return outputs

    monkeypatch.setattr(pipeline, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(preparation, "perf_counter", lambda: 0.0)  # decoding goes on beside the runs, and takes none
    large, small = noise(320, 320), noise(40, 40)
    options: dict[str, Any] = {
        "threads": 1,
        "batch_size": 1,
        "crops": "grid:32",
        "backend": onnx_runtime_with(a_second),
    }
    with Scorer(artefacts.mean(), **options) as scorer:
        whole = scorer.score(large)
        expected = scorer.score(small)
    assert whole.patches == 100
    with Scorer(artefacts.mean(), **options, timeout=20.5) as scorer:
        first, second, third = scorer.score_many([small, large, small])
        with pytest.raises(ImageError, match=r"image: time for \d+ of 100 crops within its limit of 20\.5 s"):
            scorer.score(large)
    assert (first.value, third.value) == (expected.value, expected.value)
    assert (second.value, second.width, second.patches) == (None, 320, 0)
    with Scorer(artefacts.mean(), **options, timeout=1000) as scorer:
        assert scorer.score(large) == whole


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), float("inf"), True, "2", 86_401])
def test_a_limit_is_a_time(artefacts: Any, timeout: Any) -> None:
    with pytest.raises(UsageError, match=r"``timeout=.*a number of seconds above 0"):
        Scorer(artefacts.mean(), timeout=timeout)
