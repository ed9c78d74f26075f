"""CUDA through NVIDIA's ``cuda.bindings.runtime``, in the primary context that PyTorch, CuPy and TensorRT share."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.cuda.protocol import Gpu, Multiprocessors, driver_title
from iqa_runtime.errors import BackendError, DependencyError

_OUT_OF_MEMORY = "cudaErrorMemoryAllocation"


class CudaBindings:
    """A GPU through ``cuda.bindings``; see `iqa_runtime.cuda.Cuda`.

    Parameters
    ----------
    index
        Number of the device, as CUDA counts.

    Raises
    ------
    DependencyError
        If the library cannot be imported.
    BackendError
        If there is no such GPU, or no driver.
    """

    def __init__(self, index: int) -> None:
        self._index = index
        self._runtime = _import_runtime()
        count, found = _count_devices(self._runtime)
        if index >= count:
            raise BackendError(
                f"device 'cuda:{index}': no such NVIDIA GPU ({found}); check what nvidia-smi lists and that its driver "
                "is new enough, or score the ONNX file on the CPU"
            )
        self._gpu = _describe(self._runtime, index)

    @property
    def library(self) -> str:
        """The library behind it, for display."""
        return "cuda.bindings"

    @property
    def device_name(self) -> str:
        """What the driver calls the GPU."""
        return self._gpu.name

    def multiprocessors(self) -> Multiprocessors:
        """Return what the GPU computes with."""
        # Attributes and not properties, which since CUDA 13 have no clock.
        names = self._runtime.cudaDeviceAttr
        return Multiprocessors(
            compute_capability=self._gpu.compute_capability,
            count=int(self._call("cudaDeviceGetAttribute", names.cudaDevAttrMultiProcessorCount, self._index)),
            clock_khz=int(self._call("cudaDeviceGetAttribute", names.cudaDevAttrClockRate, self._index)),
        )

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the device current in the calling thread, then the one that was."""
        before = self._call("cudaGetDevice")
        self._call("cudaSetDevice", self._index)
        try:
            yield
        finally:
            self._runtime.cudaSetDevice(before)

    def allocate(self, size: int) -> int:
        """Allocate bytes on the device."""
        return int(self._call("cudaMalloc", size))

    def free(self, pointer: int) -> None:
        """Free memory of `allocate`."""
        self._runtime.cudaFree(pointer)

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        """Allocate page-locked host memory."""
        pointer = self._call("cudaHostAlloc", size, self._runtime.cudaHostAllocDefault)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(int(pointer)))

    def free_pinned(self, memory: NDArray[np.uint8]) -> None:
        """Free memory of `allocate_pinned`."""
        self._runtime.cudaFreeHost(memory.ctypes.data)

    def create_stream(self) -> int:
        """Create a stream that waits for no other one."""
        return int(self._call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        """Destroy a stream."""
        self._runtime.cudaStreamDestroy(stream)

    def synchronize(self, stream: int) -> None:
        """Wait until all work of a stream is done."""
        self._call("cudaStreamSynchronize", stream)

    def copy_to_device(self, pointer: int, memory: NDArray[Any], stream: int) -> None:
        """Enqueue a copy to the device."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", pointer, memory.ctypes.data, memory.nbytes, kind, stream)

    def copy_to_host(self, memory: NDArray[Any], pointer: int, stream: int) -> None:
        """Enqueue a copy from the device."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", memory.ctypes.data, pointer, memory.nbytes, kind, stream)

    def copy_on_device(self, target: int, source: int, size: int, stream: int) -> None:
        """Enqueue a copy within the device."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._call("cudaMemcpyAsync", target, source, size, kind, stream)

    def create_event(self) -> int:
        """Create an event that takes the time."""
        return int(self._call("cudaEventCreate"))

    def destroy_event(self, event: int) -> None:
        """Destroy an event."""
        self._runtime.cudaEventDestroy(event)

    def record(self, event: int, stream: int) -> None:
        """Let the event happen when all work enqueued so far is done."""
        self._call("cudaEventRecord", event, stream)

    def milliseconds(self, start: int, end: int) -> float:
        """Return the time between two events that have happened."""
        return float(self._call("cudaEventElapsedTime", start, end))

    def capture(self, stream: int, enqueue: Callable[[], bool]) -> int | None:
        """Record as a graph what a function enqueues; None if that is not possible."""
        # Other threads may go on allocating meanwhile, which the stricter global mode forbids.
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)
        enqueued = False
        try:
            enqueued = enqueue()
        finally:
            # Always, or the stream would stay in capture.
            error, graph = self._runtime.cudaStreamEndCapture(stream)
        if error != 0:
            self._runtime.cudaGetLastError()  # a capture that failed must not be blamed on the next call
            return None
        try:
            return self._instantiate(graph) if enqueued else None
        finally:
            self._runtime.cudaGraphDestroy(graph)

    def launch(self, graph: int, stream: int) -> None:
        """Enqueue a graph."""
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        """Destroy a graph."""
        self._runtime.cudaGraphExecDestroy(graph)

    def _instantiate(self, graph: int) -> int | None:
        """Make a graph executable; None if CUDA cannot, because the same work runs without one."""
        error, executable = self._runtime.cudaGraphInstantiate(graph, 0)
        if error == 0:
            return int(executable)
        if error.name == _OUT_OF_MEMORY:
            raise _failure(self._runtime, self._index, "cudaGraphInstantiate", error)
        self._runtime.cudaGetLastError()  # as above
        return None

    def _call(self, function: str, *arguments: Any) -> Any:
        return _call(self._runtime, self._index, function, *arguments)


def describe_gpu(index: int) -> Gpu | None:
    """Describe a GPU without opening it; None if there is no such one, or no driver.

    Raises
    ------
    DependencyError
        If the library cannot be imported.
    BackendError
        If the GPU is there and CUDA cannot describe it.
    """
    runtime = _import_runtime()
    count, _ = _count_devices(runtime)
    return _describe(runtime, index) if index < count else None


def _count_devices(runtime: ModuleType) -> tuple[int, str]:
    """Return the number of GPUs, and in words what CUDA says of it."""
    try:
        error, count = runtime.cudaGetDeviceCount()
    except RuntimeError as missing:  # the binding does not find the driver's library
        return 0, " ".join(str(missing).split())
    # Without a driver this is an error, not a count of zero.
    return (count, f"{count} found") if error == 0 else (0, f"CUDA says {error.name}")


def _describe(runtime: ModuleType, index: int) -> Gpu:
    properties = _call(runtime, index, "cudaGetDeviceProperties", index)
    return Gpu(
        name=properties.name.decode(errors="replace").rstrip("\0"),
        compute_capability=(int(properties.major), int(properties.minor)),
        driver=driver_title(int(_call(runtime, index, "cudaDriverGetVersion"))),
    )


def _call(runtime: ModuleType, index: int, function: str, *arguments: Any) -> Any:
    """Call CUDA and return what comes beside the error code."""
    error, *values = getattr(runtime, function)(*arguments)
    if error != 0:
        raise _failure(runtime, index, function, error)
    return values[0] if values else None


def _failure(runtime: ModuleType, index: int, function: str, error: Any) -> BackendError:
    if error.name == _OUT_OF_MEMORY:
        runtime.cudaGetLastError()  # it is not sticky, and the next call should not report it
        remedy = "free memory on the GPU, or build the engine for smaller batches: iqa-engine build --opt-batch"
    else:
        remedy = "check the GPU with nvidia-smi and start again"
    return BackendError(f"device 'cuda:{index}': {function} failed ({error.name}); {remedy}")


def _import_runtime() -> ModuleType:
    try:
        return import_module("cuda.bindings.runtime")
    except Exception as error:  # half an installation may fail in any way
        raise DependencyError(
            f"cuda.bindings cannot be imported ({' '.join(str(error).split())}); "
            'pip install --force-reinstall "iqa-deploy[tensorrt]"'
        ) from error
