"""Look at an artefact: list its contract, test whether it runs here."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from iqa_runtime import __version__
from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.artefacts.opening import open_artefact
from iqa_runtime.backends import BACKEND_PACKAGES, choose_backend
from iqa_runtime.contract import Contract
from iqa_runtime.errors import IqaError
from iqa_runtime.scoring.patch_plans import example_size

_EXCLUSIVE = {"onnxruntime", "onnxruntime-gpu"}
_TIMED_RUNS = 3

_CRASHED_BEFORE = {"openvino"}
"""Backends whose library has been seen to end the whole process while it compiled a graph."""

_OPEN = "import json, sys; from iqa_runtime import Scorer; Scorer(sys.argv[1], **json.loads(sys.argv[2])).close()"
_OPEN_SECONDS = 600
"""Far more than any artefact has needed (seconds), so that a check ends even where a library hangs."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: its name, whether it is as it should be, and what was found or what to do."""

    name: str
    passed: bool
    detail: str


def describe(record: Any) -> dict[str, str]:
    """Return the fields of a contract or the like by dotted name, in order, without the empty ones."""
    return dict(_leaves("", msgspec.to_builtins(record)))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    nested: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        nested = value.items()
    elif isinstance(value, (list, tuple)) and any(isinstance(item, dict) for item in value):
        nested = [(str(index), item) for index, item in enumerate(value)]
    for key, item in nested:
        yield from _leaves(f"{name}.{key}" if name else key, item)
    if not nested and value not in (None, {}, [], ()):
        yield name, ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def check_installation(
    artefact: str | Path, *, trust: str | os.PathLike[str] | None = None, **options: Any
) -> Iterator[Check]:
    """Test an installation with an artefact, step by step; an error is the last step.

    Versions, the instruction set of the kernels, the backend and its provider; then a synthetic image is scored as an
    array and as PNG bytes, and the two scores must have the same bits. A backend that might crash while it compiles the
    graph does so in a process of its own first.

    Parameters
    ----------
    artefact
        Path of the artefact, or the name of a bundled one.
    trust, options
        As in `iqa_runtime.Scorer`; of the options those that have a text or a number, or are None.

    Yields
    ------
    Check
        As soon as it is known.
    """
    options["trust"] = None if trust is None else os.fspath(trust)
    steps = _steps(find_artefact(artefact), {name: value for name, value in options.items() if value is not None})
    try:
        yield from steps
    except (IqaError, ImportError) as error:
        yield Check("error", False, str(error))


def _jpeg_decoding() -> str:
    """Return how those of a picture that is not resized are decoded."""
    from iqa_runtime.images.jpeg import jpeg_bands_are_available

    if not jpeg_bands_are_available():
        return (
            "whole pictures are decoded; reinstall where libjpeg-turbo's headers are to decode only the rows of crops"
        )
    from iqa_runtime import _jpeg_bands

    return f"their rows alone are decoded, by libjpeg-turbo {_jpeg_bands.LIBJPEG_TURBO}"


def _steps(artefact: str | Path, options: dict[str, Any]) -> Iterator[Check]:
    import cv2

    from iqa_runtime.kernels import instruction_set
    from iqa_runtime.scorer import Scorer

    python = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Check(
        "versions", True, f"iqa-deploy {__version__}, {python}, NumPy {np.__version__}, OpenCV {cv2.__version__}"
    )
    kernels = instruction_set()
    slow = "; slow: reinstall where a C compiler is, and check the IQA_KERNELS variable" if kernels == "numpy" else ""
    yield Check("kernels", True, kernels + slow)
    yield Check("JPEG crops", True, _jpeg_decoding())
    yield _backend_packages()

    trust = options.get("trust")
    loaded = open_artefact(artefact, trust=trust)
    contract = loaded.contract
    signed = "" if trust is None else f", signed with the key of {trust}"
    state = "trained" if contract.weights.trained else "untrained: its scores mean nothing"
    yield Check(
        "artefact", True, f"{contract.model} {contract.variant} {contract.task} {contract.precision}, {state}{signed}"
    )

    choice = choose_backend(
        loaded, options.get("backend"), device=options.get("device"), precision=options.get("precision")
    )
    options = {**options, "backend": choice.backend.name, "device": choice.device}
    if choice.complaint is not None:
        yield Check("choice", True, choice.complaint)
    if choice.backend.name in _CRASHED_BEFORE:
        opened = _open_elsewhere(artefact, options)
        yield opened
        if not opened.passed:
            return

    options.pop("trust", None)
    with Scorer(loaded, crops=_fewest_crops(contract), **options) as scorer:
        yield Check("backend", True, f"{scorer.backend_name}, device {options['device']}, runs on {scorer.provider}")
        image = _synthetic_image(contract, seed=0)
        reference = _synthetic_image(contract, seed=1) if contract.needs_reference else None
        _, encoded = cv2.imencode(".png", image[..., ::-1])
        from_array, from_bytes = scorer.score(image, reference), scorer.score(encoded.tobytes(), reference)
        same = from_array.value == from_bytes.value
        yield Check(
            "score",
            same,
            f"{from_array.value} as an array, {from_bytes.value} as PNG"
            + ("" if same else "; the same pixels must give the same bits: reinstall NumPy, OpenCV and the backend"),
        )
        runs = [scorer.score(image, reference) for _ in range(_TIMED_RUNS)]
        what = "a crop" if contract.patch_plan.kind != "whole" else f"a picture of {runs[0].width} x {runs[0].height}"
        yield Check("speed", True, f"{min(run.milliseconds / run.patches for run in runs):.1f} ms {what}")


def _open_elsewhere(artefact: str | Path, options: dict[str, Any]) -> Check:
    """Open the artefact in another process, whose crash harms nobody."""
    command = [sys.executable, "-c", _OPEN, str(artefact), json.dumps(options)]
    remedy = "report it with the artefact's --info, and use another backend"
    try:
        finished = subprocess.run(command, capture_output=True, timeout=_OPEN_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Check("compiling", False, f"not done after {_OPEN_SECONDS} s in a process of its own; {remedy}")
    # An exception ends Python with 1; opening it here then says what is wrong.
    if finished.returncode in (0, 1):
        return Check("compiling", True, "did not crash a process of its own")
    return Check("compiling", False, f"crashed a process of its own (exit status {finished.returncode}); {remedy}")


def _backend_packages() -> Check:
    found = []
    for package in BACKEND_PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    if {package.partition(" ")[0] for package in found} >= _EXCLUSIVE:
        remedy = "; the first two overwrite each other: uninstall both, then install one"
        return Check("libraries", False, ", ".join(found) + remedy)
    return Check("libraries", bool(found), ", ".join(found) if found else 'no backend; pip install "iqa-deploy[cpu]"')


def _fewest_crops(contract: Contract) -> str | None:
    """Choose a plan of one item; None where the plan is part of the graph."""
    if contract.baked_reference or contract.patch_plan.kind == "whole":
        return None
    return "center" if contract.crops_per_item == 1 else f"random:{contract.crops_per_item}"


def _synthetic_image(contract: Contract, seed: int) -> NDArray[np.uint8]:
    """Make noise of a size that an artefact takes."""
    height, width = example_size(contract)
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)
