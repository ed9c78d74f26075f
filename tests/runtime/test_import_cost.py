"""What ``import iqa_runtime`` loads; benchmarks/speed/edge.py measures how long it takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

OTHERS = {"iqa_runtime", "msgspec", "numpy"}
COMPILED = {"cython_runtime"}
"""What a Cython module brings, beside ``_cython_`` and its version."""
OPTIONAL = {"typing_extensions"}
"""Loaded by msgspec where it is there."""
HEAVY = {
    "asyncio",
    "ctypes.util",
    "http",
    "json.tool",
    "multiprocessing",
    "sqlite3",
    "ssl",
    "subprocess",
    "unittest",
    "xml",
}
"""Of the standard library, what takes long and is not needed."""
LATER = {"benchmark", "commands", "cuda", "files"}
"""Of the package itself, what an embedder may never need."""


def loaded_by(code: str) -> set[str]:
    """Return the names of all modules."""
    command = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split())


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    return loaded_by("import iqa_runtime") - loaded_by("pass")


def test_no_other_package_than_numpy_and_msgspec_is_loaded(loaded: set[str]) -> None:
    packages = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert {name for name in packages if not name.startswith("_cython_")} - COMPILED - OPTIONAL == OTHERS


def test_nothing_heavy_of_the_standard_library_is_loaded(loaded: set[str]) -> None:
    assert not loaded & (HEAVY - loaded_by("import numpy"))


def test_what_only_commands_and_backends_need_is_not_loaded(loaded: set[str]) -> None:
    own = {name.removeprefix("iqa_runtime.") for name in loaded if name.startswith("iqa_runtime.")}
    assert not {name.partition(".")[0] for name in own} & LATER
    assert {name for name in own if name.startswith("backends.")} == {
        "backends.base",
        "backends.batch_run",
        "backends.tensor_spec",
    }
