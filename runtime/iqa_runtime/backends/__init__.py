"""Backends: one file each, imported only when an artefact asks for it.

Other packages add theirs by an entry point of the group ``iqa_deploy.backends`` that names a subclass of `Backend` for
ONNX artefacts; such a one runs only what asks for it by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, TypeGuard

from iqa_runtime.arguments import check_type
from iqa_runtime.artefacts.graph_file import GraphFile
from iqa_runtime.artefacts.opening import Artefact
from iqa_runtime.backends.base import Backend
from iqa_runtime.backends.tensor_spec import GraphSpec, TensorSpec
from iqa_runtime.errors import DependencyError, UsageError

__all__ = ["BACKEND_PACKAGES", "Backend", "Choice", "GraphSpec", "TensorSpec", "choose_backend"]

ENTRY_POINT_GROUP = "iqa_deploy.backends"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A backend.

    Attributes
    ----------
    module, class_name
        Where its class is; the class's `name` is the key of this entry.
    library
        The Python module it needs, to tell whether it is installed.
    packages
        The distributions that bring that module.
    reads_engines
        Whether it reads engines; ONNX files if not.
    devices
        What it runs on, the first by default: the part of a device before a colon.
    precisions
        What it can compute operators on floats in.
    targets
        Those of contracts whose artefacts were made and judged for it; ``any`` is that of float32.
    """

    module: str
    class_name: str
    library: str
    packages: tuple[str, ...]
    reads_engines: bool
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    targets: tuple[str, ...]


# In the order in which `choose_backend` prefers them.
_BACKENDS = {
    "onnxruntime": _Entry(
        module="iqa_runtime.backends.onnx_runtime",
        class_name="OnnxRuntimeBackend",
        library="onnxruntime",
        packages=("onnxruntime", "onnxruntime-gpu"),
        reads_engines=False,
        devices=("cpu", "cuda"),
        precisions=("float32",),
        targets=("any", "onnxruntime"),
    ),
    "openvino": _Entry(
        module="iqa_runtime.backends.openvino",
        class_name="OpenVinoBackend",
        library="openvino",
        packages=("openvino",),
        reads_engines=False,
        devices=("cpu",),
        precisions=("float32", "bfloat16"),
        targets=("any", "openvino", "tensorrt"),
    ),
    "tensorrt": _Entry(
        module="iqa_runtime.backends.tensorrt",
        class_name="TensorRtBackend",
        library="tensorrt",
        packages=("tensorrt", "tensorrt-rtx"),
        reads_engines=True,
        devices=("cuda",),
        precisions=("float32",),
        targets=("any", "tensorrt"),
    ),
}


BACKEND_PACKAGES = tuple(package for entry in _BACKENDS.values() for package in entry.packages)
"""Distributions that bring the libraries of our backends."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What runs an artefact.

    Attributes
    ----------
    backend
        Its class.
    precision
        What operators on floats compute in: ``float32`` or ``bfloat16``.
    device
        Where it runs, in the backend's words.
    complaint
        What the user should hear about this choice; None if it is how the artefact was made to run.
    """

    backend: type[Backend]
    precision: str
    device: str
    complaint: str | None

    def create(self, graph: GraphFile, spec: GraphSpec, *, threads: int) -> Backend:
        """Make a backend, not yet active, for a graph of the artefact; raises what its constructor does."""
        # Backends that compute in float32 alone take no precision.
        options: dict[str, Any] = {} if self.precision == "float32" else {"precision": self.precision}
        return self.backend(graph, spec, device=self.device, threads=threads, **options)


def choose_backend(
    artefact: Artefact,
    backend: str | type[Backend] | None = None,
    *,
    device: str | None = None,
    precision: str | None = None,
) -> Choice:
    """Choose what runs an artefact, and in which precision.

    With no backend it is the first in this order of those that read the format, have the device and compute in the
    precision:

    1. installed, and made for the contract's target;
    2. installed;
    3. not installed: opening it tells what to install.

    Within each, ONNX Runtime comes before OpenVINO: parity was tested with it at export, and the score of an artefact
    for any target keeps its bits when OpenVINO is installed later.

    Parameters
    ----------
    artefact
        What is to run.
    backend
        Name of the backend to use, or its class; None to choose by the rule above.
    device
        Where it will run; the part before a colon counts. None for the backend's first: ``cpu``, and ``cuda`` for
        engines.
    precision
        What operators on floats shall compute in, ``float32`` or ``bfloat16``; None for what the artefact was judged
        in, which is bfloat16 for those exported as bf16 for OpenVINO, and else float32.

    Raises
    ------
    UsageError
        If there is no such backend, it does not read this format or does not compute in the precision.
    DependencyError
        If another package's backend cannot be imported.
    """
    if not _is_backend(backend):
        check_type("backend", backend, "the name of a backend, or a subclass of Backend", str)
    check_type("device", device, "text, such as cpu or cuda:0", str)
    check_type("precision", precision, "float32 or bfloat16", str)
    contract = artefact.contract
    given = _given(artefact, backend)
    if given is not None:
        if precision not in (None, "float32"):
            raise UsageError(
                f"``precision={precision}``: backend {given.name!r} does not compute in it; choose float32"
            )
        return Choice(given, "float32", device or "cpu", None)
    name = backend if isinstance(backend, str) else None
    reading = _reading(artefact, name)
    judged = "bfloat16" if (contract.precision, contract.target) == ("bf16", "openvino") else "float32"
    computed = precision or judged
    able = [known for known in reading if computed in _BACKENDS[known].precisions]
    if not able:
        whom = f"backend {name!r}" if name else f"a backend that reads {_format(artefact)}"
        raise UsageError(
            f"``precision={computed}``: {whom} does not compute in it; choose float32, or bfloat16 with openvino"
        )
    chosen = name or _default(able, contract.target, device)
    complaint = None
    if contract.target not in _BACKENDS[chosen].targets:
        complaint = f"the artefact was made for {contract.target} and runs on {chosen}: it may be slow, and its score"
    elif computed != judged:
        complaint = f"the artefact was judged in {judged} and runs in {computed}: its score"
    if complaint:
        complaint += " is not quite the one that was tested"
    device = _BACKENDS[chosen].devices[0] if device is None else device
    entry = _BACKENDS[chosen]
    return Choice(getattr(import_module(entry.module), entry.class_name), computed, device, complaint)


def _is_backend(value: object) -> TypeGuard[type[Backend]]:
    return isinstance(value, type) and issubclass(value, Backend)


def _given(artefact: Artefact, backend: str | type[Backend] | None) -> type[Backend] | None:
    """Return the class of a backend that is none of ours: given as such, or by the name of an entry point."""
    if _is_backend(backend):
        return backend
    if backend is None or backend in _BACKENDS:
        return None
    added = next(iter(entry_points(group=ENTRY_POINT_GROUP, name=str(backend))), None)
    if added is None:
        return None
    if artefact.engine is not None:
        raise UsageError(f"{artefact.path}: backend {added.name!r} reads ONNX files, no engines; give one")
    try:
        loaded = added.load()
    except ImportError as error:
        raise DependencyError(f"backend {added.name!r} ({added.value}): {error}; install what it needs") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # another package's code may raise anything, sys.exit() among it
        reason = " ".join(str(error).split()) or "it says nothing more"
        raise DependencyError(
            f"backend {added.name!r} ({added.value}): {type(error).__name__}: {reason}; mend its package"
        ) from error
    if _is_backend(loaded):
        return loaded
    raise DependencyError(f"backend {added.name!r} ({added.value}) is no subclass of Backend; mend its package")


def _reading(artefact: Artefact, name: str | None) -> list[str]:
    """Return the backends that read an artefact's format, in order; only the named one if there is a name."""
    if name is not None and name not in _BACKENDS:
        names = [*_BACKENDS, *sorted(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP))]
        raise UsageError(f"``backend={name}``: no backend {name!r}; choose one of: {', '.join(names)}")
    is_engine = artefact.engine is not None
    reading = [known for known, entry in _BACKENDS.items() if entry.reads_engines == is_engine]
    if name is not None and name not in reading:
        raise UsageError(
            f"{artefact.path}: backend {name!r} does not read {_format(artefact)}; choose one of: {', '.join(reading)}"
        )
    return reading if name is None else [name]


def _format(artefact: Artefact) -> str:
    return "ONNX files" if artefact.engine is None else "engines"


def _default(names: list[str], target: str, device: str | None) -> str:
    """Return the best of several backends that could run an artefact."""
    kind = _BACKENDS[names[0]].devices[0] if device is None else device.partition(":")[0]
    # Of a device that none has, the first one says so.
    running = [name for name in names if kind in _BACKENDS[name].devices] or names
    installed = [name for name in running if _is_installed(_BACKENDS[name].library)]
    fitting = [name for name in running if target in _BACKENDS[name].targets]
    return ([name for name in installed if name in fitting] + installed + fitting + running)[0]


def _is_installed(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except ValueError:  # imported, and by something that gave it no spec
        return True
