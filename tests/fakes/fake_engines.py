"""What tests of engines share: the stand-ins for TensorRT and CUDA together, and the description of a plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import fake_cuda
import fake_tensorrt
from fake_cuda import FakeCudaRuntime
from fake_tensorrt import Fake
from iqa_runtime.artefacts.engine_file import BatchRange, EngineFile
from iqa_runtime.artefacts.files import description_path
from iqa_runtime.artefacts.host_key import current_host
from iqa_runtime.contract import FileDigest


@contextmanager
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Fake, FakeCudaRuntime]]:
    """Install both, so that engines run; afterwards everything must have been freed."""
    tensorrt = fake_tensorrt.install(monkeypatch)
    runtime = fake_cuda.install(monkeypatch)
    tensorrt.enqueue = runtime.enqueue
    yield tensorrt, runtime
    assert not +runtime.alive, "something was not freed"


def jetson(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Install CUDA on a Jetson; return what it says of the GPU, to be changed."""
    properties = SimpleNamespace(name=b"Orin", major=8, minor=7)
    runtime = fake_cuda.install(monkeypatch)
    monkeypatch.setattr(runtime, "cudaGetDeviceProperties", lambda _: (fake_cuda.SUCCESS, properties))
    return properties


def describe(plan: Path, **changes: Any) -> None:
    """Write the description of a plan built plainly on this host, without a contract, but for what is changed."""
    fields: dict[str, Any] = {
        "contract": None,
        "plan": FileDigest.of_file(plan),
        "source": FileDigest(file="model.onnx", sha256="0" * 64),
        "portability": "same_gpu",
        "version_compatible": False,
        "batch": BatchRange(min=1, opt=1, max=1),
        "level": 3,
        "workspace": None,
        "stripped": False,
        "refittable": False,
        "exporter": "test",
    }
    if "host" not in changes:
        fields["host"] = current_host("tensorrt")
    description_path(plan).write_bytes(EngineFile(**(fields | changes)).to_json())
