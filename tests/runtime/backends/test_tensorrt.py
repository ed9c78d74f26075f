"""The TensorRT backend on stand-ins for TensorRT and CUDA; marked `gpu`, on the real ones."""

from __future__ import annotations

import ast
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fake_cuda
import fake_pycuda
import fake_tensorrt
import iqa_runtime.backends.tensorrt as backend_module
import iqa_runtime.backends.tensorrt_worker as worker_module
from fake_cuda import FakeCudaRuntime, cudaError_t
from fake_engines import describe
from fake_tensorrt import Fake
from fake_tensorrt_types import MAGIC, DataType
from iqa_runtime.artefacts.engine_file import BatchRange
from iqa_runtime.artefacts.files import description_path
from iqa_runtime.artefacts.host_key import current_host
from iqa_runtime.artefacts.opening import Artefact, open_graph
from iqa_runtime.backends import GraphSpec, TensorSpec, choose_backend
from iqa_runtime.backends.tensorrt import TensorRtBackend
from iqa_runtime.errors import ArtefactError, BackendError, DependencyError, FileError, UsageError

ITEM = (3, 8, 8)
BATCH = BatchRange(min=1, opt=4, max=8)
SPEC = GraphSpec((TensorSpec("image", ITEM, "float32"),), (TensorSpec("score", ()),))
EXACT = 1e-6
"""float32 rounding of a mean of values up to one, taken in float64 by both sides."""


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


def opened(path: Path, spec: GraphSpec = SPEC, *, device: str = "cuda") -> TensorRtBackend:
    return TensorRtBackend(open_graph(path), spec, device=device, threads=1)


def images(items: int, seed: int = 0, dtype: str = "float32") -> NDArray[Any]:
    return np.random.default_rng(seed).random((items, *ITEM)).astype(dtype)


def means(values: NDArray[Any]) -> NDArray[np.float64]:
    return values.reshape(len(values), -1).mean(axis=1, dtype=np.float64)


def test_scores_are_those_of_the_engine_whatever_the_batch(write_plan: Callable[..., Path]) -> None:
    with opened(write_plan()) as backend:
        for items in (1, 4, 11):
            batch = images(items, seed=items)
            scores = backend.infer({"image": batch}, ["score"])["score"]
            np.testing.assert_allclose(scores, means(batch), rtol=EXACT)
            assert scores.dtype == np.float32


def test_every_run_has_the_batch_the_engine_was_optimised_for(
    gpu: FakeCudaRuntime, write_plan: Callable[..., Path]
) -> None:
    with opened(write_plan()) as backend:
        assert backend.items_per_run == BATCH.opt
        launched = gpu.calls["cudaGraphLaunch"]
        backend.infer({"image": images(11)}, ["score"])
        assert gpu.calls["cudaGraphLaunch"] - launched == 3


def test_two_workers_share_one_engine_and_launch_graphs(
    gpu: FakeCudaRuntime, tensorrt: Fake, write_plan: Callable[..., Path]
) -> None:
    with opened(write_plan()) as backend:
        assert (tensorrt.deserialised, tensorrt.contexts, backend.concurrent_runs) == (1, 2, 2)
        assert (gpu.alive["stream"], gpu.alive["executable graph"], gpu.alive["graph"]) == (2, 2, 0)
        executions = tensorrt.executions
        backend.infer({"image": images(8)}, ["score"])
        assert tensorrt.executions == executions, "runs go through the graph, not through the context"
        assert backend.provider == "Fake GPU, tensorrt 10.3.0.26, cuda.bindings, CUDA graphs"


def test_an_engine_that_cannot_be_captured_runs_without_graphs(
    gpu: FakeCudaRuntime, tensorrt: Fake, write_plan: Callable[..., Path]
) -> None:
    def not_capturable(stream: int, work: Callable[[], None]) -> None:
        gpu.invalidate_capture(stream)
        gpu.enqueue(stream, work)

    tensorrt.enqueue = not_capturable
    with opened(write_plan()) as backend:
        assert backend.provider.endswith("no CUDA graphs")
        batch = images(4)
        np.testing.assert_allclose(backend.infer({"image": batch}, ["score"])["score"], means(batch), rtol=EXACT)


def test_a_graph_that_cannot_be_instantiated_is_done_without(
    gpu: FakeCudaRuntime, write_plan: Callable[..., Path]
) -> None:
    gpu.fail("cudaGraphInstantiate", cudaError_t.cudaErrorInvalidValue)
    with opened(write_plan()) as backend:
        assert backend.provider.endswith("no CUDA graphs")
        assert gpu.calls["cudaGetLastError"] == backend.concurrent_runs, "the error is not left to the next call"
        batch = images(4)
        np.testing.assert_allclose(backend.infer({"image": batch}, ["score"])["score"], means(batch), rtol=EXACT)


def test_several_threads_get_their_own_scores(write_plan: Callable[..., Path]) -> None:
    batches = [images(6, seed=seed) for seed in range(8)]
    results: list[Any] = [None] * len(batches)
    with opened(write_plan()) as backend:

        def work(index: int) -> None:
            results[index] = backend.infer({"image": batches[index]}, ["score"])["score"]

        threads = [threading.Thread(target=work, args=(index,)) for index in range(len(batches))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for batch, scores in zip(batches, results, strict=True):
        np.testing.assert_allclose(scores, means(batch), rtol=EXACT)


@pytest.mark.parametrize(("kind", "dtype"), [(DataType.HALF, "float16"), (DataType.UINT8, "uint8")])
def test_inputs_have_the_type_the_engine_takes(write_plan: Callable[..., Path], kind: DataType, dtype: str) -> None:
    spec = GraphSpec((TensorSpec("image", ITEM, dtype),), SPEC.outputs)
    batch = (255 * images(3)).astype(dtype)
    with opened(write_plan(inputs={"image": (kind, ITEM)}), spec) as backend:
        scores = backend.infer({"image": batch}, ["score"])["score"]
    np.testing.assert_allclose(scores, means(batch), rtol=EXACT)


def test_two_inputs_and_unwanted_outputs(write_plan: Callable[..., Path]) -> None:
    path = write_plan(
        inputs={"image": (DataType.FLOAT, ITEM), "reference": (DataType.FLOAT, ITEM)},
        outputs={
            "score": (DataType.FLOAT, ()),
            "quality_map": (DataType.HALF, (2, 2)),
            "unknown": (DataType.BF16, (5,)),
        },
    )
    spec = GraphSpec(
        (*SPEC.inputs, TensorSpec("reference", ITEM, "float32")),
        (*SPEC.outputs, TensorSpec("quality_map", (2, 2))),
    )
    with opened(path, spec) as backend:
        left, right = images(4), images(4, seed=1)
        outputs = backend.infer({"image": left, "reference": right}, ["score"])
    assert list(outputs) == ["score"]
    np.testing.assert_allclose(outputs["score"], means(left) - means(right), atol=EXACT)


def test_stage_times_add_up_over_one_run(write_plan: Callable[..., Path]) -> None:
    with opened(write_plan()) as backend:
        times = backend.stage_times({"image": images(BATCH.opt)})
        # The clock of the stand-in ticks once an event.
        assert (times.host_to_device, times.compute, times.device_to_host) == (1.0, 1.0, 1.0)
        with pytest.raises(UsageError, match="give 4 items"):
            backend.stage_times({"image": images(3)})


def test_results_outlive_the_next_run_of_their_worker(write_plan: Callable[..., Path]) -> None:
    batch = images(BATCH.opt)
    with opened(write_plan()) as backend, backend._worker() as worker:
        (scores,) = worker.run({"image": batch}, ["score"])
        worker.run({"image": images(BATCH.opt, seed=1)}, ["score"])
        np.testing.assert_allclose(scores, means(batch), rtol=EXACT)


def test_closing_twice_and_reopening(gpu: FakeCudaRuntime, write_plan: Callable[..., Path]) -> None:
    backend = opened(write_plan())
    backend.activate()
    backend.deactivate()
    backend.deactivate()
    assert not +gpu.alive
    with pytest.raises(UsageError, match="not active"):
        backend.infer({"image": images(1)}, ["score"])
    with backend:
        assert backend.infer({"image": images(1)}, ["score"])["score"].shape == (1,)


def test_the_device_that_was_current_is_so_again(gpu: FakeCudaRuntime, write_plan: Callable[..., Path]) -> None:
    gpu.devices, gpu.current = 3, 2
    with opened(write_plan(), device="cuda:1") as backend:
        backend.infer({"image": images(5)}, ["score"])
        assert gpu.current == 2
    assert gpu.current == 2


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


def test_deactivation_waits_for_runs_under_way(
    gpu: FakeCudaRuntime, write_plan: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = threading.Event()

    class Workers(SimpleQueue[Any]):
        def get(self, *arguments: Any, **options: Any) -> Any:
            if self.empty():
                waiting.set()
            return super().get(*arguments, **options)

    monkeypatch.setattr(backend_module, "SimpleQueue", Workers)
    backend = opened(write_plan())
    backend.activate()
    borrowed, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with backend._worker():
            borrowed.set()
            go_on.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    borrowed.wait()
    closer = threading.Thread(target=backend.deactivate)
    closer.start()
    assert waiting.wait(60)
    assert gpu.alive["stream"] == 2, "nothing is freed under a run"
    go_on.set()
    holder.join()
    closer.join()
    assert not +gpu.alive


def test_tensorrt_rtx_engines_run_on_tensorrt_rtx(
    monkeypatch: pytest.MonkeyPatch, write_plan: Callable[..., Path]
) -> None:
    tensorrt_rtx = fake_tensorrt.install(monkeypatch, name="tensorrt_rtx")
    runtime = fake_cuda.install(monkeypatch)
    tensorrt_rtx.enqueue = runtime.enqueue
    with opened(write_plan(library="tensorrt_rtx")) as backend:
        batch = images(4)
        np.testing.assert_allclose(backend.infer({"image": batch}, ["score"])["score"], means(batch), rtol=EXACT)
        assert "tensorrt_rtx 1.7.1.116" in backend.provider
    assert not +runtime.alive


def test_an_engine_that_tensorrt_rtx_cannot_load_may_be_for_another_gpu(
    monkeypatch: pytest.MonkeyPatch, write_plan: Callable[..., Path]
) -> None:
    tensorrt_rtx = fake_tensorrt.install(monkeypatch, name="tensorrt_rtx")
    fake_cuda.install(monkeypatch)
    tensorrt_rtx.faults.add("deserialize returns None")
    with pytest.raises(
        BackendError, match=r"tensorrt_rtx 1\.7.*compute capability of this GPU.*--library tensorrt_rtx"
    ):
        opened(write_plan(library="tensorrt_rtx")).activate()


class TestPyCuda:
    """PyCUDA in place of ``cuda.bindings``; both are stand-ins."""

    def test_a_program_in_a_pycuda_context_stays_in_it(
        self, gpu: FakeCudaRuntime, monkeypatch: pytest.MonkeyPatch, write_plan: Callable[..., Path]
    ) -> None:
        driver = fake_pycuda.install(monkeypatch, gpu)
        driver.init()
        mine = driver.Device(0).retain_primary_context()
        mine.push()
        path = write_plan()
        with opened(path) as backend:
            assert "PyCUDA, no CUDA graphs" in backend.provider
            batch = images(4)
            np.testing.assert_allclose(backend.infer({"image": batch}, ["score"])["score"], means(batch), rtol=EXACT)
            times = backend.stage_times({"image": batch})
            assert times.compute == 1.0
        assert driver.contexts() == [mine]

    def test_it_is_refused_on_another_device(
        self, gpu: FakeCudaRuntime, monkeypatch: pytest.MonkeyPatch, write_plan: Callable[..., Path]
    ) -> None:
        gpu.devices = 2
        driver = fake_pycuda.install(monkeypatch, gpu)
        driver.init()
        driver.Device(0).retain_primary_context().push()
        with pytest.raises(UsageError, match="current PyCUDA context"):
            opened(write_plan(), device="cuda:1").activate()

    @pytest.mark.parametrize("function", ["cudaMalloc", "cudaHostAlloc", "cudaStreamCreateWithFlags"])
    def test_memory_that_runs_out_frees_what_was_taken(
        self, gpu: FakeCudaRuntime, monkeypatch: pytest.MonkeyPatch, write_plan: Callable[..., Path], function: str
    ) -> None:
        driver = fake_pycuda.install(monkeypatch, gpu)
        driver.init()
        driver.Device(0).retain_primary_context().push()
        gpu.fail(function, cudaError_t.cudaErrorMemoryAllocation, after=1)
        with pytest.raises(BackendError, match="free memory on the GPU"):
            opened(write_plan()).activate()


def test_plans_are_read_by_this_backend_alone(write_plan: Callable[..., Path], artefacts: Any) -> None:
    graph = open_graph(write_plan())
    artefact = Artefact(path=graph.path, contract=artefacts.contract(), graph=graph)
    assert choose_backend(artefact).backend is TensorRtBackend
    for other in ("onnxruntime", "openvino"):
        with pytest.raises(UsageError, match=f"'{other}' does not read engines; choose one of: tensorrt"):
            choose_backend(artefact, other)
    with pytest.raises(UsageError, match="TensorRT runs engines"):
        opened(artefacts.mean())


API = sorted((Path(__file__).parents[2] / "tensorrt_api").glob("tensorrt_*.json"))


def _attributes(*modules: Any) -> set[str]:
    """Names after a dot, in code that speaks to TensorRT's objects."""
    found = set()
    for module in modules:
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
    return found


NAMES = {
    "Runtime": {"deserialize_cuda_engine", "engine_host_code_allowed"},
    "ILogger": {"ERROR", "INTERNAL_ERROR", "log"},
    "ICudaEngine": {
        "create_execution_context",
        "get_tensor_dtype",
        "get_tensor_mode",
        "get_tensor_name",
        "get_tensor_shape",
        "num_io_tensors",
    },
    "IExecutionContext": {
        "execute_async_v3",
        "get_tensor_shape",
        "infer_shapes",
        "set_input_shape",
        "set_optimization_profile_async",
        "set_tensor_address",
    },
}
"""What the backend uses of TensorRT."""

OURS = {"__init__", "allocate", "append", "dtype", "engine", "name", "opt", "path", "shape"}
"""Names that TensorRT has too, but in the backend belong to other objects."""


@pytest.mark.parametrize("api", API, ids=lambda path: path.stem)
def test_every_name_used_is_in_every_version(api: Path) -> None:
    classes = json.loads(api.read_text(encoding="utf-8"))["classes"]
    for name, members in NAMES.items():
        assert members <= set(classes[name]), name
    assert {"FLOAT", "HALF", "UINT8"} <= set(classes["DataType"])
    assert "INPUT" in classes["TensorIOMode"]


def test_the_names_listed_are_those_in_the_code() -> None:
    every = set()
    for api in API:
        for members in json.loads(api.read_text(encoding="utf-8"))["classes"].values():
            every |= set(members)
    used = _attributes(backend_module, worker_module) & every
    assert used - OURS == set().union(*NAMES.values()) - {"log"}


def test_there_are_versions_to_compare_with() -> None:
    assert len(API) >= 5
