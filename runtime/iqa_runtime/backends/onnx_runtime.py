"""ONNX Runtime: the default backend, on the CPU or through CUDA."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from numpy.typing import NDArray

from iqa_runtime.artefacts.graph_file import GraphFile
from iqa_runtime.backends.base import Backend
from iqa_runtime.backends.tensor_spec import GraphSpec, TensorSpec
from iqa_runtime.errors import ArtefactError, BackendError, DependencyError, UsageError, one_line

_GPU_CROPS_PER_RUN = 8
_LOG_ERRORS = 3
_NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
_ELEMENT_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_REINSTALL = (
    "onnxruntime and onnxruntime-gpu overwrite each other: uninstall both, then install one, "
    'pip install "iqa-deploy[cpu]" or "iqa-deploy[gpu]"'
)


class OnnxRuntimeBackend(Backend):
    """An ONNX graph in an ONNX Runtime session.

    On the CPU every run is one item on one thread, and as many runs go on at once as there are threads: ONNX Runtime
    adds up in another order for another batch or number of threads, and for several items this is as fast as sharing
    one (the activations of each run take memory, though). On a GPU a run is as many items as make up eight crops. A
    whole picture at its own size is a run everywhere.

    Parameters
    ----------
    graph, spec, threads
        As in `Backend`.
    device
        ``cpu``, ``cuda`` or ``cuda:N``.
    """

    name: ClassVar[str] = "onnxruntime"

    def __init__(self, graph: GraphFile, spec: GraphSpec, *, device: str, threads: int) -> None:
        super().__init__(graph, spec, device=device, threads=threads)
        self._provider, self._provider_options = _provider_of(device)
        self._session: Any = None

    @property
    def items_per_run(self) -> int:
        """One on the CPU; on a GPU as many items as make up eight crops."""
        if self._provider == _CPU or self.spec.has_own_size:
            return 1
        shape = self.spec.inputs[0].item_shape
        return max(1, _GPU_CROPS_PER_RUN // (int(shape[0]) if len(shape) == 4 else 1))

    @property
    def provider(self) -> str:
        """Name of the execution provider."""
        return self._provider

    @property
    def concurrent_runs(self) -> int:
        """On the CPU one a thread; one on a GPU, which a single run keeps busy."""
        return self.threads if self._provider == _CPU else 1

    @property
    def survives_fork(self) -> bool:
        """On the CPU, where a session has no threads: the weights stay shared between parent and children."""
        return self._provider == _CPU

    def _load(self) -> None:
        onnxruntime = import_onnxruntime()
        if self._provider not in onnxruntime.get_available_providers():
            raise BackendError(
                f"``device={self.device}``: the installed ONNX Runtime has no {self._provider}; "
                f'pip install "iqa-deploy[gpu]" (and if that is done: {_REINSTALL})'
            )
        missing = _preload(onnxruntime) if self._provider == _CUDA else ""
        options = session_options(onnxruntime, own_size=self.spec.has_own_size)
        content = self.graph.take()
        try:
            # Fallback off, because it prints to stdout and then runs on something that was not asked for.
            session = onnxruntime.InferenceSession(
                content, options, providers=[(self._provider, self._provider_options)], enable_fallback=0
            )
        except Exception as error:  # the library's exceptions have no public common base
            raise ArtefactError(f"{self.path}: ONNX Runtime cannot load it ({one_line(error)}){missing}") from error
        got = session.get_providers()
        if got[0] != self._provider:
            # Only builds with CUDA say for which.
            cuda = f"CUDA {onnxruntime.cuda_version}" if getattr(onnxruntime, "cuda_version", "") else "CUDA"
            raise BackendError(
                f"``device={self.device}``: ONNX Runtime fell back to {got[0]}{missing}; check the GPU with "
                f"nvidia-smi; onnxruntime-gpu {onnxruntime.__version__} needs the libraries of {cuda} and cuDNN 9: "
                'pip install "onnxruntime-gpu[cuda,cudnn]"'
            )
        _check_tensors(self.path, "input", self.spec.inputs, session.get_inputs(), exact=True)
        _check_tensors(self.path, "output", self.spec.outputs, session.get_outputs(), exact=False)
        self._session = session

    def _run(self, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        session = self._session
        if session is None:
            raise UsageError(f"{self.path}: the backend was deactivated while in use")
        try:
            values: list[NDArray[Any]] = session.run(outputs, inputs)
        except Exception as error:  # the library's exceptions have no public common base
            raise BackendError(f"{self.path}: ONNX Runtime failed ({one_line(error)})") from error
        return values

    def _release(self) -> None:
        self._session = None


def session_options(onnxruntime: ModuleType, *, own_size: bool = False) -> Any:
    """Return the options of every session, whether it scores or only shows what would.

    The graph optimisation level is the library's default, at which parity was tested at export. One thread, because
    sums split over several are added up in another order.

    Parameters
    ----------
    onnxruntime
        The library.
    own_size
        Whether every run may have another shape.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = _LOG_ERRORS
    # It keeps a plan of its memory for every shape it has met, and takes it in one piece: over 300 sizes half as much
    # again as without.
    options.enable_mem_pattern = not own_size
    return options


def _provider_of(device: str) -> tuple[str, dict[str, str]]:
    """Return the execution provider of a device and its options."""
    if device == "cpu":
        return _CPU, {}
    match = re.fullmatch(r"cuda(?::([0-9]{1,3}))?", device)
    if match is None:
        raise UsageError(f"``device={device}``: ONNX Runtime runs on cpu, cuda or cuda:N")
    # The search among convolution algorithms goes by measured time, so its choice, and the bits, would change from run
    # to run; TF32 keeps 10 bits of mantissa, too few for parity with float32.
    return _CUDA, {"device_id": match[1] or "0", "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}


def _preload(onnxruntime: ModuleType) -> str:
    """Load the CUDA libraries that came as Python packages, which no loader finds by itself; return what failed."""
    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is None:
        return ""
    # It prints what it misses, where rows may go; whether that matters, the session shows.
    with redirect_stdout(io.StringIO()) as printed:
        preload()
    said = " ".join(printed.getvalue().split())
    return f" ({said})" if said else ""


def import_onnxruntime() -> ModuleType:
    """Import the library, without its telemetry if it has not been imported before.

    Raises
    ------
    DependencyError
        If it is not installed, or not as a whole.
    """
    try:
        with _without_telemetry():
            import onnxruntime
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise DependencyError(f"onnxruntime cannot be imported ({one_line(error)}); {_REINSTALL}") from error
        raise DependencyError('ONNX Runtime is not installed; pip install "iqa-deploy[cpu]"') from error
    except Exception as error:  # half an installation may fail in any way
        raise DependencyError(f"onnxruntime cannot be imported ({one_line(error)}); {_REINSTALL}") from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise DependencyError(f"onnxruntime is installed in part only; {_REINSTALL}")
    module: ModuleType = onnxruntime
    return module


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Let ONNX Runtime have no telemetry, by its own switch, which it looks at when it is imported.

    Since 1.29 it otherwise reports to its makers over the network, in a thread, and leaves an identifier in the home
    folder; and a forked child waits for that thread, which it has not, when it ends. A program that has set the
    switch, or imported the library before, has made its own choice.
    """
    if "onnxruntime" in sys.modules or _NO_TELEMETRY in os.environ:
        yield
        return
    os.environ[_NO_TELEMETRY] = "1"
    try:
        yield
    finally:
        os.environ.pop(_NO_TELEMETRY, None)


def _check_tensors(path: Path, kind: str, specs: Sequence[TensorSpec], found: Sequence[Any], *, exact: bool) -> None:
    """Compare the graph's tensors with the spec."""
    tensors = {tensor.name: tensor for tensor in found}
    names = [spec.name for spec in specs]
    if set(names) - set(tensors) or (exact and set(tensors) - set(names)):
        raise ArtefactError(
            f"{path}: the graph has {kind}s {sorted(tensors)}, its contract says {sorted(names)}; "
            "export the model again"
        )
    for spec in specs:
        tensor = tensors[spec.name]
        dtype = _ELEMENT_TYPES.get(tensor.type)
        batch, *sizes = tensor.shape or [1]
        # A size is a number, or a name (or None) where the graph leaves it open; outputs may leave sizes open.
        fits = len(sizes) == len(spec.item_shape) and all(
            not isinstance(size, int)
            if isinstance(wanted, str)
            else size == wanted or not (exact or isinstance(size, int))
            for size, wanted in zip(sizes, spec.item_shape, strict=True)
        )
        if not fits or isinstance(batch, int) or dtype is None or spec.dtype not in (None, dtype):
            raise ArtefactError(
                f"{path}: {kind} {spec.name!r} of the graph is {tensor.type} {tensor.shape}, its contract says "
                f"{spec.dtype or 'float'} {['batch', *spec.item_shape]}; export the model again"
            )
