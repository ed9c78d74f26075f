"""TensorRT and CUDA by their stand-ins, and engines for them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fake_cuda
import fake_tensorrt
from fake_cuda import FakeCudaRuntime
from fake_engines import describe
from fake_tensorrt import Fake
from fake_tensorrt_types import MAGIC, DataType
from iqa_runtime.artefacts.engine_file import BatchRange
from iqa_runtime.artefacts.host_key import current_host
from tiny_engines import BATCH, ITEM


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> Fake:
    return fake_tensorrt.install(monkeypatch)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tensorrt: Fake) -> Iterator[FakeCudaRuntime]:
    runtime = fake_cuda.install(monkeypatch)
    tensorrt.enqueue = runtime.enqueue
    yield runtime
    assert not +runtime.alive, "something was not freed"


@pytest.fixture
def write_plan(tmp_path: Path, gpu: FakeCudaRuntime) -> Callable[..., Path]:
    """Return a function that writes an engine of the stand-in, and its description, for the GPU of the stand-in."""

    del gpu  # whose key the descriptions get

    def write(
        *,
        inputs: dict[str, tuple[DataType, tuple[int, ...]]] | None = None,
        outputs: dict[str, tuple[DataType, tuple[int, ...]]] | None = None,
        batch: BatchRange = BATCH,
        flags: tuple[str, ...] = (),
        library: str = "tensorrt",
        **changes: Any,
    ) -> Path:
        inputs = inputs or {"image": (DataType.FLOAT, ITEM)}
        outputs = outputs or {"score": (DataType.FLOAT, ())}
        sizes = (batch.min, batch.opt, batch.max)
        content = {
            "version": sys.modules[library].__version__,
            "inputs": [[name, int(dtype), [-1, *shape]] for name, (dtype, shape) in inputs.items()],
            "outputs": [[name, int(dtype), [-1, *shape]] for name, (dtype, shape) in outputs.items()],
            "flags": flags,
            "layers": 1,
            "profiles": [{name: [[size, *shape] for size in sizes] for name, (_, shape) in inputs.items()}],
            "weights": "some",
        }
        path = tmp_path / "model.reference.plan"  # needs no contract
        path.write_bytes(MAGIC + json.dumps(content).encode())
        describe(path, batch=batch, host=changes.pop("host", None) or current_host(library), **changes)  # type: ignore[arg-type]
        return path

    return write
