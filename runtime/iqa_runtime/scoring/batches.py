"""Batches on their way through a backend: one is filled while others are worked on."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.backends import Backend
from iqa_runtime.backends.batch_run import BatchRun
from iqa_runtime.errors import ResourceError, UsageError
from iqa_runtime.kernels import aligned_empty
from iqa_runtime.scoring.room import Room

Owner = TypeVar("Owner")


class Batch(Generic[Owner]):
    """Buffers of one batch.

    Attributes
    ----------
    tensors
        By the name of the input; none yet where whole pictures come at their own size.
    owners
        Item by item, whose it is.

    Raises
    ------
    UsageError
        If there is not so much memory.
    """

    def __init__(self, size: int, backend: Backend) -> None:
        self.size = size
        self.owners: list[Owner] = []
        self.tensors: dict[str, NDArray[Any]] = {}
        self._spec = backend.spec
        if not self._spec.has_own_size:
            try:
                self._allocate((0, 0))
            except (MemoryError, ValueError) as error:  # the latter beyond what an address can count
                raise UsageError(
                    f"a batch of {size} items does not fit into memory; choose a smaller ``batch_size``, or fewer "
                    "``threads``, which it follows by default"
                ) from error

    def fit(self, height: int, width: int) -> None:
        """Take memory for a picture of this size, where pictures come at their own.

        Raises
        ------
        ResourceError
            If there is not so much.
        """
        if self._spec.has_own_size:
            try:
                self._allocate((height, width))
            except (MemoryError, ValueError) as error:
                raise ResourceError(
                    f"{width} x {height} pixels do not fit into memory; make them fewer with ``resize``"
                ) from error

    def release(self) -> None:
        """Let go of the memory of a picture, which may be large and of no use for the next one."""
        if self._spec.has_own_size:
            self.tensors = {}

    def _allocate(self, size: tuple[int, int]) -> None:
        self.tensors = {
            spec.name: aligned_empty((self.size, *spec.shape_for(size)), np.dtype(spec.dtype))
            for spec in self._spec.inputs
        }


class Batches(Generic[Owner]):
    """The batches of one stream, begun and ended in one order.

    Parameters
    ----------
    size
        Items of each.
    backend
        What they go through.
    """

    def __init__(self, size: int, backend: Backend) -> None:
        self._size, self._backend = size, backend
        self._filling: Batch[Owner] | None = None
        self._idle: list[Batch[Owner]] = []
        self._under_way: deque[tuple[Batch[Owner], BatchRun]] = deque()

    @property
    def filling(self) -> Batch[Owner]:
        """The one that takes the next items."""
        if self._filling is None:
            self._filling = self._idle.pop() if self._idle else Batch(self._size, self._backend)
        return self._filling

    @property
    def under_way(self) -> int:
        """How many the backend has."""
        return len(self._under_way)

    @property
    def has_ended(self) -> bool:
        """Whether the oldest of those has ended."""
        return bool(self._under_way) and self._under_way[0][1].has_ended

    def begin(self, outputs: list[str], room: Room | None = None) -> None:
        """Give the backend what has been filled, if anything has been, once there is room for it.

        Raises as `Backend.begin`.
        """
        batch = self._filling
        if batch is None or not batch.owners:
            return
        items = len(batch.owners)
        inputs = {name: tensor[:items] for name, tensor in batch.tensors.items()}
        if room is None:
            running = self._backend.begin(inputs, outputs)
        else:
            height, width = next(iter(inputs.values())).shape[-2:]
            room.take(height * width)
            try:
                running = self._backend.begin(inputs, outputs)
            except BaseException:
                room.give_back(height * width)
                raise
            running.when_ended(partial(room.give_back, height * width))
        self._under_way.append((batch, running))
        self._filling = None

    def oldest(self) -> tuple[list[Owner], BatchRun]:
        """Return the oldest batch under way, which then no longer is, and whose its items are.

        Its buffers are filled again, so its result must be waited for before the next item is put anywhere.
        """
        batch, running = self._under_way.popleft()
        owners, batch.owners = batch.owners, []
        batch.release()
        self._idle.append(batch)
        return owners, running

    def cancel(self) -> None:
        """Let nothing more begin of what is under way, and wait for nothing.

        The garbage collector may end a stream that was dropped, in any thread, one of the backend's included.
        """
        for _, running in self._under_way:
            running.cancel()
