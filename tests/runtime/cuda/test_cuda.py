"""CUDA's adapters: stand-ins against the real libraries, the real ones without a GPU and, marked `gpu`, with one."""

from __future__ import annotations

import inspect
import sys

import numpy as np
import pytest

import fake_cuda
import fake_pycuda
from fake_cuda import FakeCudaRuntime
from iqa_runtime.cuda import Cuda, Gpu, Multiprocessors, describe_gpu, device_index, open_cuda
from iqa_runtime.errors import BackendError, DependencyError, UsageError


def test_the_stand_in_has_the_real_names_and_parameters() -> None:
    real = pytest.importorskip("cuda.bindings.runtime")
    functions = inspect.getmembers(FakeCudaRuntime, inspect.isfunction)
    named = [(name, function) for name, function in functions if name.startswith("cuda")]
    assert len(named) > 20
    for name, function in named:
        _, *parameters = inspect.signature(function).parameters
        assert parameters == list(inspect.signature(getattr(real, name)).parameters), name
    for enumeration in ("cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode", "cudaDeviceAttr"):
        for member in getattr(FakeCudaRuntime, enumeration):
            assert getattr(getattr(real, enumeration), member.name) == member.value
    assert real.cudaStreamNonBlocking == FakeCudaRuntime.cudaStreamNonBlocking
    assert real.cudaHostAllocDefault == FakeCudaRuntime.cudaHostAllocDefault


def test_without_a_gpu_the_real_library_gives_one_clear_error() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    error, count = runtime.cudaGetDeviceCount()
    if error == 0 and count:
        pytest.skip("this host has a GPU")
    assert describe_gpu(0) is None
    with pytest.raises(BackendError, match=r"device 'cuda:0': no such NVIDIA GPU \(.*\); check what nvidia-smi lists"):
        open_cuda("cuda")


def test_with_no_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "cuda.bindings", "pycuda", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DependencyError, match=r"iqa-deploy\[tensorrt\]"):
        open_cuda("cuda")


def test_a_broken_library_is_a_dependency_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cuda.install(monkeypatch)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(DependencyError, match="force-reinstall"):
        open_cuda("cuda")


def test_outside_a_context_pycuda_serves_where_nothing_else_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pycuda.install(monkeypatch, fake_cuda.install(monkeypatch))
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.setitem(sys.modules, name, None)
    assert open_cuda("cuda").library == "PyCUDA"
    with pytest.raises(BackendError, match="invalid device ordinal"):
        open_cuda("cuda:7")


def test_pycuda_without_a_current_context_leaves_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pycuda.install(monkeypatch, fake_cuda.install(monkeypatch))
    assert open_cuda("cuda:0").library == "cuda.bindings"


def test_the_library_that_would_open_a_gpu_describes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = fake_pycuda.install(monkeypatch, fake_cuda.install(monkeypatch))
    driver.init()
    driver.Device(0).retain_primary_context().push()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    assert describe_gpu(0) == Gpu(name="Fake GPU", compute_capability=(9, 0), driver="CUDA 13.0")
    driver.contexts().pop()
    with pytest.raises(DependencyError, match=r"cuda\.bindings cannot be imported"):
        describe_gpu(0)


@pytest.mark.parametrize("library", ["cuda.bindings", "PyCUDA"])
def test_both_libraries_copy_on_the_device_and_describe_it(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    runtime = fake_cuda.install(monkeypatch)
    if library == "PyCUDA":
        fake_pycuda.install(monkeypatch, runtime)
        for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime"):
            monkeypatch.setitem(sys.modules, name, None)
    cuda = open_cuda("cuda")
    assert cuda.library == library
    with cuda.active():
        # As the stand-in says.
        assert cuda.multiprocessors() == Multiprocessors(compute_capability=(9, 0), count=132, clock_khz=1_830_000)
        check_copy_on_device(cuda)
    assert not +runtime.alive, "something was not freed"


def check_copy_on_device(cuda: Cuda) -> None:
    """Copy to the device, twice on it, the second time half, and back."""
    stream = cuda.create_stream()
    there, back = cuda.allocate_pinned(1024), cuda.allocate_pinned(1024)
    first, second = cuda.allocate(1024), cuda.allocate(1024)
    try:
        there[:], back[:] = np.arange(1024) % 251, 0
        cuda.copy_to_device(first, there, stream)
        cuda.copy_on_device(second, first, 1024, stream)
        cuda.copy_on_device(second, first + 512, 512, stream)
        cuda.copy_to_host(back, second, stream)
        cuda.synchronize(stream)
        np.testing.assert_array_equal(back, np.concatenate([there[512:], there[512:]]))
    finally:
        for pointer in (first, second):
            cuda.free(pointer)
        for pinned in (there, back):
            cuda.free_pinned(pinned)
        cuda.destroy_stream(stream)


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:12", 12)])
def test_devices_have_numbers(device: str, index: int) -> None:
    assert device_index(device) == index


@pytest.mark.parametrize("device", ["cpu", "", "cuda:x", "cuda:1234", "CUDA"])
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(UsageError, match="cuda or cuda:N"):
        device_index(device)


@pytest.mark.gpu
def test_a_real_gpu_copies_and_takes_the_time() -> None:
    try:
        cuda = open_cuda("cuda")
    except (BackendError, DependencyError) as error:
        pytest.skip(str(error))
    described = describe_gpu(0)
    assert described is not None
    assert described.name == cuda.device_name
    multiprocessors = cuda.multiprocessors()
    assert multiprocessors.compute_capability == described.compute_capability
    assert multiprocessors.count > 0
    # A tenth and ten times what GPUs of 2025 have.
    assert 100_000 < multiprocessors.clock_khz < 20_000_000
    with cuda.active():
        check_copy_on_device(cuda)
        stream = cuda.create_stream()
        there, back = cuda.allocate_pinned(1024), cuda.allocate_pinned(1024)
        memory = cuda.allocate(1024)
        start, end = cuda.create_event(), cuda.create_event()
        try:
            there[:], back[:] = np.arange(1024, dtype=np.uint8), 0
            cuda.record(start, stream)
            cuda.copy_to_device(memory, there, stream)
            graph = cuda.capture(stream, lambda: cuda.copy_to_host(back, memory, stream) is None)
            assert graph is not None
            cuda.launch(graph, stream)
            cuda.record(end, stream)
            cuda.synchronize(stream)
            np.testing.assert_array_equal(back, there)
            assert cuda.milliseconds(start, end) > 0
            cuda.destroy_graph(graph)
        finally:
            for event in (start, end):
                cuda.destroy_event(event)
            cuda.free(memory)
            for pinned in (there, back):
                cuda.free_pinned(pinned)
            cuda.destroy_stream(stream)
