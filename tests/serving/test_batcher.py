"""What a batcher does with images that come one by one."""

import threading

import pytest

from changed_backend import onnx_runtime_with
from eventually import DEADLINE, eventually
from iqa_runtime import Scorer, UsageError
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
    with pytest.raises(MemoryError):
        poisoned.result(DEADLINE)
    values = [each.result(DEADLINE).value for each in others]
    assert values[:5] == values[5:]
    batcher.close()
