"""What iqa-bench knows of a GPU, on stand-ins for TensorRT and CUDA; marked `gpu`, of a real one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fake_cuda
import fake_pycuda
import fake_tensorrt
import iqa_runtime.benchmark.gpu as gpu_module
from command_line import invoke
from fake_cuda import FakeCudaRuntime, cudaError_t
from iqa_runtime.artefacts.files import description_path
from iqa_runtime.artefacts.signing import sign, signature_path
from iqa_runtime.benchmark.gpu import NumberFormat, measure_gpu, published_peak
from iqa_runtime.benchmark.host import Machine
from iqa_runtime.benchmark.measuring import measure_artefact
from iqa_runtime.commands import bench as bench_cli
from iqa_runtime.contract import Precision
from iqa_runtime.cuda import Multiprocessors
from iqa_runtime.errors import BackendError, DependencyError
from signing_keys import write_key_pair

COPIED = 4096
"""Bytes a copy, since those of the stand-in go through this host's memory."""

DATA_SHEET = 0.01
"""Data sheets round TFLOPS and clocks to two or three digits."""

FAKE_BANDWIDTH = 2 * 8 * COPIED / 1e-3 / 1e9
"""Eight copies, read and written, in one tick of the stand-in's clock, in 10^9 bytes a second."""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCudaRuntime]:
    tensorrt = fake_tensorrt.install(monkeypatch)
    runtime = fake_cuda.install(monkeypatch)
    tensorrt.enqueue = runtime.enqueue
    monkeypatch.setattr(gpu_module, "_COPIED_BYTES", COPIED)
    yield runtime
    assert not +runtime.alive, "something was not freed"


@pytest.fixture
def plan(gpu: FakeCudaRuntime, artefacts: Any) -> Path:
    """Return an engine of the stand-in, for its GPU."""
    del gpu  # which it is built for
    engine = pytest.importorskip("iqa_export.engine")
    source = artefacts.mean(gmac=0.5)
    path = source.with_suffix(".plan")
    engine.build_engine(source, path, engine.EngineOptions())
    return Path(path)


# Capability, multiprocessors, clock in MHz, and TFLOPS (TOPS) of the same data sheet.
DATA_SHEETS: list[tuple[str, tuple[int, int], int, int, dict[NumberFormat, float]]] = [
    ("Tesla T4", (7, 5), 40, 1590, {"float32": 8.1, "float16": 65, "int8": 130}),
    ("NVIDIA A100-SXM4-40GB", (8, 0), 108, 1410, {"float32": 19.5, "float16": 312, "bfloat16": 312, "int8": 624}),
    ("NVIDIA A40", (8, 6), 84, 1740, {"float32": 37.4, "float16": 149.7, "int8": 299.3}),
    ("NVIDIA GeForce RTX 3090", (8, 6), 82, 1695, {"float32": 35.6, "float16": 142, "int8": 284}),
    ("Orin", (8, 7), 16, 1300, {"float32": 5.3, "int8": 85}),
    ("NVIDIA GeForce RTX 4090", (8, 9), 128, 2520, {"float32": 82.6, "float16": 330.3, "int8": 660.6}),
    ("NVIDIA L4", (8, 9), 58, 2040, {"float32": 30.3, "float16": 121, "int8": 242}),
    ("NVIDIA H100 80GB HBM3", (9, 0), 132, 1830, {"float16": 989.4, "bfloat16": 989.4, "int8": 1978.9}),
    ("NVIDIA H100 80GB HBM3", (9, 0), 132, 1980, {"float32": 66.9}),
    ("NVIDIA H100 PCIe", (9, 0), 114, 1620, {"float16": 756, "int8": 1513}),
    ("NVIDIA GeForce RTX 5090", (12, 0), 170, 2407, {"float32": 104.8, "float16": 419, "int8": 838}),
]


@pytest.mark.parametrize(
    ("name", "capability", "count", "clock", "published"), DATA_SHEETS, ids=lambda value: str(value)
)
def test_peaks_are_those_of_data_sheets(
    name: str, capability: tuple[int, int], count: int, clock: int, published: dict[NumberFormat, float]
) -> None:
    multiprocessors = Multiprocessors(compute_capability=capability, count=count, clock_khz=1000 * clock)
    for number_format, tera in published.items():
        assert published_peak(name, multiprocessors, number_format) == pytest.approx(1000 * tera, rel=DATA_SHEET)


@pytest.mark.parametrize(
    ("name", "capability", "number_format"),
    [
        ("NVIDIA GeForce GTX 1660", (7, 5), "float16"),
        ("NVIDIA T1000", (7, 5), "int8"),
        ("Tesla T4", (7, 5), "bfloat16"),
        ("NVIDIA GeForce RTX 4090", (8, 9), "bfloat16"),
        ("Tesla V100", (7, 0), "float16"),
        ("NVIDIA B300", (10, 3), "float32"),
    ],
)
def test_what_is_not_published_is_not_known(
    name: str, capability: tuple[int, int], number_format: NumberFormat
) -> None:
    multiprocessors = Multiprocessors(compute_capability=capability, count=40, clock_khz=1_500_000)
    assert published_peak(name, multiprocessors, number_format) is None


def test_turing_without_tensor_cores_has_its_float32_peak() -> None:
    multiprocessors = Multiprocessors(compute_capability=(7, 5), count=22, clock_khz=1_785_000)
    # GTX 1660: 1408 CUDA cores, 5.0 TFLOPS.
    assert published_peak("NVIDIA GeForce GTX 1660", multiprocessors, "float32") == pytest.approx(5000, rel=DATA_SHEET)


def test_without_a_clock_there_is_no_peak() -> None:
    multiprocessors = Multiprocessors(compute_capability=(9, 0), count=132, clock_khz=0)
    assert published_peak("NVIDIA H100", multiprocessors, "float16") is None


@pytest.mark.parametrize(
    ("precision", "number_format", "tera"),
    [
        ("fp32", "float32", 61.8),
        ("fp16", "float16", 989.4),
        ("bf16", "bfloat16", 989.4),
        ("int8", "int8", 1978.9),
        ("int8-weights", "float32", 61.8),
    ],
)
@pytest.mark.usefixtures("gpu")
def test_the_peak_is_of_what_the_artefact_computes_in(
    precision: Precision, number_format: NumberFormat, tera: float
) -> None:
    machine = measure_gpu("cuda", precision)
    assert machine.peak == pytest.approx(1000 * tera, rel=DATA_SHEET)
    assert (machine.peak_source, machine.peak_precision) == ("published", number_format)


def test_copies_between_events_give_the_bandwidth(gpu: FakeCudaRuntime) -> None:
    machine = measure_gpu("cuda", "fp16")
    assert machine.bandwidth == pytest.approx(FAKE_BANDWIDTH)
    assert machine.bandwidth_source == "measured"
    assert gpu.calls["cudaMemcpyAsync"] == 8 * (1 + 5), "a round to warm up, and five"


def test_the_best_round_counts_and_the_first_does_not(gpu: FakeCudaRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    milliseconds = iter([0.25, 4.0, 2.0, 0.5, 1.0, 8.0])
    monkeypatch.setattr(gpu, "cudaEventElapsedTime", lambda *_: (fake_cuda.SUCCESS, next(milliseconds)))
    assert measure_gpu("cuda", "fp16").bandwidth == pytest.approx(2 * FAKE_BANDWIDTH)


def test_pycuda_measures_alike(gpu: FakeCudaRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = measure_gpu("cuda", "int8")
    driver = fake_pycuda.install(monkeypatch, gpu)
    driver.init()
    driver.Device(0).retain_primary_context().push()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    assert measure_gpu("cuda", "int8") == expected


@pytest.mark.parametrize(
    ("function", "after"),
    [
        ("cudaStreamCreateWithFlags", 0),
        ("cudaMalloc", 1),
        ("cudaEventCreate", 1),
        ("cudaMemcpyAsync", 3),
        ("cudaStreamSynchronize", 2),
        ("cudaEventElapsedTime", 0),
        ("cudaDeviceGetAttribute", 1),
    ],
)
def test_whatever_fails_is_one_error_and_everything_is_freed(gpu: FakeCudaRuntime, function: str, after: int) -> None:
    gpu.devices, gpu.current = 2, 1
    gpu.fail(function, cudaError_t.cudaErrorMemoryAllocation, after=after)
    with pytest.raises(BackendError, match=rf"device 'cuda:0': {function} failed"):
        measure_gpu("cuda:0", "fp16")
    assert gpu.current == 1, "the device that was current is so again"


def test_without_a_cuda_library_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "cuda.bindings", "pycuda", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    assert measure_gpu("cuda", "fp16") == Machine()


def test_shares_of_an_engine_follow_from_the_gpu(plan: Path) -> None:
    report = measure_artefact(plan, seconds=0.01, threads=1, batch_sizes=(1,))
    machine = report.machine
    assert machine.bandwidth == pytest.approx(FAKE_BANDWIDTH)
    assert machine.peak == pytest.approx(61_800, rel=DATA_SHEET)
    row = report.batches[0]
    assert row.gflops == pytest.approx(2 * 0.5 / (row.times.p50 / 1000))
    assert row.peak_share == pytest.approx(row.gflops / machine.peak)
    stages = {stage.name: stage for stage in report.stages}
    moved = plan.stat().st_size + report.items_per_run * 3 * 32 * 32 * 4
    assert stages["compute"].traffic == moved
    # A tick of the stand-in's clock, a millisecond.
    assert stages["compute"].bandwidth_share == pytest.approx(moved / 1e-3 / 1e9 / FAKE_BANDWIDTH)
    # Of the same tick, without the copies that the batches hold.
    gflops = 2 * 0.5 * report.items_per_run / 1e-3
    assert stages["compute"].gflops == pytest.approx(gflops)
    assert stages["compute"].peak_share == pytest.approx(gflops / machine.peak)
    for name in ("decode", "patches", "host_to_device", "device_to_host"):
        assert stages[name].bandwidth_share is None, "not in the GPU's memory"
        assert stages[name].peak_share is None, "no products"


def test_batches_on_a_gpu_are_one_item_and_whole_runs(plan: Path) -> None:
    report = measure_artefact(plan, seconds=0.01, threads=1)
    assert report.items_per_run == 8
    assert [row.items for row in report.batches] == [1, 8, 16, 32]


def test_only_a_trusted_engine_is_measured(plan: Path, tmp_path: Path) -> None:
    private, public = write_key_pair(tmp_path)
    description = description_path(plan)
    signature_path(description).write_bytes(sign(description.read_bytes(), private))
    arguments = [str(plan), "--seconds", "0.01", "--threads", "1", "--batch-sizes", "1", "--trust"]
    assert invoke(bench_cli.main, *arguments, public).exit_code == 0
    (tmp_path / "other").mkdir()
    _, other = write_key_pair(tmp_path / "other")
    code, _, err = invoke(bench_cli.main, *arguments, other)
    assert code == 1
    assert "not the signature of" in err


def test_what_is_given_needs_no_measurement(gpu: FakeCudaRuntime, plan: Path) -> None:
    gpu.attributes.clear()
    report = measure_artefact(plan, seconds=0.01, threads=1, batch_sizes=(1,), bandwidth=3300.0, peak=9e5)
    assert report.machine == Machine(bandwidth=3300.0, bandwidth_source="given", peak=9e5, peak_source="given")


def test_the_command_says_how_each_number_is_known(plan: Path, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    arguments = [str(plan), "--seconds", "0.01", "--threads", "1", "--batch-sizes", "1", "--output", str(output)]
    code, shown, _ = invoke(bench_cli.main, *arguments)
    assert code == 0
    compute = next(line for line in shown.splitlines() if line.lstrip().startswith("compute"))
    assert compute.split()[-2:] == ["8000.0", "12.9%"], "eight items in a tick, of the peak in the last line"
    line = shown.splitlines()[-1]
    assert line.startswith("the machine: memory 0.1 GB/s (measured), float32 peak 61839.4 GFLOP/s (published, at the")
    machine = json.loads(output.read_text(encoding="utf-8"))["machine"]
    assert (machine["bandwidth_source"], machine["peak_source"]) == ("measured", "published")
    code, shown, _ = invoke(bench_cli.main, *arguments, "--peak", 100)
    assert code == 0
    assert "GB/s (measured), peak 100.0 GFLOP/s (given); " in shown


def test_without_a_gpu_the_command_is_one_error_and_exit_code_1(gpu: FakeCudaRuntime, plan: Path) -> None:
    gpu.devices = 0
    code, out, err = invoke(bench_cli.main, plan)
    assert (code, out) == (1, "")
    assert err.startswith("iqa-bench: ")
    assert err.count("\n") == 1
    assert "no NVIDIA GPU was found here" in err


@pytest.mark.gpu
def test_a_real_gpu_is_measured() -> None:
    try:
        machine = measure_gpu("cuda", "fp32")
    except (BackendError, DependencyError) as error:
        pytest.skip(str(error))
    if machine == Machine():
        pytest.skip("no CUDA library for Python")
    # From the smallest Jetson to several times the fastest GPU of 2025; a wrong unit would miss both by far.
    assert machine.bandwidth is not None
    assert 10 < machine.bandwidth < 50_000
    assert machine.peak is None or 100 < machine.peak < 1_000_000
