"""OpenVINO: on x86 the quickest backend for 8-bit graphs, and the only one that computes float graphs in bfloat16.

The library's own defaults would change scores: on processors that can, it computes float32 graphs in bfloat16. Here a
graph is computed in its own precision unless bfloat16 is asked for.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.artefacts.graph_file import GraphFile
from iqa_runtime.backends.base import Backend
from iqa_runtime.backends.openvino_rewrites import sidestep_errors
from iqa_runtime.backends.tensor_spec import GraphSpec, TensorSpec
from iqa_runtime.errors import ArtefactError, BackendError, DependencyError, UsageError

_TELEMETRY = "openvino_telemetry"
_HINTS = {"float32": "f32", "bfloat16": "bf16"}
_ELEMENT_TYPES = {"f32": "float32", "f16": "float16"}
_FIRST_TENSOR = Lock()
_SETTINGS = {
    # The plugin's fusion of operators into snippets has crashed the process while compiling attention (2026.4).
    "SNIPPETS_MODE": "DISABLE",
    # Pinned threads of two processes, or of two artefacts in one, meet on the same cores.
    "ENABLE_CPU_PINNING": False,
    # Activations in front of weights stored as int8 would be rounded to int8 too, which no gate has seen.
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}


class OpenVinoBackend(Backend):
    """An ONNX graph compiled by OpenVINO's CPU plugin.

    The graph is compiled for one item, of pictures at their own size for any height and width, and each thread has a
    stream of its own that computes one item at a time on one thread, so neither the batch nor the number of threads can
    change a sum's order. Streams beyond the processors of the host wait for one another.

    Parameters
    ----------
    graph, spec, threads
        As in `Backend`.
    device
        ``cpu``.
    precision
        What operators on floats compute in: ``float32`` or ``bfloat16``. Integer operators of an 8-bit graph stay as
        they are; a float16 graph is computed in float32.

    Raises
    ------
    UsageError
        If there is no such device or precision.
    """

    name: ClassVar[str] = "openvino"

    def __init__(
        self, graph: GraphFile, spec: GraphSpec, *, device: str, threads: int, precision: str = "float32"
    ) -> None:
        super().__init__(graph, spec, device=device, threads=threads)
        if device != "cpu":
            raise UsageError(f"``device={device}``: OpenVINO runs on cpu here; leave it out, or ``backend``")
        if precision not in _HINTS:
            raise UsageError(f"``precision={precision}``: OpenVINO computes in {' or '.join(_HINTS)}")
        self.precision = precision
        self._requests: SimpleQueue[Any] | None = None

    @property
    def items_per_run(self) -> int:
        """One."""
        return 1

    @property
    def concurrent_runs(self) -> int:
        """One a thread."""
        return self.threads

    @property
    def provider(self) -> str:
        """The device, and what operators on floats compute in."""
        return f"CPU ({self.precision})"

    def _load(self) -> None:
        openvino = _import_openvino()
        _make_first_tensor(openvino)
        core = openvino.Core()
        model = self._read(core)
        _check_ports(openvino, self.path, "input", self.spec.inputs, model.inputs, exact=True)
        _check_ports(openvino, self.path, "output", self.spec.outputs, model.outputs, exact=False)
        self._check_precision(core)
        settings = {
            **_SETTINGS,
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": self.threads,
        }
        try:
            model.reshape({spec.name: [1, *_sizes(spec)] for spec in self.spec.inputs})
            sidestep_errors(openvino, model)
            compiled = core.compile_model(model, "CPU", settings)
            requests: SimpleQueue[Any] = SimpleQueue()
            for _ in range(self.threads):
                requests.put(compiled.create_infer_request())
        except Exception as error:  # the library raises plain RuntimeErrors, and others where it converts arguments
            raise ArtefactError(f"{self.path}: OpenVINO cannot compile it ({_reason(error)})") from error
        self._requests = requests

    def _read(self, core: Any) -> Any:
        content = self.graph.take()
        try:
            return core.read_model(content, b"")
        except Exception as error:  # as above
            raise ArtefactError(f"{self.path}: OpenVINO cannot load it ({_reason(error)})") from error

    def _check_precision(self, core: Any) -> None:
        # Asked for bfloat16 elsewhere, the library computes in float32 without a word.
        if self.precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise BackendError(
                f"{self.path}: this processor has no bfloat16 arithmetic; run the artefact with ``precision=float32``"
            )

    def _run(self, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        requests = self._requests
        if requests is None:
            raise UsageError(f"{self.path}: the backend was deactivated while in use")
        request = requests.get()
        try:
            request.infer(inputs, share_inputs=True, share_outputs=True)
            # Copies, because the next run of this request overwrites what it hands out.
            return [np.array(request.get_tensor(name).data) for name in outputs]
        except Exception as error:  # as above
            raise BackendError(f"{self.path}: OpenVINO failed ({_reason(error)})") from error
        finally:
            requests.put(request)

    def _release(self) -> None:
        self._requests = None


def _import_openvino() -> ModuleType:
    try:
        with _without_telemetry():
            openvino = import_module("openvino")
    except ModuleNotFoundError as error:
        if error.name != "openvino":
            raise DependencyError(f"openvino cannot be imported ({_reason(error)}); reinstall it") from error
        raise DependencyError('OpenVINO is not installed; pip install "iqa-deploy[openvino]"') from error
    except Exception as error:  # half an installation may fail in any way
        raise DependencyError(f"openvino cannot be imported ({_reason(error)}); reinstall it") from error
    if not hasattr(openvino, "Core"):
        raise DependencyError("openvino is installed in part only; reinstall it")
    return openvino


def _make_first_tensor(openvino: ModuleType) -> None:
    """Make a tensor of an array in one thread alone, before several do.

    The first one in a process initialises a static variable of the binding, which imports from NumPy and so lets other
    threads run. One of them that makes a tensor too waits for the variable and keeps the interpreter locked, which the
    first waits for: both hang for ever (2026.4).
    """
    with _FIRST_TENSOR:
        openvino.Tensor(np.zeros(1, np.float32), shared_memory=True)


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Let OpenVINO's telemetry look uninstalled, which OpenVINO provides for.

    Otherwise the mere import reports to its makers over the network, in a thread, and leaves an identifier in the home
    folder. A program that has imported either package before has made its own choice.
    """
    modules: dict[str, Any] = sys.modules
    if "openvino" in modules or _TELEMETRY in modules:
        yield
        return
    modules[_TELEMETRY] = None
    try:
        yield
    finally:
        modules.pop(_TELEMETRY, None)


def _check_ports(
    openvino: ModuleType, path: Path, kind: str, specs: Sequence[TensorSpec], ports: Sequence[Any], *, exact: bool
) -> None:
    """Compare the graph's inputs or outputs with the spec."""
    found = {name: port for port in ports for name in port.names}
    names = [spec.name for spec in specs]
    if set(names) - set(found) or (exact and set(found) - set(names)):
        raise ArtefactError(
            f"{path}: the graph has {kind}s {sorted(found)}, its contract says {sorted(names)}; export the model again"
        )
    for spec in specs:
        shape = found[spec.name].partial_shape
        dtype = _ELEMENT_TYPES.get(found[spec.name].element_type.to_string())
        wanted = openvino.PartialShape([-1, *_sizes(spec)])
        # Outputs may leave sizes open.
        fits = shape == wanted if exact else shape.compatible(wanted)
        has_batch = shape.rank.is_dynamic or shape[0].is_dynamic
        if not fits or not has_batch or dtype is None or spec.dtype not in (None, dtype):
            raise ArtefactError(
                f"{path}: {kind} {spec.name!r} of the graph is {found[spec.name].element_type.to_string()} {shape}, "
                f"its contract says {spec.dtype or 'float'} {['batch', *spec.item_shape]}; export the model again"
            )


def _sizes(spec: TensorSpec) -> list[int]:
    """Return the shape of an item in OpenVINO's words, where -1 stands for any size."""
    return [size if isinstance(size, int) else -1 for size in spec.item_shape]


def _reason(error: BaseException) -> str:
    """Return what OpenVINO says in one line, without the places in its sources that come first."""
    text = re.sub(r"(Exception from|Check '[^']*' failed at) \S+:\d+:", "", str(error))
    return " ".join(text.split()) or type(error).__name__
