"""What a batcher does with images that come one by one."""

import threading

import cv2
import numpy as np
import pytest

from changed_backend import onnx_runtime_with
from eventually import DEADLINE, eventually
from iqa_runtime import BackendError, ResourceError, Scorer, UsageError
from iqa_runtime.backends.onnx_runtime import OnnxRuntimeBackend
from iqa_runtime.scoring.room import Room
from iqa_serving.batcher import Batcher


@pytest.fixture
def gate():
    """An event to go on, a semaphore of runs that have begun, and the backend that keeps to them."""
    go_on, begun = threading.Event(), threading.Semaphore(0)

    def held(run):
        begun.release()
        assert go_on.wait(DEADLINE)
        return run()

    return go_on, begun, onnx_runtime_with(held)


def test_what_waits_shares_a_round(artefact, picture, gate):
    go_on, begun, backend = gate
    rounds = []
    batcher = Batcher(Scorer(artefact(), backend=backend, threads=1), on_round=rounds.append)
    first = [batcher.submit(picture(seed)) for seed in range(2)]
    assert begun.acquire(timeout=DEADLINE)
    eventually(lambda: batcher.waiting == 0)
    later = [batcher.submit(picture(seed)) for seed in range(20)]
    go_on.set()
    values = [each.result(DEADLINE).value for each in later]
    assert [each.result(DEADLINE).value for each in first] == values[:2]
    batcher.close()
    assert sum(rounds) == 22
    assert max(rounds) > 2


def test_closing_scores_what_was_submitted(artefact, picture, gate):
    go_on, begun, backend = gate
    batcher = Batcher(Scorer(artefact(), backend=backend, threads=1))
    submitted = [batcher.submit(picture(seed)) for seed in range(9)]
    assert begun.acquire(timeout=DEADLINE)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    go_on.set()
    closing.join(DEADLINE)
    assert [each.result(0).error for each in submitted] == [None] * 9
    with pytest.raises(UsageError, match="closed"):
        batcher.submit(picture())
    with pytest.raises(UsageError, match="closed"):
        batcher.scorer.score(picture())


def test_who_counts_cannot_end_who_scores(artefact, picture):
    def broken(_):
        raise OSError

    batcher = Batcher(Scorer(artefact(), threads=1), on_round=broken)
    for seed in range(4):  # more than there are lanes
        assert batcher.submit(picture(seed)).result(DEADLINE).error is None
    batcher.close()


def test_what_is_cancelled_is_passed_over(artefact, picture, gate):
    go_on, begun, backend = gate
    scored = []
    batcher = Batcher(Scorer(artefact(), backend=backend, threads=1), on_round=scored.append)
    first = batcher.submit(picture(0))
    assert begun.acquire(timeout=DEADLINE)
    later = [batcher.submit(picture(seed)) for seed in range(40)]
    cancelled = [each.cancel() for each in later]  # of those that have begun, none
    assert any(cancelled)
    last = batcher.submit(picture(7))
    go_on.set()
    assert [each.result(DEADLINE).error for each in (first, last)] == [None, None]
    batcher.close()
    assert sum(scored) == 2 + cancelled.count(False)


def test_a_stream_that_breaks_costs_only_the_image_that_broke_it(artefact, picture, monkeypatch):
    """Errors of images are results; what else there may be must find whom it is of."""
    scorer = Scorer(artefact(), threads=1)
    poison = picture(99)
    stream = scorer.score_many

    def breaking(images, references=None):
        taken = list(images)
        if poison in taken:
            raise MemoryError("for this one")
        return stream(taken, references)

    monkeypatch.setattr(scorer, "score_many", breaking)
    batcher = Batcher(scorer)
    others = [batcher.submit(picture(seed)) for seed in range(5)]
    poisoned = batcher.submit(poison)
    others += [batcher.submit(picture(seed)) for seed in range(5)]
    error = poisoned.result(DEADLINE).error
    assert isinstance(error, ResourceError)
    assert "image: cannot be scored (MemoryError: for this one)" in str(error)
    values = [each.result(DEADLINE).value for each in others]
    assert values[:5] == values[5:]
    batcher.close()


class Choking(OnnxRuntimeBackend):
    """Fails on every run with a crop that is white all over."""

    def _run(self, inputs, outputs):
        if (inputs["image"] == 1).all(axis=(1, 2, 3)).any():
            raise BackendError("choked")
        return super()._run(inputs, outputs)


def test_a_run_that_fails_costs_only_the_image_that_made_it_fail(artefact, picture):
    white = cv2.imencode(".png", np.full((40, 56, 3), 255, np.uint8))[1].tobytes()
    path = artefact()
    with Scorer(path, threads=1) as plain:
        expected = [plain.score(picture(seed)).value for seed in range(8)]
    scorer = Scorer(path, backend=Choking, threads=1, batch_size=32)
    images = [*(picture(seed) for seed in range(4)), white, *(picture(seed) for seed in range(4, 8))]
    assert sum(result.error is not None for result in scorer.score_many(images)) > 1
    batcher = Batcher(scorer)
    results = [each.result(DEADLINE) for each in [batcher.submit(image) for image in images]]
    batcher.close()
    assert isinstance(results.pop(4).error, BackendError)
    assert [result.value for result in results] == expected


class Watched(Room):
    """Remembers how much was taken at most."""

    def __init__(self, pixels):
        super().__init__(pixels)
        self.most = 0

    def take(self, pixels):
        super().take(pixels)
        self.most = max(self.most, self._taken)

    def take_now(self, pixels):
        fits = super().take_now(pixels)
        self.most = max(self.most, self._taken)
        return fits


def test_no_more_pixels_are_begun_than_there_is_room_for(artefact, picture):
    """Of two scorers together; and what is larger than the room goes alone."""
    room = Watched(3 * 40 * 56)
    batchers = [Batcher(Scorer(artefact(), threads=1), room=room) for _ in range(2)]
    submitted = [batchers[seed % 2].submit(picture(seed)) for seed in range(40)]
    assert [each.result(DEADLINE).error for each in submitted] == [None] * 40
    assert 40 * 56 < room.most <= 3 * 40 * 56
    submitted = [batchers[seed % 2].submit(picture(seed, (400, 56) if seed == 7 else (40, 56))) for seed in range(16)]
    assert [each.result(DEADLINE).error for each in submitted] == [None] * 16
    assert room.most == 400 * 56
    for batcher in batchers:
        batcher.close()
    assert room._taken == 0


def test_a_model_that_hangs_is_silent_and_is_left_alone(artefact, picture, gate):
    go_on, begun, backend = gate
    batcher = Batcher(Scorer(artefact(), backend=backend, threads=1))
    assert batcher.silence == 0
    submitted = batcher.submit(picture())
    assert begun.acquire(timeout=DEADLINE)
    eventually(lambda: batcher.silence > 0.05)
    batcher.close(0.01)
    batcher.scorer._check_open()
    go_on.set()
    assert submitted.result(DEADLINE).error is None
    eventually(lambda: batcher.silence == 0)
    batcher.close()
