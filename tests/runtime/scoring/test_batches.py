"""Batches on a backend of these tests, whose runs end when they are told to."""

from threading import Event

import numpy as np
import pytest

from iqa_runtime.artefacts.graph_file import GraphFile
from iqa_runtime.backends import GraphSpec
from iqa_runtime.backends.base import Backend
from iqa_runtime.backends.tensor_spec import TensorSpec
from iqa_runtime.errors import UsageError
from iqa_runtime.scoring.batches import Batch, Batches

IMAGE = TensorSpec("image", (2,), "float32")


class Doubling(Backend):
    """Twice the first number of each item, once it is let go; by its clock a run takes that number of seconds."""

    name = "doubling"

    def __init__(self, tmp_path, image=IMAGE):
        super().__init__(
            GraphFile(tmp_path, b""), GraphSpec((image,), (TensorSpec("score", ()),)), device="cpu", threads=1
        )
        self.go = Event()
        self.clock = 0.0
        self.ran = []

    items_per_run = 1
    provider = "tests"

    def _load(self):
        pass

    def _run(self, inputs, outputs):
        assert outputs == ["score"]
        assert self.go.wait(timeout=60)
        self.ran.append(float(inputs["image"][0, 0]))
        self.clock += self.ran[-1]
        return [2 * inputs["image"][:, 0]]

    def _release(self):
        pass


@pytest.fixture
def backend(tmp_path):
    with Doubling(tmp_path) as active:
        yield active
        active.go.set()


def fill(batches, *numbers):
    for number in numbers:
        batch = batches.filling
        batch.tensors["image"][len(batch.owners)] = number
        batch.owners.append(f"item {number}")


def test_buffers_have_the_shape_of_the_input_and_room_for_all(backend):
    batch = Batch(3, backend)
    assert batch.size == 3
    assert {name: (array.shape, array.dtype) for name, array in batch.tensors.items()} == {
        "image": ((3, 2), np.float32)
    }
    assert batch.owners == []


def test_batches_end_in_the_order_in_which_they_began(backend, monkeypatch):
    monkeypatch.setattr("iqa_runtime.backends.base.perf_counter", lambda: backend.clock)
    batches = Batches(2, backend)
    backend.go.set()
    for numbers in ((1, 2), (3, 4), (5,)):
        fill(batches, *numbers)
        batches.begin(["score"])
    assert batches.under_way == 3
    for numbers in ((1, 2), (3, 4), (5,)):
        owners, running = batches.oldest()
        outputs, seconds = running.result()
        assert owners == [f"item {number}" for number in numbers]
        assert outputs["score"].tolist() == [2 * number for number in numbers]
        assert seconds == sum(numbers)
    assert batches.under_way == 0


def test_an_empty_batch_does_not_begin(backend):
    batches = Batches(2, backend)
    batches.begin(["score"])
    assert batches.filling.owners == []
    batches.begin(["score"])
    assert batches.under_way == 0
    assert not batches.has_ended


def test_one_is_filled_while_another_is_worked_on(backend):
    batches = Batches(1, backend)
    first = batches.filling
    fill(batches, 1)
    batches.begin(["score"])
    assert batches.filling is not first
    assert not batches.has_ended
    fill(batches, 2)
    backend.go.set()
    assert batches.oldest()[1].result()[0]["score"].tolist() == [2]
    batches.begin(["score"])
    assert batches.filling is first  # its buffers are free again
    assert batches.oldest()[1].result()[0]["score"].tolist() == [4]


def test_what_was_cancelled_begins_no_more(backend):
    batches = Batches(3, backend)
    fill(batches, 1, 2, 3)
    batches.begin(["score"])
    batches.cancel()
    backend.go.set()
    backend.deactivate()  # waits for the run that had begun
    assert backend.ran in ([], [1.0])


def test_batches_beyond_memory_are_an_error_with_a_remedy(tmp_path):
    with pytest.raises(
        UsageError, match="a batch of 4 items does not fit into memory; choose a smaller ``batch_size``"
    ):
        Batch(4, Doubling(tmp_path, TensorSpec("image", (2**60,), "float32")))
