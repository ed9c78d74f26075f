"""What the TensorRT backend refuses, and that it frees what it took."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fake_cuda import FakeCudaRuntime, cudaError_t
from fake_engines import describe
from fake_tensorrt import Fake
from fake_tensorrt_types import DataType
from iqa_runtime.artefacts.engine_file import BatchRange
from iqa_runtime.artefacts.files import description_path
from iqa_runtime.artefacts.host_key import current_host
from iqa_runtime.errors import ArtefactError, BackendError, DependencyError, FileError, UsageError
from tiny_engines import BATCH, ITEM, images, opened


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no GPU", "finds no usable GPU .*error: 35.*nvidia-smi"),
        ("deserialize returns None", "cannot load the engine .*OutOfMemory.*iqa-engine build model.onnx"),
        ("context is None", "no memory for an execution context .*--opt-batch"),
        ("enqueue fails", "cannot run the engine .*API Usage Error"),
    ],
)
def test_what_tensorrt_refuses_is_one_clear_error_and_everything_is_freed(
    tensorrt: Fake, write_plan: Callable[..., Path], fault: str, message: str
) -> None:
    tensorrt.faults.add(fault)
    with pytest.raises(BackendError, match=message):
        opened(write_plan()).activate()


ALLOCATIONS = ("cudaMalloc", "cudaHostAlloc", "cudaStreamCreateWithFlags", "cudaGraphInstantiate")


@pytest.mark.parametrize("function", ALLOCATIONS)
@pytest.mark.parametrize("after", [0, 1])
def test_memory_that_runs_out_frees_what_was_taken(
    gpu: FakeCudaRuntime, write_plan: Callable[..., Path], function: str, after: int
) -> None:
    gpu.fail(function, cudaError_t.cudaErrorMemoryAllocation, after=after)
    with pytest.raises(BackendError, match=rf"{function} failed \(cudaErrorMemoryAllocation\); free memory"):
        opened(write_plan()).activate()


@pytest.mark.parametrize("function", ["cudaMemcpyAsync", "cudaGraphLaunch", "cudaStreamSynchronize"])
def test_a_failed_run_is_an_error_and_closing_still_frees(
    gpu: FakeCudaRuntime, write_plan: Callable[..., Path], function: str
) -> None:
    with opened(write_plan()) as backend:
        gpu.fail(function, cudaError_t.cudaErrorIllegalAddress)
        with pytest.raises(BackendError, match=rf"{function} failed \(cudaErrorIllegalAddress\)"):
            backend.infer({"image": images(9)}, ["score"])


def test_a_changed_plan_reaches_nothing(gpu: FakeCudaRuntime, tensorrt: Fake, write_plan: Callable[..., Path]) -> None:
    path = write_plan()
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ArtefactError, match="SHA-256"):
        opened(path)
    assert tensorrt.deserialised == 0
    assert not gpu.calls["cudaMalloc"]


def test_a_plan_exchanged_since_it_was_opened_never_runs(tensorrt: Fake, write_plan: Callable[..., Path]) -> None:
    path = write_plan()
    with opened(path) as backend:
        path.write_bytes(b"another engine")
    assert tensorrt.deserialised == 1
    with pytest.raises(ArtefactError, match="exchanged for another file since it was opened"):
        backend.activate()
    assert tensorrt.deserialised == 1


def test_a_truncated_plan_is_refused(tensorrt: Fake, write_plan: Callable[..., Path]) -> None:
    path = write_plan()
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ArtefactError, match="cut short"):
        opened(path).activate()
    assert tensorrt.deserialised == 0


def test_a_truncated_plan_of_the_right_digest_is_refused_by_tensorrt(write_plan: Callable[..., Path]) -> None:
    path = write_plan()
    path.write_bytes(path.read_bytes()[:40])
    describe(path, host=current_host("tensorrt"), batch=BATCH)
    with pytest.raises(BackendError, match=r"cannot load the engine .*magic tag"):
        opened(path).activate()


def test_a_plan_of_another_host_is_refused_before_it_is_loaded(
    gpu: FakeCudaRuntime, tensorrt: Fake, write_plan: Callable[..., Path]
) -> None:
    elsewhere = replace(current_host("tensorrt"), version="10.3.0.1")
    with pytest.raises(BackendError, match=r"10\.3\.0\.1.*iqa-engine build model\.onnx"):
        opened(write_plan(host=elsewhere)).activate()
    assert tensorrt.deserialised == 0
    assert not gpu.calls["cudaMalloc"]


def test_the_digest_is_checked_before_the_host(write_plan: Callable[..., Path]) -> None:
    path = write_plan(host=replace(current_host("tensorrt"), version="10.3.0.1"))
    path.write_bytes(b"other")
    with pytest.raises(ArtefactError, match="SHA-256"):
        opened(path).activate()


@pytest.mark.parametrize("error", [cudaError_t.cudaErrorNoDevice, cudaError_t.cudaErrorInsufficientDriver])
def test_without_a_gpu_there_is_one_error_with_a_remedy(
    gpu: FakeCudaRuntime, tensorrt: Fake, write_plan: Callable[..., Path], error: cudaError_t
) -> None:
    path = write_plan()
    gpu.fail("cudaGetDeviceCount", error)
    with pytest.raises(BackendError, match=r"no NVIDIA GPU was found here.*iqa-run model\.onnx"):
        opened(path).activate()
    assert tensorrt.deserialised == 0


def test_a_gpu_beyond_those_there_is_refused(write_plan: Callable[..., Path]) -> None:
    with pytest.raises(BackendError, match="no NVIDIA GPU was found"):
        opened(write_plan(), device="cuda:1").activate()


@pytest.mark.parametrize("device", ["cpu", "cuda:", "gpu", "cuda:-1"])
def test_other_devices_are_refused(write_plan: Callable[..., Path], device: str) -> None:
    with pytest.raises(UsageError, match="cuda or cuda:N"):
        opened(write_plan(), device=device)


def test_without_tensorrt_the_error_says_what_to_install(
    write_plan: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_plan()
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(DependencyError, match="install"):
        opened(path).activate()


def test_a_missing_description_is_an_error_at_once(write_plan: Callable[..., Path]) -> None:
    path = write_plan()
    description_path(path).unlink()
    with pytest.raises(FileError, match=r"keep the \.plan and its \.plan\.json"):
        opened(path)


def test_an_engine_without_its_weights_is_refused(write_plan: Callable[..., Path]) -> None:
    with pytest.raises(
        ArtefactError, match=r"iqa-engine refit model\.onnx model\.plan --output model\.full\.plan; .*with its weights"
    ):
        opened(write_plan(stripped=True)).activate()


def test_host_code_is_allowed_only_to_version_compatible_engines(write_plan: Callable[..., Path]) -> None:
    path = write_plan(flags=("VERSION_COMPATIBLE",), version_compatible=True)
    with opened(path) as backend:
        assert backend.infer({"image": images(1)}, ["score"])["score"].shape == (1,)
    with pytest.raises(BackendError, match="host code"):
        opened(write_plan(flags=("VERSION_COMPATIBLE",), version_compatible=False)).activate()


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({"picture": (DataType.FLOAT, ITEM)}, None, "inputs .*picture"),
        (None, {"value": (DataType.FLOAT, ())}, "outputs .*value"),
        ({"image": (DataType.FLOAT, (3, 8, 9))}, None, "'image' .*8, 9"),
        ({"image": (DataType.HALF, ITEM)}, None, "'image' .*float16"),
        (None, {"score": (DataType.BF16, ())}, "'score' .*another type"),
        (None, {"score": (DataType.FLOAT, (2,))}, "'score'"),
    ],
)
def test_an_engine_that_differs_from_its_contract_is_refused(
    write_plan: Callable[..., Path], inputs: Any, outputs: Any, message: str
) -> None:
    with pytest.raises(ArtefactError, match=message):
        opened(write_plan(inputs=inputs, outputs=outputs)).activate()


def test_an_engine_whose_batches_are_not_those_described_is_refused(write_plan: Callable[..., Path]) -> None:
    path = write_plan(batch=BatchRange(min=1, opt=2, max=2))
    describe(path, host=current_host("tensorrt"), batch=BATCH)
    with pytest.raises(BackendError, match="refuses input 'image'"):
        opened(path).activate()
