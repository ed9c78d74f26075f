"""A stand-in for ``cuda.bindings.runtime``: its names, arguments and return values, with host memory for the device's.

Work waits in its stream until somebody synchronises, so that code which forgets to is found out. What is alive is
counted; `fail` makes a call fail.

    from fake_cuda import install

    cuda = install(monkeypatch)
    cuda.fail("cudaMalloc", cudaError_t.cudaErrorMemoryAllocation, after=3)
"""

# ruff: noqa: N801, N802, N815 - the real names

from __future__ import annotations

import ctypes
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from enum import IntEnum
from itertools import count
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class cudaDeviceAttr(IntEnum):
    cudaDevAttrClockRate = 13
    cudaDevAttrMultiProcessorCount = 16


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1


SUCCESS = cudaError_t.cudaSuccess


class FakeCudaRuntime:
    """One GPU, to be put into ``sys.modules`` as ``cuda.bindings.runtime``.

    Attributes
    ----------
    alive
        How many of each kind are allocated and not freed: ``device``, ``pinned``, ``stream``, ``event``, ``graph``.
    calls
        How often each function was called.
    attributes
        Of every device: 132 multiprocessors at 1.83 GHz, as an H100 SXM has for its tensor cores.
    """

    cudaError_t = cudaError_t
    cudaMemcpyKind = cudaMemcpyKind
    cudaDeviceAttr = cudaDeviceAttr
    cudaStreamCaptureMode = cudaStreamCaptureMode
    cudaStreamNonBlocking = 1
    cudaHostAllocDefault = 0

    def __init__(self, devices: int = 1) -> None:
        self.devices = devices
        self._thread = threading.local()
        self.alive: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.attributes = {
            cudaDeviceAttr.cudaDevAttrClockRate: 1_830_000,
            cudaDeviceAttr.cudaDevAttrMultiProcessorCount: 132,
        }
        self._failures: dict[str, tuple[int, cudaError_t]] = {}
        self._memory: dict[int, Any] = {}
        self._handles = count(0x1000, 0x10)
        self._pending: defaultdict[int, list[Callable[[], None]]] = defaultdict(list)
        self._capturing: set[int] = set()
        self._graphs: dict[int, list[Callable[[], None]]] = {}
        self._times: dict[int, float] = {}
        self._clock = 0.0

    @property
    def current(self) -> int:
        """The device that is current in the calling thread."""
        return getattr(self._thread, "device", 0)

    @current.setter
    def current(self, device: int) -> None:
        self._thread.device = device

    def fail(self, function: str, error: cudaError_t, *, after: int = 0) -> None:
        """Let a function fail, from its call number `after` (counted from now, from zero) on."""
        self._failures[function] = (self.calls[function] + after, error)

    def enqueue(self, stream: int, work: Callable[[], None]) -> None:
        """Put work into a stream; what a stand-in for a kernel launch does."""
        self._pending[stream].append(work)

    def invalidate_capture(self, stream: int) -> None:
        """Do what a call that cannot be captured does; nothing outside a capture."""
        if stream in self._capturing:
            self.fail("cudaStreamEndCapture", cudaError_t.cudaErrorStreamCaptureInvalidated)

    def _enter(self, function: str) -> cudaError_t:
        number = self.calls[function]
        self.calls[function] += 1
        first, error = self._failures.get(function, (number + 1, SUCCESS))
        return error if number >= first else SUCCESS

    def _create(self, function: str, kind: str) -> tuple[cudaError_t, int | None]:
        error = self._enter(function)
        if error:
            return error, None
        self.alive[kind] += 1
        return SUCCESS, next(self._handles)

    def _destroy(self, function: str, kind: str) -> tuple[cudaError_t]:
        self.alive[kind] -= 1
        return (self._enter(function),)

    def _allocate(self, function: str, kind: str, size: int) -> tuple[cudaError_t, int | None]:
        error = self._enter(function)
        if error:
            return error, None
        buffer = ctypes.create_string_buffer(size)
        self.alive[kind] += 1
        self._memory[ctypes.addressof(buffer)] = buffer
        return SUCCESS, ctypes.addressof(buffer)

    def _free(self, function: str, kind: str, pointer: int) -> tuple[cudaError_t]:
        if self._memory.pop(pointer, None) is None:
            raise AssertionError(f"{function}: {pointer:#x} is not allocated, or not any more")
        return self._destroy(function, kind)

    def cudaGetDeviceCount(self) -> tuple[cudaError_t, int | None]:
        error = self._enter("cudaGetDeviceCount")
        return error, None if error else self.devices

    def cudaGetDeviceProperties(self, device: int) -> tuple[cudaError_t, Any]:
        return self._enter("cudaGetDeviceProperties"), SimpleNamespace(name=b"Fake GPU\0\0", major=9, minor=0)

    def cudaDeviceGetAttribute(self, attr: cudaDeviceAttr, device: int) -> tuple[cudaError_t, int]:
        return self._enter("cudaDeviceGetAttribute"), self.attributes[attr]

    def cudaGetDevice(self) -> tuple[cudaError_t, int]:
        return self._enter("cudaGetDevice"), self.current

    def cudaSetDevice(self, device: int) -> tuple[cudaError_t]:
        self.current = device
        return (self._enter("cudaSetDevice"),)

    def cudaDriverGetVersion(self) -> tuple[cudaError_t, int]:
        return self._enter("cudaDriverGetVersion"), 13000

    def cudaGetLastError(self) -> tuple[cudaError_t]:
        return (self._enter("cudaGetLastError"),)

    def cudaMalloc(self, size: int) -> tuple[cudaError_t, int | None]:
        return self._allocate("cudaMalloc", "device", size)

    def cudaFree(self, devPtr: int) -> tuple[cudaError_t]:
        return self._free("cudaFree", "device", devPtr)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[cudaError_t, int | None]:
        return self._allocate("cudaHostAlloc", "pinned", size)

    def cudaFreeHost(self, ptr: int) -> tuple[cudaError_t]:
        return self._free("cudaFreeHost", "pinned", ptr)

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: cudaMemcpyKind, stream: int) -> tuple[cudaError_t]:
        error = self._enter("cudaMemcpyAsync")
        if not error:
            self.enqueue(stream, lambda: _copy(dst, src, count))
        return (error,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[cudaError_t, int | None]:
        return self._create("cudaStreamCreateWithFlags", "stream")

    def cudaStreamDestroy(self, stream: int) -> tuple[cudaError_t]:
        return self._destroy("cudaStreamDestroy", "stream")

    def cudaStreamSynchronize(self, stream: int) -> tuple[cudaError_t]:
        error = self._enter("cudaStreamSynchronize")
        for work in self._pending.pop(stream, []):
            if not error:
                work()
        return (error,)

    def cudaEventCreate(self) -> tuple[cudaError_t, int | None]:
        return self._create("cudaEventCreate", "event")

    def cudaEventDestroy(self, event: int) -> tuple[cudaError_t]:
        return self._destroy("cudaEventDestroy", "event")

    def cudaEventRecord(self, event: int, stream: int) -> tuple[cudaError_t]:
        error = self._enter("cudaEventRecord")

        def happen() -> None:
            self._clock += 1.0
            self._times[event] = self._clock

        self.enqueue(stream, happen)
        return (error,)

    def cudaEventElapsedTime(self, start: int, end: int) -> tuple[cudaError_t, float]:
        return self._enter("cudaEventElapsedTime"), self._times[end] - self._times[start]

    def cudaStreamBeginCapture(self, stream: int, mode: cudaStreamCaptureMode) -> tuple[cudaError_t]:
        error = self._enter("cudaStreamBeginCapture")
        if stream in self._capturing or self._pending[stream]:
            return (cudaError_t.cudaErrorInvalidValue,)
        self._capturing.add(stream)
        return (error,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[cudaError_t, int | None]:
        error = self._enter("cudaStreamEndCapture")
        self._capturing.discard(stream)
        captured = self._pending.pop(stream, [])
        if error:
            return error, None
        self.alive["graph"] += 1
        graph = next(self._handles)
        self._graphs[graph] = captured
        return SUCCESS, graph

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[cudaError_t, int | None]:
        error, executable = self._create("cudaGraphInstantiate", "executable graph")
        if executable is not None:
            self._graphs[executable] = self._graphs[graph]
        return error, executable

    def cudaGraphDestroy(self, graph: int) -> tuple[cudaError_t]:
        return self._destroy("cudaGraphDestroy", "graph")

    def cudaGraphExecDestroy(self, graphExec: int) -> tuple[cudaError_t]:
        return self._destroy("cudaGraphExecDestroy", "executable graph")

    def cudaGraphLaunch(self, graphExec: int, stream: int) -> tuple[cudaError_t]:
        error = self._enter("cudaGraphLaunch")
        if not error:
            self._pending[stream] += self._graphs[graphExec]
        return (error,)


def _copy(target: int, source: int, size: int) -> None:
    ctypes.memmove(target, source, size)


def install(monkeypatch: pytest.MonkeyPatch, *, devices: int = 1) -> FakeCudaRuntime:
    """Let ``import cuda.bindings.runtime`` find a new stand-in for the rest of the test."""
    runtime = FakeCudaRuntime(devices)
    for package in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime)
    return runtime
