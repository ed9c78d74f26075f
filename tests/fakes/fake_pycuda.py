"""A stand-in for ``pycuda.driver``, by its documentation, on top of that for ``cuda.bindings.runtime``."""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fake_cuda import FakeCudaRuntime, cudaDeviceAttr, cudaMemcpyKind


class Error(Exception):
    """What all of PyCUDA's errors derive from."""


class MemoryError(Error):
    """No memory left."""


class LogicError(Error):
    """Any other refusal."""


class device_attribute:  # noqa: N801 - the real name
    CLOCK_RATE = cudaDeviceAttr.cudaDevAttrClockRate
    MULTIPROCESSOR_COUNT = cudaDeviceAttr.cudaDevAttrMultiProcessorCount


class FakePyCudaDriver(ModuleType):
    """One GPU with one context, to be put into ``sys.modules`` as ``pycuda.driver``."""

    Error, MemoryError, LogicError = Error, MemoryError, LogicError
    device_attribute = device_attribute

    def __init__(self, runtime: FakeCudaRuntime) -> None:
        super().__init__("pycuda.driver")
        self.runtime = runtime
        self.initialised = False
        self._thread = threading.local()
        driver = self

        class Device:
            def __init__(self, number: int) -> None:
                if not driver.initialised or number >= runtime.devices:
                    raise LogicError("cuDeviceGet failed: invalid device ordinal")
                self.number = number

            def __eq__(self, other: object) -> bool:
                return isinstance(other, Device) and other.number == self.number

            def __hash__(self) -> int:
                return hash(self.number)

            @staticmethod
            def count() -> int:
                return int(_value(runtime.cudaGetDeviceCount()))

            def name(self) -> str:
                return str(_value(runtime.cudaGetDeviceProperties(self.number)).name.decode().rstrip("\0"))

            def compute_capability(self) -> tuple[int, int]:
                properties = _value(runtime.cudaGetDeviceProperties(self.number))
                return properties.major, properties.minor

            def get_attribute(self, attr: cudaDeviceAttr) -> int:
                return int(_value(runtime.cudaDeviceGetAttribute(attr, self.number)))

            def retain_primary_context(self) -> Context:
                return Context(self.number)

        class Context:
            def __init__(self, number: int) -> None:
                self.number = number

            def push(self) -> None:
                driver.contexts().append(self)

            @staticmethod
            def pop() -> None:
                driver.contexts().pop()

            @staticmethod
            def get_current() -> Context | None:
                return driver.contexts()[-1] if driver.contexts() else None

            @staticmethod
            def get_device() -> Device:
                return Device(driver.contexts()[-1].number)

        class DeviceAllocation:
            def __init__(self, pointer: int) -> None:
                self.pointer = pointer

            def __int__(self) -> int:
                return self.pointer

            def free(self) -> None:
                runtime.cudaFree(self.pointer)

        class PagelockedHostAllocation:
            def __init__(self, pointer: int) -> None:
                self.pointer = pointer

            def free(self) -> None:
                runtime.cudaFreeHost(self.pointer)

        class Stream:
            handle = 0

            def __init__(self, flags: int = 0) -> None:
                self.handle = _value(runtime.cudaStreamCreateWithFlags(flags))

            def synchronize(self) -> None:
                _value(runtime.cudaStreamSynchronize(self.handle))

            def __del__(self) -> None:
                if self.handle:
                    runtime.cudaStreamDestroy(self.handle)

        class Event:
            def __init__(self, flags: int = 0) -> None:
                self.handle = _value(runtime.cudaEventCreate())

            def record(self, stream: Stream | None = None) -> Event:
                _value(runtime.cudaEventRecord(self.handle, stream.handle if stream else 0))
                return self

            def time_since(self, event: Event) -> float:
                return float(_value(runtime.cudaEventElapsedTime(event.handle, self.handle)))

            def __del__(self) -> None:
                runtime.cudaEventDestroy(self.handle)

        self.Device, self.Context, self.Stream, self.Event = Device, Context, Stream, Event
        self._device_allocation, self._pinned_allocation = DeviceAllocation, PagelockedHostAllocation

    def contexts(self) -> list[Any]:
        """Return the stack of contexts of the calling thread."""
        stack: list[Any] = self._thread.__dict__.setdefault("stack", [])
        return stack

    def init(self, flags: int = 0) -> None:
        self.initialised = True

    def get_driver_version(self) -> int:
        return int(_value(self.runtime.cudaDriverGetVersion()))

    def mem_alloc(self, bytes: int) -> Any:
        return self._device_allocation(_value(self.runtime.cudaMalloc(bytes)))

    def pagelocked_empty(self, shape: int, dtype: Any, order: str = "C", mem_flags: int = 0) -> Any:
        pointer = _value(self.runtime.cudaHostAlloc(shape * np.dtype(dtype).itemsize, mem_flags))
        allocation = self._pinned_allocation(pointer)
        allocation.__array_interface__ = {"shape": (shape,), "typestr": "|u1", "data": (pointer, False), "version": 3}
        return np.asarray(allocation)

    def memcpy_htod_async(self, dest: int, src: Any, stream: Any = None) -> None:
        kind = cudaMemcpyKind.cudaMemcpyHostToDevice
        _value(self.runtime.cudaMemcpyAsync(dest, src.ctypes.data, src.nbytes, kind, stream.handle))

    def memcpy_dtod_async(self, dest: int, src: int, size: int, stream: Any = None) -> None:
        kind = cudaMemcpyKind.cudaMemcpyDeviceToDevice
        _value(self.runtime.cudaMemcpyAsync(dest, src, size, kind, stream.handle))

    def memcpy_dtoh_async(self, dest: Any, src: int, stream: Any = None) -> None:
        kind = cudaMemcpyKind.cudaMemcpyDeviceToHost
        _value(self.runtime.cudaMemcpyAsync(dest.ctypes.data, src, dest.nbytes, kind, stream.handle))


def _value(answer: tuple[Any, ...]) -> Any:
    error, *values = answer
    if error.name == "cudaErrorMemoryAllocation":
        raise MemoryError("cuMemAlloc failed: out of memory")
    if error:
        raise LogicError(error.name)
    return values[0] if values else None


def install(monkeypatch: pytest.MonkeyPatch, runtime: FakeCudaRuntime) -> FakePyCudaDriver:
    """Let ``import pycuda.driver`` find a new stand-in for the rest of the test."""
    driver = FakePyCudaDriver(runtime)
    monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    return driver
