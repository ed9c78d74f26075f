"""TensorRT and TensorRT-RTX: engines on NVIDIA GPUs, through the calls that all their versions since 10.3 share.

Nothing of an engine reaches the library before its digest, and then the host it was built for, have been checked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any, ClassVar

from numpy.typing import NDArray

from iqa_runtime.artefacts.engine_file import EngineFile, check_host
from iqa_runtime.artefacts.graph_file import GraphFile
from iqa_runtime.artefacts.host_key import current_host, import_tensorrt
from iqa_runtime.backends.base import Backend
from iqa_runtime.backends.tensor_spec import GraphSpec
from iqa_runtime.backends.tensorrt_worker import StageTimes, Worker, element_type, said
from iqa_runtime.cuda import Cuda, device_index, open_cuda
from iqa_runtime.errors import ArtefactError, BackendError, UsageError

_WORKERS = 2
"""While one copies, the other computes; more would only take memory, because one run of an engine fills a GPU."""

_KEPT_MESSAGES = 4


class TensorRtBackend(Backend):
    """An engine built by ``iqa-engine``, run in the batch it was optimised for, or one whole picture at a time.

    Two workers share the engine; each has an execution context, a stream, pinned host buffers and, where engine and
    CUDA library allow, a CUDA graph of its own. The copies of one go on while the other computes.

    Parameters
    ----------
    graph
        An engine, with its description.
    spec, threads
        As in `Backend`.
    device
        ``cuda`` or ``cuda:N``.
    cuda
        The GPU; None to open the device by `iqa_runtime.cuda.open_cuda`.

    Raises
    ------
    UsageError
        If there is no such device, or the graph is no engine.
    """

    name: ClassVar[str] = "tensorrt"

    def __init__(
        self,
        graph: GraphFile,
        spec: GraphSpec,
        *,
        device: str,
        threads: int,
        cuda: Cuda | None = None,
    ) -> None:
        super().__init__(graph, spec, device=device, threads=threads)
        self._device_index = device_index(device)
        self._given_cuda = cuda
        if graph.engine is None:
            raise UsageError(f"{graph.path}: TensorRT runs engines; give one, or leave ``backend`` out")
        self._described = graph.engine
        self._items = self._described.batch.opt
        self._layer_tensors = self._described.layer_tensors
        # All that is inside takes memory of its own, and nobody times such an engine.
        self._workers = 1 if self._layer_tensors else _WORKERS
        self._ready: _Ready | None = None
        self._provider = "GPU"

    @property
    def items_per_run(self) -> int:
        """The batch the engine was optimised for."""
        return self._items

    @property
    def concurrent_runs(self) -> int:
        """Two: one copies while the other computes; one where an engine shows its layers."""
        return self._workers

    @property
    def provider(self) -> str:
        """Once active: the GPU, the library, and whether CUDA graphs are used."""
        return self._provider

    def layer_tensors(self) -> Mapping[str, tuple[int, ...]]:
        """Return the tensors that were marked when the engine was built; such an engine takes one item at a time."""
        return self._layer_tensors

    def stage_times(self, inputs: Mapping[str, NDArray[Any]]) -> StageTimes:
        """Run `items_per_run` items once and return where the time went.

        Parameters
        ----------
        inputs
            As in `infer`, but exactly `items_per_run` items.

        Raises
        ------
        UsageError
            If the backend is not active or the inputs don't fit.
        BackendError
            If the library fails.
        """
        if self._check_inputs(inputs) != self.items_per_run:
            raise UsageError(f"{self.path}: give {self.items_per_run} items, those of one run")
        self._check_size(inputs)
        with self._worker() as worker:
            return worker.run_timed(inputs)

    def _load(self) -> None:
        described = self._described
        check_host(self.path, described, current_host(described.host.library, ordinal=self._device_index))
        if described.stripped:
            raise ArtefactError(
                f"{self.path}: its weights were left out when it was built; put back those of the ONNX file it "
                f"was built from: {described.refit_command(self.path)}; or build it with its weights"
            )
        library = import_tensorrt(described.host.library)
        cuda = self._given_cuda or open_cuda(self.device)
        messages: deque[str] = deque(maxlen=_KEPT_MESSAGES)
        # Frees what there is if something fails; if nothing does, _release will.
        with cuda.active(), ExitStack() as freeing:
            engine = self._deserialise(library, described, messages)
            _check_tensors(self.path, self.spec, engine, self._items)
            _check_layers(self.path, self._layer_tensors, engine)
            workers: SimpleQueue[Worker | None] = SimpleQueue()
            for _ in range(self._workers):
                worker = Worker(self.path, self.spec, self._items, described.sizes, engine, cuda, messages)
                freeing.callback(worker.close)
                worker.open()
                workers.put(worker)
            self._ready = _Ready(cuda, workers, freeing.pop_all())
        graphs = "CUDA graphs" if worker.has_graph else "no CUDA graphs"
        self._provider = f"{cuda.device_name}, {library.__name__} {library.__version__}, {cuda.library}, {graphs}"

    def _deserialise(self, library: ModuleType, described: EngineFile, messages: deque[str]) -> Any:
        version = f"{library.__name__} {library.__version__}"
        try:
            runtime = library.Runtime(_collecting_logger(library, messages))
        except TypeError as error:  # the binding's word for a null pointer, which is what it gets without a GPU
            raise BackendError(
                f"``device={self.device}``: {version} finds no usable GPU{said(messages)}; check nvidia-smi, and that "
                "the driver is new enough"
            ) from error
        # Only where needed, because such an engine brings code for the CPU along.
        runtime.engine_host_code_allowed = described.version_compatible
        engine = runtime.deserialize_cuda_engine(self.graph.take())
        if engine is None:
            # It builds without a GPU, and so for those that it does not run on.
            rtx = described.host.library == "tensorrt_rtx"
            reason = "; it may not support the compute capability of this GPU" if rtx else ""
            raise BackendError(
                f"{self.path}: {version} cannot load the engine{said(messages)}{reason}; free memory on the GPU, "
                f"or rebuild it: {described.rebuild_command}"
            )
        return engine

    def _run(self, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        self._check_size(inputs)
        with self._worker() as worker:
            return worker.run(inputs, outputs)

    def _check_size(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        sizes = self._described.sizes
        if sizes is None:
            return
        height, width = next(iter(inputs.values())).shape[-2:]
        if not sizes.takes(height, width):
            raise BackendError(
                f"{self.path}: a picture of {width} x {height} pixels, as the network takes it; the engine was built "
                f"for {sizes}: give another ``resize``, or build it for more: {self._described.rebuild_command}"
            )

    @contextmanager
    def _worker(self) -> Iterator[Worker]:
        """Borrow a worker, the GPU current."""
        ready = self._ready
        worker = None if ready is None else ready.workers.get()
        if ready is None or worker is None:
            if ready is not None:
                ready.workers.put(None)  # wakes the next one who waits
            raise UsageError(f"{self.path}: the backend was deactivated while in use")
        try:
            with ready.cuda.active():
                yield worker
        finally:
            ready.workers.put(worker)

    def _release(self) -> None:
        ready, self._ready = self._ready, None
        if ready is None:
            return
        for _ in range(self._workers):  # runs under way are waited for
            ready.workers.get()
        ready.workers.put(None)
        with ready.cuda.active():
            ready.freeing.close()


@dataclass(frozen=True, slots=True)
class _Ready:
    """What an active backend has: the GPU, its idle workers (None once it is deactivated), and what frees it all."""

    cuda: Cuda
    workers: SimpleQueue[Worker | None]
    freeing: ExitStack


def _collecting_logger(library: ModuleType, messages: deque[str]) -> Any:
    """Make a logger that keeps the last errors for our own messages; the library's own writes to the terminal."""

    class Logger(library.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            library.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if severity in (library.ILogger.ERROR, library.ILogger.INTERNAL_ERROR):
                messages.append(" ".join(msg.split()))

    return Logger()


def _check_tensors(path: Path, promised: GraphSpec, engine: Any, items: int) -> None:
    """Compare the engine's inputs and outputs with what was promised."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = {name for name in names if engine.get_tensor_mode(name).name == "INPUT"}
    wanted = {spec.name for spec in promised.inputs}
    missing = {spec.name for spec in promised.outputs} - set(names)
    if inputs != wanted or missing:
        raise ArtefactError(
            f"{path}: the engine has inputs {sorted(inputs)} and outputs {sorted(set(names) - inputs)}, its contract "
            f"says {sorted(wanted)} and {sorted(spec.name for spec in promised.outputs)}; build it again"
        )
    for spec in (*promised.inputs, *promised.outputs):
        batch, *sizes = engine.get_tensor_shape(spec.name) or (0,)
        dtype = element_type(engine, spec.name)
        # Outputs may leave sizes open; the worker sees them once the inputs are set.
        fits = len(sizes) == len(spec.item_shape) and all(
            size == expected or (size == -1 and (isinstance(expected, str) or spec.name not in wanted))
            for size, expected in zip(sizes, spec.item_shape, strict=True)
        )
        if not fits or batch not in (-1, items) or dtype is None or spec.dtype not in (None, dtype):
            raise ArtefactError(
                f"{path}: tensor {spec.name!r} of the engine is {dtype or 'of another type'} {[batch, *sizes]}, its "
                f"contract says {spec.dtype or 'float'} {['batch', *spec.item_shape]}; build it again"
            )


def _check_layers(path: Path, promised: Iterable[str], engine: Any) -> None:
    """Compare the tensors that the engine shows with those of its description."""
    shown = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
    missing = [name for name in promised if name not in shown or element_type(engine, name) is None]
    if missing:
        raise ArtefactError(
            f"{path}: the engine shows no float tensor {missing[0]!r}, though its description says so; build it again"
        )
