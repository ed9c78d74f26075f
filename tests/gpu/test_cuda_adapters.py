"""Both adapters of CUDA on a GPU: memory, copies, events, graphs, errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from iqa_runtime.cuda import Cuda, Gpu, open_cuda
from iqa_runtime.cuda.cuda_bindings import CudaBindings
from iqa_runtime.cuda.pycuda import PyCuda
from iqa_runtime.errors import BackendError, DependencyError

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu")]

SIZES = [1, 4096, 2**24 + 1]
"""Bytes: one, a page, and what no page or block divides."""

TIMER = 2e-3
"""Milliseconds: four times the resolution of CUDA's events, about half a microsecond by its documentation."""

TOO_MUCH = 2**60


@pytest.fixture(params=[CudaBindings, PyCuda])
def cuda(request: pytest.FixtureRequest) -> Iterator[Cuda]:
    """The GPU, current, through each library that is installed."""
    try:
        opened: Cuda = request.param(0)
    except DependencyError as error:
        pytest.skip(str(error))
    with opened.active():
        yield opened


@pytest.fixture
def freeing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def stream(cuda: Cuda, freeing: ExitStack) -> int:
    made = cuda.create_stream()
    freeing.callback(cuda.destroy_stream, made)
    return made


def buffers(cuda: Cuda, freeing: ExitStack, size: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return pinned memory full of random bytes, other of zeros, and memory on the device."""
    pinned = [cuda.allocate_pinned(size) for _ in range(2)]
    for memory in pinned:
        freeing.callback(cuda.free_pinned, memory)
    device = cuda.allocate(size)
    freeing.callback(cuda.free, device)
    pinned[0][:], pinned[1][:] = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8), 0
    return pinned[0], pinned[1], device


def test_the_gpu_has_one_name(cuda: Cuda, gpu: Gpu) -> None:
    assert cuda.device_name == gpu.name


@pytest.mark.parametrize("size", SIZES)
def test_copies_bring_back_what_was_sent(cuda: Cuda, freeing: ExitStack, stream: int, size: int) -> None:
    there, back, device = buffers(cuda, freeing, size)
    cuda.copy_to_device(device, there, stream)
    cuda.copy_to_host(back, device, stream)
    cuda.synchronize(stream)
    np.testing.assert_array_equal(back, there)


def test_copies_on_the_device_stay_there(cuda: Cuda, freeing: ExitStack, stream: int) -> None:
    there, back, first = buffers(cuda, freeing, 4096)
    second = cuda.allocate(4096)
    freeing.callback(cuda.free, second)
    cuda.copy_to_device(first, there, stream)
    cuda.copy_on_device(second, first, 4096, stream)
    cuda.copy_to_host(back, second, stream)
    cuda.synchronize(stream)
    np.testing.assert_array_equal(back, there)


def test_multiprocessors_are_those_of_the_gpu(cuda: Cuda, gpu: Gpu) -> None:
    found = cuda.multiprocessors()
    assert found.compute_capability == gpu.compute_capability
    assert found.count > 0
    assert found.clock_khz > 0


def test_pinned_memory_is_an_array_of_any_type(cuda: Cuda, freeing: ExitStack, stream: int) -> None:
    there, back, device = buffers(cuda, freeing, 4096)
    values = there.view(np.float32).reshape(4, 256)
    values[...] = np.arange(1024).reshape(4, 256)
    cuda.copy_to_device(device, values, stream)
    cuda.copy_to_host(back, device, stream)
    cuda.synchronize(stream)
    np.testing.assert_array_equal(back.view(np.float32), np.arange(1024))


def test_times_between_events_add_up(cuda: Cuda, freeing: ExitStack, stream: int) -> None:
    there, back, device = buffers(cuda, freeing, 2**24)
    marks = [cuda.create_event() for _ in range(3)]
    for mark in marks:
        freeing.callback(cuda.destroy_event, mark)
    cuda.record(marks[0], stream)
    cuda.copy_to_device(device, there, stream)
    cuda.record(marks[1], stream)
    cuda.copy_to_host(back, device, stream)
    cuda.record(marks[2], stream)
    cuda.synchronize(stream)
    first, second = cuda.milliseconds(marks[0], marks[1]), cuda.milliseconds(marks[1], marks[2])
    assert min(first, second) > 0
    assert cuda.milliseconds(marks[0], marks[2]) == pytest.approx(first + second, abs=TIMER)


def test_a_graph_does_its_work_when_it_is_launched(cuda: Cuda, freeing: ExitStack, stream: int) -> None:
    there, back, device = buffers(cuda, freeing, 4096)
    cuda.copy_to_device(device, there, stream)
    cuda.synchronize(stream)
    graph = cuda.capture(stream, lambda: cuda.copy_to_host(back, device, stream) is None)
    if isinstance(cuda, PyCuda):
        assert graph is None
        return
    assert graph is not None
    freeing.callback(cuda.destroy_graph, graph)
    cuda.synchronize(stream)
    assert not back.any()
    for _ in range(2):
        back[:] = 0
        cuda.launch(graph, stream)
        cuda.synchronize(stream)
        np.testing.assert_array_equal(back, there)


def test_a_capture_that_is_given_up_leaves_a_stream_that_works(cuda: Cuda, freeing: ExitStack, stream: int) -> None:
    there, back, device = buffers(cuda, freeing, 4096)
    assert cuda.capture(stream, lambda: False) is None
    cuda.copy_to_device(device, there, stream)
    cuda.copy_to_host(back, device, stream)
    cuda.synchronize(stream)
    np.testing.assert_array_equal(back, there)


def test_too_little_memory_is_one_error_and_not_the_last_word(cuda: Cuda, freeing: ExitStack) -> None:
    with pytest.raises(BackendError, match="free memory on the GPU"):
        cuda.allocate(TOO_MUCH)
    freeing.callback(cuda.free, cuda.allocate(4096))


def test_a_program_in_a_pycuda_context_stays_in_it() -> None:
    # Without a driver it is there and cannot be imported.
    driver = pytest.importorskip("pycuda.driver", exc_type=ImportError)
    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    try:
        cuda = open_cuda("cuda")
        with cuda.active():
            cuda.free(cuda.allocate(4096))
        assert cuda.library == "PyCUDA"
        assert driver.Context.get_current() == context
    finally:
        driver.Context.pop()
