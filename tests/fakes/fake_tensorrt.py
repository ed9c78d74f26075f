"""A `tensorrt` for machines without one: the real names and signatures, and a stand-in for the work behind them.

Only what exists in every version of tests/tensorrt_api is here, with the parameters of the real bindings; a test holds
the two together, so that code which runs on this module calls nothing that TensorRT lacks.

What it builds is a small JSON text. Engines made of it compute, for each item of a batch, the mean of the first input
minus the means of the others, and write it to every element of every output. "Device" addresses are addresses of host
memory.

    from fake_tensorrt import install

    fake = install(monkeypatch, version="10.3.0.26")     # or name="tensorrt_rtx"
    fake.faults.add("deserialize returns None")          # see FAULTS
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

import fake_tensorrt_build
import fake_tensorrt_run
import fake_tensorrt_types
from fake_tensorrt_types import FAULTS, Fake, fake, plan_content

__all__ = ["FAULTS", "Fake", "classes", "install", "plan_content"]

_VERSIONS = {"tensorrt": "10.3.0.26", "tensorrt_rtx": "1.7.1.116"}


def classes() -> dict[str, type]:
    """Return the classes of the fake by their names in TensorRT."""
    modules = (fake_tensorrt_types, fake_tensorrt_build, fake_tensorrt_run)
    found = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    return {value.__name__: value for value in found if value.__module__.startswith("fake_") and value is not Fake}


def install(monkeypatch: pytest.MonkeyPatch, *, name: str = "tensorrt", version: str | None = None) -> Fake:
    """Let ``import tensorrt`` (or ``tensorrt_rtx``) find this module for the rest of the test, and not both."""
    Fake.__init__(fake, version=version or _VERSIONS[name])
    module = ModuleType(name)
    # Who looks for a package without importing it reads its specification.
    vars(module).update(classes(), __version__=fake.version, __spec__=ModuleSpec(name, None))
    for flavour in _VERSIONS:
        # None lets an import fail as if there were no such package.
        monkeypatch.setitem(sys.modules, flavour, module if flavour == name else None)
    return fake
