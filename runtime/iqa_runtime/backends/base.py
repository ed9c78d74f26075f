"""What every backend is: a graph made ready by `activate`, run by `infer`, let go by `deactivate`.

The public methods check what goes in and comes out and cut batches into runs of one fixed shape; a backend has
a `name`, that of its entry in the table or its entry point, says `items_per_run` and `provider`, and fills in the hooks
`_load`, `_run` and `_release`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from time import perf_counter
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.artefacts.graph_file import GraphFile
from iqa_runtime.backends.batch_run import BatchRun
from iqa_runtime.backends.tensor_spec import GraphSpec
from iqa_runtime.errors import BackendError, UsageError, starting_threads
from iqa_runtime.forking import keep_for_ever, tell_after_fork

_FLOATS = ("float32", "float16")


class Backend(ABC):
    """A graph on one device.

    Kernels of an inference library may round differently for another batch shape, and a score must not depend on
    which images share a batch. So every call of the library runs exactly `items_per_run` items, the last run of a batch
    filled up with copies of its last item; the caller's batch size is only how many items are handed over at a time.
    For the same reason threads work on different runs, up to `concurrent_runs` at once, and never share one. Whole
    pictures at their own size go one a run: nothing is added to a picture so that others fit beside it.

    `infer` and `begin` may be called from several threads at once.

    Parameters
    ----------
    graph
        What it runs.
    spec
        What that must take and give.
    device
        Where to run it, in the backend's own words.
    threads
        Threads it may keep busy on the CPU.
    """

    name: ClassVar[str]

    def __init__(self, graph: GraphFile, spec: GraphSpec, *, device: str, threads: int) -> None:
        self.graph = graph
        self.spec = spec
        self.device = device
        self.threads = threads
        self._is_active = False
        self._pool: ThreadPoolExecutor | None = None
        self._is_parents = False
        self._loading = Lock()
        tell_after_fork(self)

    def __enter__(self) -> Self:
        self.activate()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.deactivate()

    @property
    def path(self) -> Path:
        """Where the graph lies; for messages."""
        return self.graph.path

    @property
    @abstractmethod
    def items_per_run(self) -> int:
        """Items in every run, whatever the caller's batch; one where pictures come at their own size."""

    @property
    def concurrent_runs(self) -> int:
        """Runs that go on at once, each in a thread of its own."""
        return 1

    @property
    def survives_fork(self) -> bool:
        """Whether a forked child can go on with what `_load` made; if not, it loads the graph anew when it needs it."""
        return False

    @property
    @abstractmethod
    def provider(self) -> str:
        """What the library says it runs on; for display."""

    @abstractmethod
    def _load(self) -> None:
        """Load the graph, check it against the spec and make it ready."""

    @abstractmethod
    def _run(self, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        """Run `items_per_run` items; outputs in the order of their names."""

    def _run_layers(self, inputs: dict[str, NDArray[Any]], names: list[str]) -> list[NDArray[Any]]:
        """Run one item; tensors inside the graph in the order of their names. Here: they are outputs of `_run` too."""
        return self._run(inputs, names)

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
            If the graph cannot be read or differs from the spec.
        BackendError
            If the device is not there.
        DependencyError
            If the backend's library is missing or broken.
        """
        if not self._is_active:
            self._load()
            self._start_pool()
            self._is_active = True

    def deactivate(self) -> None:
        """Free the graph; nothing happens if it is not active."""
        if self._is_active:
            self._is_active = False
            if self._pool is not None:
                self._pool.shutdown()
                self._pool = None
            if not self._is_parents:
                self._release()

    def after_fork(self) -> None:
        """Go on in a forked child: with threads of its own, and a graph of its own if the parent's cannot be used."""
        self._loading = Lock()
        if self._is_active:
            self._start_pool()
            if not (self._is_parents or self.survives_fork):
                # Freed, it would wait for threads which are not in this process.
                keep_for_ever(vars(self).copy())
                self._is_parents = True

    def _start_pool(self) -> None:
        # Its threads are started by the first runs.
        self._pool = ThreadPoolExecutor(self.concurrent_runs, thread_name_prefix="iqa-model")

    def infer(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Run a batch of any number of items.

        Parameters
        ----------
        inputs
            Every input of the spec: C-contiguous, shape (items, ...), of the spec's dtype. Pictures at their own size
            are one item.
        outputs
            Names of the outputs wanted; others are not fetched.

        Returns
        -------
        dict
            The outputs, each float32 of shape (items, ...).

        Raises
        ------
        UsageError
            If the backend is not active or the inputs don't fit the spec.
        BackendError
            If the library fails or returns another shape than promised.
        """
        results, runs = self._plan_runs(inputs, outputs)
        if self.concurrent_runs > 1 and len(runs) > 1:
            return self._submit(results, runs).result()[0]
        for run in runs:
            run()
        return results

    def begin(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> BatchRun:
        """Begin a batch and return while it runs; runs begin in the order in which batches do.

        Parameters
        ----------
        inputs, outputs
            As for `infer`; the inputs must stay as they are until the batch has ended.

        Raises
        ------
        UsageError
            As `infer`. What the library fails at is raised by the batch's `result`.
        """
        return self._submit(*self._plan_runs(inputs, outputs))

    def _plan_runs(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> tuple[dict[str, NDArray[np.float32]], list[Callable[[], float]]]:
        """Return room for the outputs of a batch, and the runs that fill it, each of which returns its seconds."""
        self._check_active()
        items = self._check_inputs(inputs)
        specs = {spec.name: spec for spec in self.spec.outputs}
        unknown = [name for name in outputs if name not in specs]
        if unknown:
            raise UsageError(f"{self.path}: no output {unknown[0]!r}; there are: {', '.join(specs)}")
        picture = _picture_size(self.spec, inputs)
        # What follows from the size of a picture, the graph says: it is one item.
        results = {
            name: np.empty((items, *specs[name].shape_for(picture)), dtype=np.float32)
            for name in outputs
            if specs[name].is_fixed
        }
        size = self.items_per_run

        def run_from(start: int) -> float:
            began = perf_counter()
            used = min(size, items - start)
            run = {name: _padded(tensor[start : start + used], size) for name, tensor in inputs.items()}
            for name, values in zip(outputs, self._run(run, list(outputs)), strict=True):
                spec = specs[name]
                fits = values.shape[:1] == (size,) and spec.admits(values.shape[1:], picture)
                if not fits or values.dtype.name not in _FLOATS:
                    raise BackendError(
                        f"{self.path}: output {name!r} came as {values.dtype} {values.shape}, promised is float "
                        f"{(size, *spec.item_shape)}; export the model again"
                    )
                if spec.is_fixed:
                    results[name][start : start + used] = values[:used]
                else:
                    results[name] = values.astype(np.float32, copy=False)
            return perf_counter() - began

        return results, [partial(run_from, start) for start in range(0, items, size)]

    def _submit(self, results: dict[str, NDArray[np.float32]], runs: list[Callable[[], float]]) -> BatchRun:
        """Let the pool do runs."""
        begun: list[Future[float]] = []
        running = BatchRun(results, begun)
        pool = self._pool
        try:
            if pool is not None:
                with starting_threads():
                    begun.extend(map(pool.submit, runs))
        except UsageError:
            running.cancel()
            raise
        except RuntimeError:  # the pool was shut down between the check of activity and here
            running.cancel()
        if len(begun) < len(runs):
            raise UsageError(f"{self.path}: the backend was deactivated while in use")
        return running

    def layer_tensors(self) -> Mapping[str, tuple[int, ...]]:
        """Return the float tensors inside the graph that `run_layers` can return; none unless a backend has some.

        It needs no activation, and may take long: a backend may have to trace its network first.

        Returns
        -------
        dict
            Name to shape for one item, the first axis included, which is not the batch in every tensor; where pictures
            come at their own size, for some example. The graph's outputs are among them.

        Raises
        ------
        IqaError
            Whatever `activate` may raise.
        """
        return {}

    def run_layers(self, inputs: Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Run one item and return tensors from inside the graph.

        Parameters
        ----------
        inputs
            As in `infer`, of one item.
        names
            Some of `layer_tensors`.

        Returns
        -------
        dict
            The tensors, float32 or float16, each of its shape in `layer_tensors`, or where pictures come at their own
            size of as many axes.

        Raises
        ------
        UsageError
            If the backend is not active, the inputs don't fit or are of several items, or there is no such tensor.
        BackendError
            If the library fails or returns another shape.
        """
        self._check_active()
        shapes = self.layer_tensors()
        unknown = [name for name in names if name not in shapes]
        if unknown:
            raise UsageError(f"{self.path}: the {self.name} backend shows no tensor {unknown[0]!r}; leave it out")
        items = self._check_inputs(inputs)
        if items != 1:
            raise UsageError(f"{self.path}: {items} items; tensors inside a graph are shown of one at a time")
        values = dict(zip(names, self._run_layers(dict(inputs), list(names)), strict=True))
        for name, value in values.items():
            same = value.ndim == len(shapes[name]) if self.spec.has_own_size else value.shape == tuple(shapes[name])
            if not same or value.dtype.name not in _FLOATS:
                raise BackendError(
                    f"{self.path}: tensor {name!r} came as {value.dtype} {value.shape}, promised is float "
                    f"{tuple(shapes[name])}; export the model again, or build the engine again"
                )
        return values

    def _check_active(self) -> None:
        if not self._is_active:
            raise UsageError(f"{self.path}: the {self.name} backend is not active; call activate() first")
        if self._is_parents:
            with self._loading:
                if self._is_parents:
                    self._load()
                    self._is_parents = False

    def _check_inputs(self, inputs: Mapping[str, NDArray[Any]]) -> int:
        """Return the number of items."""
        expected = {spec.name for spec in self.spec.inputs}
        if set(inputs) != expected:
            raise UsageError(f"{self.path}: inputs are {sorted(inputs)}, must be {sorted(expected)}")
        items = len(inputs[self.spec.inputs[0].name])
        size = _picture_size(self.spec, inputs)
        if self.spec.has_own_size and (items != 1 or min(size) < 1):
            raise UsageError(f"{self.path}: {items} items; pictures at their own size are run one at a time")
        for spec in self.spec.inputs:
            tensor = inputs[spec.name]
            if tensor.shape != (items, *spec.shape_for(size)) or tensor.dtype.name != spec.dtype or items == 0:
                raise UsageError(
                    f"{self.path}: input {spec.name!r} is {tensor.dtype} {tensor.shape}, must be {spec.dtype} "
                    f"{(items or 'items', *spec.item_shape)}"
                )
        return items


def _picture_size(spec: GraphSpec, inputs: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
    """Return height and width of what the first input is given; of no use where shapes are fixed."""
    first = inputs[spec.inputs[0].name]
    return (first.shape[-2], first.shape[-1]) if first.ndim > 1 else (0, 0)


def _padded(tensor: NDArray[Any], size: int) -> NDArray[Any]:
    missing = size - len(tensor)
    return tensor if missing == 0 else np.concatenate([tensor, np.repeat(tensor[-1:], missing, axis=0)])
