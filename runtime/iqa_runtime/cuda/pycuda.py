"""CUDA through PyCUDA, in the context of the program that uses it or in the device's primary one.

PyCUDA's objects free themselves when they are forgotten; they are held here until they are freed by name. It records no
graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.cuda.protocol import Gpu, Multiprocessors, driver_title
from iqa_runtime.errors import BackendError, DependencyError, UsageError, one_line


def host_context() -> Any | None:
    """Return the PyCUDA context that is current in the calling thread, if there is one."""
    return _import_driver().Context.get_current()


class PyCuda:
    """A GPU through PyCUDA; see `iqa_runtime.cuda.Cuda`.

    Parameters
    ----------
    index
        Number of the device, as CUDA counts.
    context
        A PyCUDA context to live in, which must be current; None for the device's primary one.

    Raises
    ------
    DependencyError
        If the library cannot be imported.
    UsageError
        If the context is on another device.
    BackendError
        If there is no such GPU, or no driver.
    """

    def __init__(self, index: int, context: Any | None = None) -> None:
        self._index = index
        self._driver = driver = _import_driver()
        self._streams: dict[int, Any] = {}
        self._events: dict[int, Any] = {}
        self._memory: dict[int, Any] = {}
        if context is None:
            with self._calling("retain_primary_context"):
                driver.init()
                device = driver.Device(index)
                context = device.retain_primary_context()
        else:
            device = driver.Context.get_device()
            if device != driver.Device(index):
                raise UsageError(
                    f"device 'cuda:{index}': the current PyCUDA context is on {device.name()}; give the device of the "
                    "context, or pop the context first"
                )
        self._context = context
        self._device = device
        self._device_name = str(device.name())

    @property
    def library(self) -> str:
        """The library behind it, for display."""
        return "PyCUDA"

    @property
    def device_name(self) -> str:
        """What the driver calls the GPU."""
        return self._device_name

    def multiprocessors(self) -> Multiprocessors:
        """Return what the GPU computes with."""
        names = self._driver.device_attribute
        with self._calling("Device.get_attribute"):
            major, minor = self._device.compute_capability()
            return Multiprocessors(
                compute_capability=(int(major), int(minor)),
                count=int(self._device.get_attribute(names.MULTIPROCESSOR_COUNT)),
                clock_khz=int(self._device.get_attribute(names.CLOCK_RATE)),
            )

    @contextmanager
    def active(self) -> Iterator[None]:
        """Push the context in the calling thread, and pop it."""
        with self._calling("Context.push"):
            self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def allocate(self, size: int) -> int:
        """Allocate bytes on the device."""
        with self._calling("mem_alloc"):
            memory = self._driver.mem_alloc(size)
        return self._hold(self._memory, int(memory), memory)

    def free(self, pointer: int) -> None:
        """Free memory of `allocate`."""
        with suppress(self._driver.Error):
            self._memory.pop(pointer).free()

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        """Allocate page-locked host memory."""
        with self._calling("pagelocked_empty"):
            memory: NDArray[np.uint8] = self._driver.pagelocked_empty(size, np.uint8)
        return memory

    def free_pinned(self, memory: NDArray[np.uint8]) -> None:
        """Free memory of `allocate_pinned`."""
        allocation: Any = memory.base
        with suppress(self._driver.Error):
            allocation.free()

    def create_stream(self) -> int:
        """Create a stream that waits for no other one."""
        with self._calling("Stream"):
            stream = self._driver.Stream(_STREAM_NON_BLOCKING)
        return self._hold(self._streams, int(stream.handle), stream)

    def destroy_stream(self, stream: int) -> None:
        """Destroy a stream."""
        del self._streams[stream]

    def synchronize(self, stream: int) -> None:
        """Wait until all work of a stream is done."""
        with self._calling("Stream.synchronize"):
            self._streams[stream].synchronize()

    def copy_to_device(self, pointer: int, memory: NDArray[Any], stream: int) -> None:
        """Enqueue a copy to the device."""
        with self._calling("memcpy_htod_async"):
            self._driver.memcpy_htod_async(pointer, memory, self._streams[stream])

    def copy_to_host(self, memory: NDArray[Any], pointer: int, stream: int) -> None:
        """Enqueue a copy from the device."""
        with self._calling("memcpy_dtoh_async"):
            self._driver.memcpy_dtoh_async(memory, pointer, self._streams[stream])

    def copy_on_device(self, target: int, source: int, size: int, stream: int) -> None:
        """Enqueue a copy within the device."""
        with self._calling("memcpy_dtod_async"):
            self._driver.memcpy_dtod_async(target, source, size, self._streams[stream])

    def create_event(self) -> int:
        """Create an event that takes the time."""
        with self._calling("Event"):
            event = self._driver.Event()
        # PyCUDA shows no handle of an event; its identity serves as well for those who only pass it on.
        return self._hold(self._events, id(event), event)

    def destroy_event(self, event: int) -> None:
        """Destroy an event."""
        del self._events[event]

    def record(self, event: int, stream: int) -> None:
        """Let the event happen when all work enqueued so far is done."""
        with self._calling("Event.record"):
            self._events[event].record(self._streams[stream])

    def milliseconds(self, start: int, end: int) -> float:
        """Return the time between two events that have happened."""
        with self._calling("Event.time_since"):
            return float(self._events[end].time_since(self._events[start]))

    def capture(self, stream: int, enqueue: Callable[[], bool]) -> int | None:  # noqa: ARG002 - as in the protocol
        """Return None: PyCUDA records no graphs."""
        return None

    def launch(self, graph: int, stream: int) -> None:  # noqa: ARG002 - as in the protocol
        """Refuse: there are no graphs."""
        raise BackendError(f"device 'cuda:{self._index}': PyCUDA launches no graphs; install cuda-python")

    def destroy_graph(self, graph: int) -> None:
        """Do nothing: there are no graphs."""

    @staticmethod
    def _hold(held: dict[int, Any], handle: int, thing: Any) -> int:
        held[handle] = thing
        return handle

    @contextmanager
    def _calling(self, function: str) -> Iterator[None]:
        try:
            yield
        except self._driver.MemoryError as error:
            raise BackendError(
                f"device 'cuda:{self._index}': {function} failed ({error}); free memory on the GPU, or build the "
                "engine for smaller batches: iqa-engine build --opt-batch"
            ) from error
        except self._driver.Error as error:
            raise BackendError(
                f"device 'cuda:{self._index}': {function} failed ({error}); check the GPU with nvidia-smi"
            ) from error


def describe_gpu(index: int) -> Gpu | None:
    """Describe a GPU without a context on it; None if there is no such one, or no driver that starts.

    Raises
    ------
    DependencyError
        If the library cannot be imported, which it cannot where no driver is.
    BackendError
        If the GPU is there and CUDA cannot describe it.
    """
    driver = _import_driver()
    try:
        driver.init()
        count = driver.Device.count()
    except driver.Error:
        return None
    if index >= count:
        return None
    try:
        device = driver.Device(index)
        major, minor = device.compute_capability()
        return Gpu(
            name=str(device.name()),
            compute_capability=(int(major), int(minor)),
            driver=driver_title(int(driver.get_driver_version())),
        )
    except driver.Error as error:
        raise BackendError(
            f"device 'cuda:{index}': PyCUDA cannot describe the GPU ({error}); check it with nvidia-smi and start again"
        ) from error


_STREAM_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING of the CUDA driver API, which PyCUDA has no name for."""


def _import_driver() -> ModuleType:
    try:
        return import_module("pycuda.driver")
    except Exception as error:  # without a driver or its libraries it fails to load
        raise DependencyError(
            f'pycuda.driver cannot be imported ({one_line(error)}); pip install "iqa-deploy[tensorrt]", '
            "whose cuda-python needs no compiler"
        ) from error
