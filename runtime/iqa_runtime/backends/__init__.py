"""Backends: one file each, imported only when an artefact asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from iqa_runtime.backends.base import Backend, Signature, TensorSpec
from iqa_runtime.errors import UsageError

__all__ = ["Backend", "Signature", "TensorSpec", "backend_class", "backend_names"]


@dataclass(frozen=True, slots=True)
class _Entry:
    module: str
    class_name: str
    suffix: str


# The first backend that reads a suffix is the one chosen when the caller names none.
_BACKENDS = {
    "onnxruntime": _Entry("iqa_runtime.backends.onnx_runtime", "OnnxRuntimeBackend", ".onnx"),
}


def backend_names() -> tuple[str, ...]:
    """Return the names `backend_class` knows."""
    return tuple(_BACKENDS)


def backend_class(artefact: Path, name: str | None = None) -> type[Backend]:
    """Choose the backend of an artefact.

    Parameters
    ----------
    artefact
        Path of the artefact; its suffix tells the format.
    name
        Backend to use; None for the default of the format.

    Raises
    ------
    UsageError
        If there is no such backend, or it does not read this format.
    """
    if name is not None and name not in _BACKENDS:
        raise UsageError(f"there is no backend {name!r}; choose one of: {', '.join(_BACKENDS)}")
    suffix = artefact.suffix.lower()
    reading = [known for known, entry in _BACKENDS.items() if entry.suffix == suffix]
    if not reading:
        suffixes = " or ".join(sorted({entry.suffix for entry in _BACKENDS.values()}))
        raise UsageError(
            f"{artefact}: no backend reads {suffix or 'files without suffix'}; give one ending in {suffixes}"
        )
    if name is not None and name not in reading:
        raise UsageError(f"{artefact}: backend {name!r} does not read {suffix}; choose one of: {', '.join(reading)}")
    entry = _BACKENDS[name or reading[0]]
    backend: type[Backend] = getattr(import_module(entry.module), entry.class_name)
    return backend
