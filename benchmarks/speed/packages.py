"""Libraries that only the benchmarks use, in a folder of their own: none of them gets into the environment of tests."""

from __future__ import annotations

import sys
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "packages"
REQUIREMENTS = ROOT / "benchmarks" / "requirements.txt"

_NAMED = ("torch", "pillow", "kornia-rs", "nvidia-dali-cuda120")


def add_folder() -> None:
    """Let this process, and those it starts, find them; what the environment has comes first."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))


def import_rival(name: str) -> ModuleType:
    """Import a library.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed, with the command that installs it.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is not installed; pip install --target {FOLDER.relative_to(ROOT)} "
            f"-r {REQUIREMENTS.relative_to(ROOT)}"
        ) from error


def import_openvino() -> ModuleType:
    """Import OpenVINO, raising as `import_rival`, without what reports its use to its makers over the network."""
    modules: dict[str, Any] = sys.modules
    modules["openvino_telemetry"] = None
    return import_rival("openvino")


def versions() -> dict[str, str]:
    """Return the versions of rivals that are installed."""
    found = {}
    for name in _NAMED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
