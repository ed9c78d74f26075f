"""What every backend is: a graph made ready by `activate`, run by `infer`, let go by `deactivate`.

The public methods check what goes in and comes out and cut batches into runs of one fixed shape; a backend fills in the
three hooks `_load`, `_run` and `_release`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.contract import Contract
from iqa_runtime.errors import ArtefactError, BackendError, UsageError

_FLOATS = ("float32", "float16")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a graph.

    Attributes
    ----------
    name
        Its name in the graph.
    item_shape
        Its shape without the batch axis, which always comes first.
    dtype
        ``float32`` or ``float16``; None where either will do, as it does for outputs.
    """

    name: str
    item_shape: tuple[int, ...]
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs a graph must have."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @staticmethod
    def of_artefact(contract: Contract) -> Signature:
        """Return what the contract promises of the artefact's own graph."""
        outputs = [TensorSpec(contract.score.name, ())]
        outputs += [TensorSpec(output.name, (output.rows, output.columns)) for output in contract.maps]
        outputs += [TensorSpec(output.name, output.shape) for output in contract.extras]
        return Signature(tuple(_input_spec(contract, tensor.name) for tensor in contract.inputs), tuple(outputs))

    @staticmethod
    def of_reference_encoder(contract: Contract) -> Signature:
        """Return what the contract promises of the graph that makes ``reference_features`` out of reference crops."""
        image, features = _input_spec(contract, "image"), _input_spec(contract, "reference_features")
        return Signature(
            (TensorSpec("reference", image.item_shape, image.dtype),),
            (TensorSpec("reference_features", features.item_shape, features.dtype),),
        )


def _input_spec(contract: Contract, name: str) -> TensorSpec:
    tensor = contract.input(name)
    if tensor is None:
        raise ArtefactError(f"the contract has no input {name!r}; export the model again")
    return TensorSpec(name, tuple(int(size) for size in tensor.shape[1:]), tensor.dtype)


class Backend(ABC):
    """A graph on one device.

    Kernels of an inference library may round differently for another batch shape, and a score must not depend on
    which images share a batch. So every call of the library runs exactly `items_per_run` items, the last run of a batch
    filled up with copies of its last item; the caller's batch size is only how many items are handed over at a time.
    For the same reason threads work on different runs, up to `concurrent_runs` at once, and never share one.

    `infer` may be called from several threads at once.

    Parameters
    ----------
    artefact
        Path of the graph.
    signature
        What it must take and give.
    device
        Where to run it, in the backend's own words.
    threads
        Threads it may keep busy on the CPU.
    """

    name: ClassVar[str]

    def __init__(self, artefact: Path, signature: Signature, *, device: str, threads: int) -> None:
        self.artefact = artefact
        self.signature = signature
        self.device = device
        self.threads = threads
        self._is_active = False
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        self.activate()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.deactivate()

    @property
    @abstractmethod
    def items_per_run(self) -> int:
        """Items in every run, whatever the caller's batch."""

    @property
    def concurrent_runs(self) -> int:
        """Runs that go on at once, each in a thread of its own."""
        return 1

    @property
    @abstractmethod
    def provider(self) -> str:
        """What the library says it runs on; for display."""

    @abstractmethod
    def _load(self) -> None:
        """Load the graph, check it against the signature and make it ready."""

    @abstractmethod
    def _run(self, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        """Run `items_per_run` items; outputs in the order of their names."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of what `_load` took."""

    def activate(self) -> None:
        """Make the graph ready; nothing happens if it is.

        Raises
        ------
        UsageError
            If the device is not one of this backend's.
        ArtefactError
            If the graph cannot be read or differs from the signature.
        BackendError
            If the device is not there.
        DependencyError
            If the backend's library is missing or broken.
        """
        if not self._is_active:
            self._load()
            if self.concurrent_runs > 1:
                self._pool = ThreadPoolExecutor(self.concurrent_runs, thread_name_prefix="iqa-model")
            self._is_active = True

    def deactivate(self) -> None:
        """Free the graph; nothing happens if it is not active."""
        if self._is_active:
            self._is_active = False
            if self._pool is not None:
                self._pool.shutdown()
                self._pool = None
            self._release()

    def infer(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Run a batch of any number of items.

        Parameters
        ----------
        inputs
            Every input of the signature: C-contiguous, shape (items, ...), of the signature's dtype.
        outputs
            Names of the outputs wanted; others are not fetched.

        Returns
        -------
        dict
            The outputs, each float32 of shape (items, ...).

        Raises
        ------
        UsageError
            If the backend is not active or the inputs don't fit the signature.
        BackendError
            If the library fails or returns another shape than promised.
        """
        if not self._is_active:
            raise UsageError(f"{self.artefact}: the {self.name} backend is not active; call activate() first")
        items = self._check_inputs(inputs)
        shapes = {spec.name: spec.item_shape for spec in self.signature.outputs}
        unknown = [name for name in outputs if name not in shapes]
        if unknown:
            raise UsageError(f"{self.artefact}: no output {unknown[0]!r}; there are: {', '.join(shapes)}")
        results = {name: np.empty((items, *shapes[name]), dtype=np.float32) for name in outputs}
        size = self.items_per_run

        def run_from(start: int) -> None:
            used = min(size, items - start)
            run = {name: _padded(tensor[start : start + used], size) for name, tensor in inputs.items()}
            for name, values in zip(outputs, self._run(run, list(outputs)), strict=True):
                if values.shape != (size, *shapes[name]) or values.dtype.name not in _FLOATS:
                    raise BackendError(
                        f"{self.artefact}: output {name!r} came as {values.dtype} {values.shape}, promised is float "
                        f"{(size, *shapes[name])}; export the model again"
                    )
                results[name][start : start + used] = values[:used]

        self._for_each(run_from, range(0, items, size))
        return results

    def _for_each(self, work: Callable[[int], None], starts: range) -> None:
        """Do all the work, in the pool where that helps; the first error is raised."""
        pool = self._pool
        if pool is None or len(starts) == 1:
            for start in starts:
                work(start)
            return
        try:
            pending = [pool.submit(work, start) for start in starts]
        except RuntimeError as error:  # the pool was shut down between the check of activity and here
            raise UsageError(f"{self.artefact}: the backend was deactivated while in use") from error
        try:
            for future in pending:
                future.result()
        finally:
            for future in pending:
                future.cancel()

    def _check_inputs(self, inputs: Mapping[str, NDArray[Any]]) -> int:
        """Return the number of items."""
        expected = {spec.name for spec in self.signature.inputs}
        if set(inputs) != expected:
            raise UsageError(f"{self.artefact}: inputs are {sorted(inputs)}, must be {sorted(expected)}")
        items = len(inputs[self.signature.inputs[0].name])
        for spec in self.signature.inputs:
            tensor = inputs[spec.name]
            if tensor.shape != (items, *spec.item_shape) or tensor.dtype.name != spec.dtype or items == 0:
                raise UsageError(
                    f"{self.artefact}: input {spec.name!r} is {tensor.dtype} {tensor.shape}, must be {spec.dtype} "
                    f"{(items or 'items', *spec.item_shape)}"
                )
        return items


def _padded(tensor: NDArray[Any], size: int) -> NDArray[Any]:
    missing = size - len(tensor)
    return tensor if missing == 0 else np.concatenate([tensor, np.repeat(tensor[-1:], missing, axis=0)])
