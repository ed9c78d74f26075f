"""Which host runs which engine, and what this host is."""

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest

import fake_cuda
import fake_pycuda
from described_plans import BUILT_FOR_RTX, JETSON, ORIN, described
from fake_cuda import SUCCESS, cudaError_t
from iqa_runtime.artefacts.engine_file import check_host
from iqa_runtime.artefacts.host_key import (
    HostKey,
    current_gpu,
    current_host,
    current_platform,
    differences,
    import_tensorrt,
)
from iqa_runtime.cuda import Gpu
from iqa_runtime.errors import BackendError, DependencyError

H100 = Gpu(name="NVIDIA H100 80GB HBM3", compute_capability=(9, 0), driver="CUDA 13.0")
TURING = Gpu(name="NVIDIA GeForce RTX 2080", compute_capability=(7, 5), driver="CUDA 13.0")


def test_its_own_host_runs_a_plan(artefacts, plan):
    check_host(plan, described(artefacts.contract()), replace(JETSON))


def test_a_refusal_names_both_hosts_and_the_command(artefacts, plan):
    here = HostKey(library="tensorrt", version="10.13.3.9", platform="Linux x86_64", gpu=H100)
    with pytest.raises(BackendError) as caught:
        check_host(plan, described(artefacts.contract()), here)
    message = str(caught.value)
    assert "built for TensorRT 10.3.0, Linux aarch64, Orin (8.7)" in message
    assert "here: TensorRT 10.13.3.9, Linux x86_64, NVIDIA H100 80GB HBM3 (9.0)" in message
    assert "rebuild it on this host: iqa-engine build x.onnx" in message


def test_without_a_gpu_the_remedy_is_another_one(artefacts, plan):
    with pytest.raises(BackendError, match=r"no NVIDIA GPU was found here.*nvidia-smi.*iqa-run x\.onnx") as caught:
        check_host(plan, described(artefacts.contract()), replace(JETSON, gpu=None))
    assert "iqa-export" not in str(caught.value), "the plan is right"


def test_without_a_gpu_another_version_still_needs_another_plan(artefacts, plan):
    with pytest.raises(
        BackendError, match=r"the plan needs 10\.3\.0; no NVIDIA GPU.*rebuilding it.*iqa-engine build x\.onnx"
    ):
        check_host(plan, described(artefacts.contract()), replace(JETSON, version="10.3.1", gpu=None))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"library": "tensorrt_rtx"}, "TensorRT built it, TensorRT-RTX is to run it"),
        ({"version": "10.3.1"}, "the plan needs 10.3.0"),
        ({"version": "10.3.0.30"}, "the plan needs 10.3.0"),
        ({"platform": "Windows aarch64"}, "it runs on Linux aarch64"),
        ({"platform": "Linux x86_64"}, "it runs on Linux aarch64"),
        ({"gpu": H100}, "here is NVIDIA H100"),
        ({"gpu": replace(ORIN, name="Orin NX")}, "here is Orin NX"),
        ({"gpu": replace(ORIN, compute_capability=(8, 6))}, r"here is Orin \(8.6\)"),
    ],
)
def test_each_difference_alone_is_enough(artefacts, plan, changes, reason):
    with pytest.raises(BackendError, match=reason):
        check_host(plan, described(artefacts.contract()), replace(JETSON, **changes))


def test_another_driver_is_no_difference(artefacts, plan):
    updated = replace(JETSON, gpu=replace(ORIN, driver="CUDA 13.9"))
    check_host(plan, described(artefacts.contract()), updated)


@pytest.mark.parametrize(
    ("built", "here", "runs"),
    [
        ("10.3.0", "10.3.0", True),
        ("10.3.0", "10.16.1.11", True),
        ("10.3.0", "11.4.0.106", True),
        ("10.16.1", "10.3.0", False),
        ("11.0.0", "10.16.1", False),
        ("10.3.0", "12.0", False),
    ],
)
def test_version_compatible_plans_run_later_and_one_major_on(built, here, runs):
    found = list(
        differences(replace(JETSON, version=built), replace(JETSON, version=here), "same_gpu", version_compatible=True)
    )
    assert (not found) == runs


@pytest.mark.parametrize(("gpu", "runs"), [(ORIN, True), (H100, True), (TURING, False), (None, False)])
def test_hardware_compatible_plans_run_from_ampere_on(gpu, runs):
    found = list(differences(JETSON, replace(JETSON, gpu=gpu), "ampere_or_later", version_compatible=False))
    assert (not found) == runs


@pytest.mark.parametrize(
    ("changes", "runs"),
    [
        ({"gpu": H100}, True),
        ({"gpu": H100, "platform": "Windows x86_64"}, True),
        ({"gpu": H100, "platform": "Linux aarch64"}, False),
        ({"gpu": H100, "version": "1.8.0"}, False),
        ({"gpu": TURING}, False),
        ({}, False),
    ],
)
def test_plans_of_tensorrt_rtx_run_on_both_systems_with_one_version(changes, runs):
    here = replace(BUILT_FOR_RTX, **changes)
    found = list(differences(BUILT_FOR_RTX, here, "ampere_or_later", version_compatible=False))
    assert (not found) == runs


@pytest.fixture(params=["cuda.bindings", "pycuda"])
def cuda(monkeypatch, request):
    """An Orin, and one of the two libraries to ask it with."""
    runtime = fake_cuda.install(monkeypatch)
    properties = SimpleNamespace(name=b"Orin\0\0", major=8, minor=7)
    describe = runtime.cudaGetDeviceProperties
    monkeypatch.setattr(runtime, "cudaGetDeviceProperties", lambda device: (describe(device)[0], properties))
    monkeypatch.setattr(runtime, "cudaDriverGetVersion", lambda: (SUCCESS, 12060))
    if request.param == "pycuda":
        fake_pycuda.install(monkeypatch, runtime)
        forget(monkeypatch, "cuda.bindings")
    else:
        forget(monkeypatch, "pycuda")
    return runtime


def forget(monkeypatch, library):
    """Let imports of a CUDA library fail as if it were not installed."""
    names = ("cuda", "cuda.bindings", "cuda.bindings.runtime") if library == "cuda.bindings" else ("pycuda",)
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("cuda")
def test_the_gpu_is_described():
    assert current_gpu() == ORIN
    assert current_gpu(1) is None


def test_without_a_device_there_is_no_gpu(cuda):
    cuda.devices = 0
    assert current_gpu() is None


def test_without_a_driver_there_is_no_gpu(cuda):
    cuda.fail("cudaGetDeviceCount", cudaError_t.cudaErrorInsufficientDriver)
    assert current_gpu() is None


def test_where_the_library_does_not_find_the_driver_there_is_no_gpu(monkeypatch):
    def missing():
        raise RuntimeError("no libcuda.so.1")

    monkeypatch.setattr(fake_cuda.install(monkeypatch), "cudaGetDeviceCount", missing)
    assert current_gpu() is None


def test_without_a_cuda_library_there_is_no_gpu(monkeypatch):
    for library in ("cuda.bindings", "pycuda"):
        forget(monkeypatch, library)
    assert current_gpu() is None


def test_a_gpu_that_cannot_be_asked_is_an_error(cuda):
    cuda.fail("cudaGetDeviceProperties", cudaError_t.cudaErrorInvalidValue)
    with pytest.raises(BackendError, match=r"device 'cuda:0': .*cudaErrorInvalidValue.*nvidia-smi"):
        current_gpu()


def test_describing_a_gpu_takes_nothing_of_it(cuda):
    current_gpu()
    assert not +cuda.alive
    assert cuda.calls["cudaSetDevice"] == 0


def test_windows_calls_its_processors_otherwise(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    assert current_platform().endswith(" x86_64")


@pytest.mark.usefixtures("cuda")
def test_the_key_of_this_host(artefacts, monkeypatch, plan):
    module = ModuleType("tensorrt")
    module.__version__, module.Runtime = "10.3.0", object
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    host = current_host("tensorrt")
    assert host == replace(JETSON, platform=current_platform())
    check_host(plan, described(artefacts.contract(), host=host), host)


def test_a_missing_library_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(DependencyError, match=r"TensorRT is not installed; pip install"):
        import_tensorrt("tensorrt")


def test_half_a_library_is_told_from_none(monkeypatch, tmp_path):
    package = tmp_path / "tensorrt"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    # Set first, so that what the import leaves there goes with the test.
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.delitem(sys.modules, "tensorrt")
    with pytest.raises(DependencyError, match=r"libnvinfer.so.10.*install its libraries too"):
        import_tensorrt("tensorrt")
    (package / "__init__.py").write_text("")
    with pytest.raises(DependencyError, match="installed in part only"):
        import_tensorrt("tensorrt")
