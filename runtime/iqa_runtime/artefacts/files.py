"""The files of an artefact: what they are called, and how they are read."""

from __future__ import annotations

from pathlib import Path

from iqa_runtime.errors import FileError

PLAN_SUFFIX = ".plan"
"""How the name of an engine ends: a plan of TensorRT."""

REFERENCE_ENCODER_SUFFIX = ".reference.onnx"
"""How the name of a reference encoder ends: ``x.reference.onnx`` belongs to ``x.onnx`` and carries no contract."""

PLAN_ENCODER_SUFFIX = ".reference" + PLAN_SUFFIX
"""The same of an engine: ``x.reference.plan`` belongs to ``x.plan``."""


def is_engine(path: Path) -> bool:
    """Tell an engine from an ONNX file."""
    return path.suffix.lower() == PLAN_SUFFIX


def description_path(plan: Path) -> Path:
    """Return where the description of an engine lies: ``x.plan.json`` beside ``x.plan``."""
    return plan.with_name(plan.name + ".json")


def signature_path(description: Path) -> Path:
    """Return where the signature of a description lies."""
    return description.with_name(description.name + ".sig")


def encoder_plan(plan: Path) -> Path:
    """Return where the reference encoder of an engine lies."""
    return plan.with_name(plan.stem + PLAN_ENCODER_SUFFIX)


def scorer_name(encoder: str) -> str:
    """Return the name of the file that a reference encoder belongs to; any other name is returned as it is."""
    for ending, suffix in ((REFERENCE_ENCODER_SUFFIX, ".onnx"), (PLAN_ENCODER_SUFFIX, PLAN_SUFFIX)):
        if encoder.endswith(ending):
            return encoder.removesuffix(ending) + suffix
    return encoder


def read_file(path: Path, what: str, remedy: str = "check the path") -> bytes:
    """Read a file of an artefact.

    Parameters
    ----------
    path
        Where it lies.
    what, remedy
        What it is to the artefact, and what to do if it cannot be read; for the message.

    Raises
    ------
    FileError
        If it cannot be read.
    """
    try:
        # A pipe without a writer would be waited for, and a device may have no end.
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "a pipe or a device"
            raise FileError(f"{path}: cannot read {what} (it is {kind}); give a file")
        return path.read_bytes()
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: cannot read {what} ({error.strerror}); {remedy}") from error
