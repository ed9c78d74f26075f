"""Backends: the common checks, and ONNX Runtime with its installations and devices."""

from __future__ import annotations

import itertools
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from changed_graphs import fix_batch, rename_input, rename_output, rewrite, shrink_input, unknown_operator
from iqa_runtime import ArtefactError, BackendError, DependencyError, FileError, Scorer, UsageError
from iqa_runtime.artefacts.graph_file import GraphFile
from iqa_runtime.backends import Backend, GraphSpec, TensorSpec, base, choose_backend
from iqa_runtime.backends.onnx_runtime import OnnxRuntimeBackend
from tiny_contract import unread

SPEC = GraphSpec((TensorSpec("image", (2,), "float32"),), (TensorSpec("score", ()), TensorSpec("twice", (2,))))


class Summing(Backend):
    """Sums in NumPy, three items a run, and remembers what it was asked."""

    name: ClassVar[str] = "summing"
    items_per_run = 3
    provider = "numpy"

    def __init__(self, **changes: Any) -> None:
        super().__init__(GraphFile(Path("sum.onnx"), b""), SPEC, device="cpu", threads=1)
        self.runs: list[tuple[tuple[int, ...], list[str]]] = []
        self.loaded = 0
        self.changes = changes

    def _load(self) -> None:
        self.loaded += 1

    def _run(self, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        image = inputs["image"]
        self.runs.append((image.shape, outputs))
        values = {"score": image.sum(axis=1), "twice": 2 * image, **self.changes}
        return [values[name] for name in outputs]

    def _release(self) -> None:
        self.loaded -= 1


def batch(items: int) -> NDArray[np.float32]:
    return np.arange(2 * items, dtype=np.float32).reshape(items, 2)


def test_a_batch_that_was_begun_ends_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    # A clock that advances by a second whenever it is read: each of the three runs of a batch lasts one.
    monkeypatch.setattr(base, "perf_counter", map(float, itertools.count()).__next__)
    with Summing() as backend:
        begun = [backend.begin({"image": first + batch(7)}, ["score"]) for first in range(3)]
        results = [running.result() for running in begun]
    for first, (outputs, seconds) in enumerate(results):
        np.testing.assert_array_equal(outputs["score"], (first + batch(7)).sum(axis=1))
        assert seconds == 3
    assert len(backend.runs) == 3 * 3


def test_a_cancelled_batch_leaves_out_what_has_not_begun() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Waiting(Summing):
        def _run(self, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
            begun.set()
            assert go_on.wait(5)
            return super()._run(inputs, outputs)

    with Waiting() as backend:
        running = backend.begin({"image": batch(9)}, ["score"])
        assert begun.wait(5)
        running.cancel()
        assert not running.has_ended, "nobody waits"
        go_on.set()
    assert len(backend.runs) == 1, "the run that had begun has ended, and the other two never began"
    assert running.has_ended


def test_the_library_failing_is_the_error_of_the_batch() -> None:
    class Failing(Summing):
        def _run(self, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
            raise BackendError("out of memory")

    with Failing() as backend:
        running = backend.begin({"image": batch(4)}, ["score"])
        with pytest.raises(BackendError, match="out of memory"):
            running.result()


def test_nothing_begins_on_a_backend_that_is_not_active() -> None:
    with pytest.raises(UsageError, match=r"call activate\(\) first"):
        Summing().begin({"image": batch(1)}, ["score"])


@pytest.mark.parametrize("items", [1, 2, 3, 4, 7])
def test_every_run_has_the_same_shape_and_the_filling_is_dropped(items: int) -> None:
    with Summing() as backend:
        results = backend.infer({"image": batch(items)}, ["twice", "score"])
    np.testing.assert_array_equal(results["score"], batch(items).sum(axis=1))
    np.testing.assert_array_equal(results["twice"], 2 * batch(items))
    assert {shape for shape, _ in backend.runs} == {(3, 2)}


class Parallel(Summing):
    """Runs two at once, and only gets on when both are there."""

    concurrent_runs = 2

    def __init__(self, **changes: Any) -> None:
        super().__init__(**changes)
        self.meeting = threading.Barrier(2, timeout=10)

    def _run(self, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        self.meeting.wait()
        return super()._run(inputs, outputs)


def model_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("iqa-model")]


def test_runs_go_on_at_once_and_their_results_keep_their_place() -> None:
    with Parallel() as backend:
        results = backend.infer({"image": batch(11)}, ["score"])
        assert len(model_threads()) == 2
    np.testing.assert_array_equal(results["score"], batch(11).sum(axis=1))
    assert not model_threads()


def test_the_error_of_one_of_several_runs_is_raised() -> None:
    with Parallel(score=np.zeros(1, np.float32)) as backend, pytest.raises(BackendError, match="'score'"):
        backend.infer({"image": batch(12)}, ["score"])
    assert not model_threads()


def test_outputs_not_asked_for_are_not_fetched() -> None:
    with Summing() as backend:
        assert set(backend.infer({"image": batch(2)}, ["score"])) == {"score"}
    assert backend.runs == [((3, 2), ["score"])]


def test_activation_is_needed_and_may_be_repeated() -> None:
    backend = Summing()
    with pytest.raises(UsageError, match="not active"):
        backend.infer({"image": batch(1)}, ["score"])
    backend.activate()
    backend.activate()
    assert backend.loaded == 1
    backend.deactivate()
    backend.deactivate()
    assert backend.loaded == 0
    with pytest.raises(UsageError, match="not active"):
        backend.infer({"image": batch(1)}, ["score"])


@pytest.mark.parametrize(
    ("inputs", "outputs", "complaint"),
    [
        ({}, ["score"], r"inputs are \[\]"),
        ({"image": batch(2), "other": batch(2)}, ["score"], "other"),
        ({"image": batch(2).astype(np.float64)}, ["score"], "float64"),
        ({"image": batch(2)[:, :1]}, ["score"], r"\(2, 1\)"),
        ({"image": batch(0)}, ["score"], r"\(0, 2\)"),
        ({"image": batch(2)}, ["beauty"], "no output 'beauty'"),
    ],
)
def test_inputs_and_names_are_checked(inputs: Any, outputs: list[str], complaint: str) -> None:
    with Summing() as backend, pytest.raises(UsageError, match=complaint):
        backend.infer(inputs, outputs)


@pytest.mark.parametrize("wrong", [np.zeros((3, 1), np.float32), np.zeros(1, np.float32), np.zeros(3, np.int64)])
def test_outputs_are_checked(wrong: NDArray[Any]) -> None:
    with Summing(score=wrong) as backend, pytest.raises(BackendError, match="'score'"):
        backend.infer({"image": batch(2)}, ["score"])


def test_a_backend_can_be_named_or_given(artefacts: Any) -> None:
    artefact = unread(artefacts.contract())
    for backend in (None, "onnxruntime", OnnxRuntimeBackend):
        assert choose_backend(artefact, backend).backend is OnnxRuntimeBackend
    assert choose_backend(artefact, Summing).backend is Summing
    with pytest.raises(UsageError, match="no backend 'torch'; choose one of: onnxruntime, openvino, tensorrt"):
        choose_backend(artefact, "torch")
    with pytest.raises(UsageError, match="'tensorrt' does not read ONNX files"):
        choose_backend(artefact, "tensorrt")
    with pytest.raises(UsageError, match="'summing' does not compute in it"):
        choose_backend(artefact, Summing, precision="bfloat16")


def test_the_backend_in_use_can_be_read(artefacts: Any) -> None:
    with Scorer(artefacts.mean(), threads=3) as scorer:
        assert (scorer.backend_name, scorer.provider) == ("onnxruntime", "CPUExecutionProvider")
        assert (scorer.threads, scorer.batch_size) == (3, 3)
    with Scorer(artefacts.mean(), threads=3, batch_size=5) as scorer:
        assert scorer.batch_size == 5


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:-1", "CPU", "cuda:1:2"])
def test_devices_it_does_not_know(artefacts: Any, device: str) -> None:
    with pytest.raises(UsageError, match="cpu, cuda or cuda:N"):
        Scorer(artefacts.mean(), device=device)


def test_a_provider_that_was_not_compiled_in(artefacts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendError, match=r"iqa-deploy\[gpu\]"):
        Scorer(artefacts.mean(), device="cuda")


class FakeSession:
    """Stands for a session that landed on `landed`, whatever was asked; remembers how it was opened."""

    landed = "CUDAExecutionProvider"
    opened: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, path: str, options: Any, **settings: Any) -> None:
        self.opened.append({"path": path, "options": options, **settings})

    def get_providers(self) -> list[str]:
        return [self.landed, "CPUExecutionProvider"]

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="image", type="tensor(float)", shape=["batch", 3, 32, 32])]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="score", type="tensor(float)", shape=["batch"])]


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> type[FakeSession]:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", FakeSession)
    monkeypatch.setattr(FakeSession, "opened", [])
    return FakeSession


def test_the_device_asked_for_is_the_device_used(artefacts: Any, fake_cuda: type[FakeSession]) -> None:
    with Scorer(artefacts.mean(), device="cuda:1") as scorer:
        assert scorer.provider == "CUDAExecutionProvider"
        assert scorer.batch_size == 8
    (session,) = fake_cuda.opened
    ((provider, options),) = session["providers"]
    assert provider == "CUDAExecutionProvider"
    assert options["device_id"] == "1"
    assert session["enable_fallback"] == 0


def test_a_provider_lost_on_the_way_is_an_error(
    artefacts: Any, fake_cuda: type[FakeSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_cuda, "landed", "CPUExecutionProvider")
    with pytest.raises(BackendError, match="fell back to CPUExecutionProvider"):
        Scorer(artefacts.mean(), device="cuda")


def test_cuda_libraries_among_the_python_packages_are_loaded_in_silence(
    artefacts: Any,
    fake_cuda: type[FakeSession],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    loaded = []

    def preload_dlls() -> None:
        loaded.append(len(fake_cuda.opened))
        print("Failed to load libcublas.so.13:\n no such file")

    monkeypatch.setattr(onnxruntime, "preload_dlls", preload_dlls)
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")
    Scorer(artefacts.mean(), device="cuda").close()
    assert loaded == [0], "before the session"
    monkeypatch.setattr(fake_cuda, "landed", "CPUExecutionProvider")
    complaint = r"\(Failed to load libcublas\.so\.13: no such file\).*CUDA 13\.0 and cuDNN 9: pip install"
    with pytest.raises(BackendError, match=complaint):
        Scorer(artefacts.mean(), device="cuda")
    assert capsys.readouterr().out == ""


def test_the_cpu_needs_no_cuda_libraries(artefacts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def preload_dlls() -> None:
        pytest.fail("loaded for nothing")

    monkeypatch.setattr(onnxruntime, "preload_dlls", preload_dlls)
    Scorer(artefacts.mean(), device="cpu").close()


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        (None, r'pip install "iqa-deploy\[cpu\]"'),
        (ModuleType("onnxruntime"), "in part only.*uninstall both"),
    ],
)
def test_a_missing_or_broken_library(
    artefacts: Any, monkeypatch: pytest.MonkeyPatch, module: ModuleType | None, complaint: str
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    with pytest.raises(DependencyError, match=complaint):
        Scorer(artefacts.mean(), backend="onnxruntime")


def test_a_library_that_fails_to_import(artefacts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libonnxruntime.so.1: cannot open')")
    monkeypatch.delitem(sys.modules, "onnxruntime")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DependencyError, match=r"libonnxruntime\.so\.1: cannot open.*uninstall both"):
        Scorer(artefacts.mean())


def test_session_settings_are_the_sessions_own(artefacts: Any, fake_cuda: type[FakeSession]) -> None:
    with Scorer(artefacts.mean(), device="cuda", threads=3):
        pass
    options = fake_cuda.opened[0]["options"]
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert onnxruntime.SessionOptions().log_severity_level != options.log_severity_level


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (rename_input, "'pixels'"),
        (shrink_input, "16"),
        (fix_batch, r"\[1, 3, 32, 32\]"),
        (rename_output, "'beauty'"),
        (unknown_operator, "cannot load it.*Beautify"),
    ],
)
def test_a_graph_that_is_not_its_contract(artefacts: Any, capfd: Any, change: Any, complaint: str) -> None:
    with pytest.raises(ArtefactError, match=complaint):
        Scorer(rewrite(artefacts.mean(), change))
    assert capfd.readouterr().out == ""


def test_a_graph_of_another_number_format(artefacts: Any) -> None:
    half = onnx.load(artefacts.mean("half", dtype="float16"))
    with pytest.raises(ArtefactError, match=r"float16"):
        Scorer(rewrite(artefacts.mean(), lambda model: model.graph.CopyFrom(half.graph)))


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"gone\.onnx"):
        Scorer(tmp_path / "gone.onnx")


def test_a_failing_run_is_a_backend_error(artefacts: Any) -> None:
    class Cutting(OnnxRuntimeBackend):
        """Hands the library what does not fit the graph."""

        def _run(self, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
            return super()._run({name: tensor[..., :4] for name, tensor in inputs.items()}, outputs)

    with Scorer(artefacts.mean(), backend=Cutting) as scorer:
        (result,) = scorer.score_many([np.zeros((40, 40, 3), np.uint8)])
    assert isinstance(result.error, BackendError)
    assert "ONNX Runtime failed" in str(result.error)
