"""One execution context of a TensorRT engine, with the stream and the buffers it works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.artefacts.engine_file import SizeRange
from iqa_runtime.backends.tensor_spec import GraphSpec
from iqa_runtime.cuda import Cuda
from iqa_runtime.errors import BackendError

_PROFILE = 0
_LARGEST_TYPE = 8
_ELEMENT_TYPES = {"FLOAT": "float32", "HALF": "float16", "UINT8": "uint8"}


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Where one run spends its time on the GPU, in milliseconds between CUDA events."""

    host_to_device: float
    compute: float
    device_to_host: float


class Worker:
    """Runs an engine at one fixed batch, or one picture of any size; one thread at a time may use it, the GPU current.

    Parameters
    ----------
    path
        Of the engine, for messages.
    spec
        Inputs and outputs, which the engine must have.
    items
        The batch.
    sizes
        Heights and widths it takes; None where they are fixed. Memory is taken for the largest once.
    engine
        As deserialised.
    cuda
        The GPU.
    messages
        Where the library's errors are collected.
    """

    def __init__(
        self,
        path: Path,
        spec: GraphSpec,
        items: int,
        sizes: SizeRange | None,
        engine: Any,
        cuda: Cuda,
        messages: Sequence[str],
    ) -> None:
        self._path, self._spec, self._items, self._sizes = path, spec, items, sizes
        self._engine, self._cuda, self._messages = engine, cuda, messages
        self._freeing = ExitStack()
        self._context: Any = None
        self._stream = 0
        self._graph: int | None = None
        self._pinned: dict[str, NDArray[np.uint8]] = {}
        self._host: dict[str, NDArray[Any]] = {}
        self._device: dict[str, int] = {}

    @property
    def has_graph(self) -> bool:
        """Whether runs are launched as a CUDA graph."""
        return self._graph is not None

    def open(self) -> None:
        """Take context, stream and buffers, run once, and record the graph; `close` frees what was taken, always.

        Raises
        ------
        BackendError
            If memory is short, the engine refuses the batch, or a run fails.
        """
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise BackendError(
                f"{self._path}: no memory for an execution context{said(self._messages)}; free memory on the GPU, "
                "or build the engine for smaller batches: iqa-engine build --opt-batch"
            )
        self._stream = self._cuda.create_stream()
        self._freeing.callback(self._cuda.destroy_stream, self._stream)
        self._require(self._context.set_optimization_profile_async(_PROFILE, self._stream), "its batch sizes")
        self._set_size((0, 0) if self._sizes is None else self._sizes.max)
        for index in range(self._engine.num_io_tensors):
            self._bind(self._engine.get_tensor_name(index))
        # Also outside a capture, in which lazy set-up would fail.
        self.run({spec.name: np.zeros_like(self._host[spec.name]) for spec in self._spec.inputs}, [])
        # A graph holds the shapes it was recorded with.
        self._graph = None if self._sizes is not None else self._cuda.capture(self._stream, self._enqueue)
        if self._graph is not None:
            self._freeing.callback(self._cuda.destroy_graph, self._graph)

    def close(self) -> None:
        """Free everything; nothing happens if nothing was taken."""
        # First the context, which still knows the buffers.
        self._context = self._graph = self._engine = None
        self._host, self._pinned, self._device = {}, {}, {}
        self._freeing.close()

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """Run one batch: copy in, compute, copy the outputs wanted out, wait.

        Raises
        ------
        BackendError
            If TensorRT or CUDA fails.
        """
        self._stage(inputs)
        self._copy_in()
        self._compute()
        self._copy_out(outputs)
        self._cuda.synchronize(self._stream)
        # Copies, because the next run writes over the buffers.
        return [self._host[name].copy() for name in outputs]

    def run_timed(self, inputs: Mapping[str, NDArray[Any]]) -> StageTimes:
        """Run one batch, all declared outputs fetched, and return the time of each stage; raises as `run` does."""
        cuda, stream = self._cuda, self._stream
        with ExitStack() as freeing:
            marks = []
            for _ in range(4):
                marks.append(cuda.create_event())
                freeing.callback(cuda.destroy_event, marks[-1])
            self._stage(inputs)
            cuda.record(marks[0], stream)
            self._copy_in()
            cuda.record(marks[1], stream)
            self._compute()
            cuda.record(marks[2], stream)
            self._copy_out([spec.name for spec in self._spec.outputs])
            cuda.record(marks[3], stream)
            cuda.synchronize(stream)
            times = [cuda.milliseconds(start, end) for start, end in pairwise(marks)]
        return StageTimes(*times)

    def _set_size(self, size: tuple[int, int]) -> None:
        """Tell the engine the shapes of its inputs."""
        for spec in self._spec.inputs:
            shape = (self._items, *spec.shape_for(size))
            self._require(self._context.set_input_shape(spec.name, shape), f"input {spec.name!r} of {shape}")
        self._require(not self._context.infer_shapes(), "the shapes of the contract")
        self._size = size

    def _shape(self, name: str) -> tuple[int, ...]:
        """Return the shape that a tensor has now; hold it to what was promised."""
        shape = tuple(self._context.get_tensor_shape(name))
        promised = {spec.name: spec for spec in (*self._spec.inputs, *self._spec.outputs)}
        fits = name not in promised or (shape[:1] == (self._items,) and promised[name].admits(shape[1:], self._size))
        if not fits:
            raise BackendError(
                f"{self._path}: tensor {name!r} of the engine has shape {shape}, promised is "
                f"{(self._items, *promised[name].item_shape)}; build it again"
            )
        return shape

    def _bind(self, name: str) -> None:
        """Give a tensor of the engine its memory; those of a type that no artefact has get only the device's."""
        shape = self._shape(name)
        dtype = element_type(self._engine, name)
        # No type of ours takes more than eight bytes.
        size = prod(shape) * (_LARGEST_TYPE if dtype is None else np.dtype(dtype).itemsize)
        self._device[name] = self._cuda.allocate(size)
        self._freeing.callback(self._cuda.free, self._device[name])
        self._require(self._context.set_tensor_address(name, self._device[name]), f"the memory of {name!r}")
        if dtype is not None:
            pinned = self._cuda.allocate_pinned(size)
            self._freeing.callback(self._cuda.free_pinned, pinned)
            self._pinned[name] = pinned
            self._host[name] = pinned.view(dtype).reshape(shape)

    def _fit(self, size: tuple[int, int]) -> None:
        """Use as much of the memory as a picture of this size takes."""
        if size == self._size:
            return
        self._set_size(size)
        for name, pinned in self._pinned.items():
            shape, dtype = self._shape(name), np.dtype(element_type(self._engine, name))
            taken = prod(shape) * dtype.itemsize
            if taken > pinned.nbytes:
                raise BackendError(
                    f"{self._path}: tensor {name!r} is larger for a small picture than for the largest; build it again"
                )
            self._host[name] = pinned[:taken].view(dtype).reshape(shape)

    def _stage(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        if self._sizes is not None:
            self._fit(next(iter(inputs.values())).shape[-2:])
        for name, values in inputs.items():
            np.copyto(self._host[name], values)

    def _copy_in(self) -> None:
        for spec in self._spec.inputs:
            self._cuda.copy_to_device(self._device[spec.name], self._host[spec.name], self._stream)

    def _compute(self) -> None:
        if self._graph is not None:
            self._cuda.launch(self._graph, self._stream)
        elif not self._enqueue():
            raise BackendError(
                f"{self._path}: TensorRT cannot run the engine{said(self._messages)}; check the GPU with "
                "nvidia-smi, or build the engine again"
            )

    def _enqueue(self) -> bool:
        return bool(self._context.execute_async_v3(self._stream))

    def _copy_out(self, outputs: Sequence[str]) -> None:
        for name in outputs:
            self._cuda.copy_to_host(self._host[name], self._device[name], self._stream)

    def _require(self, accepted: bool, what: str) -> None:
        if not accepted:
            raise BackendError(
                f"{self._path}: the engine refuses {what}{said(self._messages)}; build it again for a batch of "
                f"{self._items}"
            )


def element_type(engine: Any, name: str) -> str | None:
    """Return the NumPy name of a tensor's type; None for a type that no artefact has."""
    return _ELEMENT_TYPES.get(engine.get_tensor_dtype(name).name)


def said(messages: Sequence[str]) -> str:
    """Return what the library has said, to be put into a message."""
    return f" ({'; '.join(messages)})" if messages else ""
