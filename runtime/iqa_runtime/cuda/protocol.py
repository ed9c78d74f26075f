"""What the runtime needs of CUDA."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU, as every library describes it alike.

    Attributes
    ----------
    name
        As the driver calls it.
    compute_capability
        Major and minor.
    driver
        The newest CUDA the driver supports, such as ``CUDA 12.6``; for information, since plans don't depend on it.
    """

    name: str
    compute_capability: tuple[int, int]
    driver: str

    def __str__(self) -> str:
        return f"{self.name} ({self.compute_capability[0]}.{self.compute_capability[1]})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiprocessors:
    """What a GPU computes with.

    Attributes
    ----------
    compute_capability
        Major and minor.
    count
        Those this process may use, which on a part of a GPU are not all.
    clock_khz
        The highest they may have, in kHz.
    """

    compute_capability: tuple[int, int]
    count: int
    clock_khz: int


def driver_title(version: int) -> str:
    """Return in words what the driver supports, which CUDA gives as 1000 times the major version plus 10 the minor."""
    return f"CUDA {version // 1000}.{version % 1000 // 10}"


class Cuda(Protocol):
    """One GPU.

    All methods but `active` must be called while the device is current in the calling thread, and raise `BackendError`
    with the name of what CUDA refused. Those that free or destroy raise nothing: they run when something else has
    failed, too, and then that is what should be heard.

    Pointers, streams, events and graphs are whole numbers: the addresses and handles of the CUDA C API.
    """

    @property
    def library(self) -> str:
        """The library behind it, for display."""

    @property
    def device_name(self) -> str:
        """What the driver calls the GPU."""

    def multiprocessors(self) -> Multiprocessors:
        """Return what the GPU computes with."""

    def active(self) -> AbstractContextManager[None]:
        """Make the device current in the calling thread; afterwards, what was current before is so again."""

    def allocate(self, size: int) -> int:
        """Allocate so many bytes on the device and return the address."""

    def free(self, pointer: int) -> None:
        """Free memory of `allocate`."""

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        """Allocate so many bytes of page-locked host memory, from and to which copies go without the CPU."""

    def free_pinned(self, memory: NDArray[np.uint8]) -> None:
        """Free memory of `allocate_pinned`; nobody may look at it afterwards."""

    def create_stream(self) -> int:
        """Create a stream that waits for no other one, not even the default one."""

    def destroy_stream(self, stream: int) -> None:
        """Destroy a stream."""

    def synchronize(self, stream: int) -> None:
        """Wait until all work of a stream is done."""

    def copy_to_device(self, pointer: int, memory: NDArray[Any], stream: int) -> None:
        """Enqueue a copy of pinned, C-contiguous memory to the device."""

    def copy_to_host(self, memory: NDArray[Any], pointer: int, stream: int) -> None:
        """Enqueue a copy from the device to pinned, C-contiguous memory."""

    def copy_on_device(self, target: int, source: int, size: int, stream: int) -> None:
        """Enqueue a copy of so many bytes from one address on the device to another."""

    def create_event(self) -> int:
        """Create an event that takes the time."""

    def destroy_event(self, event: int) -> None:
        """Destroy an event."""

    def record(self, event: int, stream: int) -> None:
        """Let the event happen when all work enqueued so far is done."""

    def milliseconds(self, start: int, end: int) -> float:
        """Return the time between two events that have happened."""

    def capture(self, stream: int, enqueue: Callable[[], bool]) -> int | None:
        """Record as a graph what a function enqueues, without running it.

        Parameters
        ----------
        stream
            Where it enqueues.
        enqueue
            Returns whether it could.

        Returns
        -------
        int or None
            The executable graph; None if the function could not, something it enqueued cannot be recorded, or the
            library has no graphs. The stream is as it was before.
        """

    def launch(self, graph: int, stream: int) -> None:
        """Enqueue a graph."""

    def destroy_graph(self, graph: int) -> None:
        """Destroy a graph."""
