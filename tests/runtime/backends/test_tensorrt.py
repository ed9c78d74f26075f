"""The TensorRT backend on stand-ins for TensorRT and CUDA; marked `gpu`, on the real ones."""

from __future__ import annotations

import threading
from collections.abc import Callable
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
from fake_cuda import FakeCudaRuntime, cudaError_t
from fake_tensorrt import Fake
from fake_tensorrt_types import DataType
from iqa_runtime.artefacts.opening import Artefact, open_graph
from iqa_runtime.backends import GraphSpec, TensorSpec, choose_backend
from iqa_runtime.backends.tensorrt import TensorRtBackend
from iqa_runtime.errors import BackendError, UsageError
from tiny_engines import BATCH, ITEM, SPEC, images, opened

EXACT = 1e-6
"""float32 rounding of a mean of values up to one, taken in float64 by both sides."""


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
