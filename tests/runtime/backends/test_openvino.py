"""OpenVINO: scores, bits, precision, refusals; and the rule by which a backend is chosen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from changed_graphs import fix_batch, rename_input, rename_output, rewrite, shrink_input, unknown_operator
from iqa_runtime import ArtefactError, BackendError, DependencyError, FileError, Scorer, UsageError
from iqa_runtime.artefacts.opening import open_graph
from iqa_runtime.backends import GraphSpec, TensorSpec
from iqa_runtime.backends.openvino import OpenVinoBackend
from processor import has_bfloat16

pytestmark = pytest.mark.openvino

Noise = Callable[..., NDArray[np.uint8]]

FLOAT32_SUM = 1e-5
"""Two libraries add the same float32 products in another order; scores here are of order one."""

BFLOAT16_EPSILON = 2.0**-8
"""Relative distance of neighbouring bfloat16 numbers, half of it the error of one rounding."""

SPEC = GraphSpec((TensorSpec("image", (3, 32, 32), "float32"),), (TensorSpec("score", ()),))


def make(artefact: Path, **changes: Any) -> OpenVinoBackend:
    return OpenVinoBackend(open_graph(artefact), SPEC, **{"device": "cpu", "threads": 1, **changes})


def crops(items: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((items, 3, 32, 32), dtype=np.float32)


def infer(artefact: Path, items: int = 6, **changes: Any) -> NDArray[np.float32]:
    with make(artefact, **changes) as backend:
        return backend.infer({"image": crops(items)}, ["score"])["score"]


def quantised(artefacts: Any) -> Path:
    """Score = mean of a convolution whose input and weights are symmetric int8, as in graphs made for TensorRT."""
    random = np.random.default_rng(1)
    constants = [
        numpy_helper.from_array(random.integers(-127, 128, (16, 3, 3, 3)).astype(np.int8), "weight_int8"),
        numpy_helper.from_array(np.full(16, 0.01, np.float32), "weight_scale"),
        numpy_helper.from_array(np.zeros(16, np.int8), "weight_zero"),
        numpy_helper.from_array(np.float32(1 / 127), "scale"),
        numpy_helper.from_array(np.int8(0), "zero"),
        numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["image_int8"]),
        helper.make_node("DequantizeLinear", ["image_int8", "scale", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["weight_int8", "weight_scale", "weight_zero"], ["weight"], axis=0),
        helper.make_node("Conv", ["rounded", "weight"], ["features"]),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("ReduceMean", ["positive", "axes"], ["score"], keepdims=0),
    ]
    path: Path = artefacts.write("quantised", nodes, constants, artefacts.contract(precision="int8", target="tensorrt"))
    return path


def weight_only(artefacts: Any) -> Path:
    """Score = mean square of a dense layer whose weights are int8 and whose input is float."""
    random = np.random.default_rng(2)
    constants = [
        numpy_helper.from_array(random.integers(-127, 128, (1024, 512)).astype(np.int8), "weight_int8"),
        numpy_helper.from_array(np.full(512, 3e-4, np.float32), "weight_scale"),
        numpy_helper.from_array(np.zeros(512, np.int8), "weight_zero"),
        numpy_helper.from_array(np.array([0, 3, -1], np.int64), "rows"),
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
    ]
    nodes = [
        helper.make_node("Reshape", ["image", "rows"], ["planes"]),
        helper.make_node("DequantizeLinear", ["weight_int8", "weight_scale", "weight_zero"], ["weight"], axis=1),
        helper.make_node("MatMul", ["planes", "weight"], ["features"]),
        helper.make_node("Mul", ["features", "features"], ["squares"]),
        helper.make_node("ReduceMean", ["squares", "axes"], ["score"], keepdims=0),
    ]
    path: Path = artefacts.write("weight_only", nodes, constants, artefacts.contract())
    return path


@pytest.mark.parametrize("kind", ["mean", "difference", "packed", "cached", "baked", "mapped", "deep"])
def test_scores_are_those_of_onnx_runtime(artefacts: Any, noise: Noise, kind: str) -> None:
    path = getattr(artefacts, kind)()
    image, reference = noise(64, 80, 1), noise(64, 80, 2)
    results = []
    for name in ("onnxruntime", "openvino"):
        with Scorer(path, backend=name, threads=2) as scorer:
            results.append(scorer.score(image, reference if scorer.contract.needs_reference else None))
            assert scorer.backend_name == name
    expected, got = results
    np.testing.assert_allclose(got.patch_scores, expected.patch_scores, rtol=0, atol=FLOAT32_SUM)
    assert got.patches == expected.patches


def test_maps_and_restored_images_come_too(artefacts: Any, noise: Noise) -> None:
    image = noise(48, 50)
    for path, wanted in ((artefacts.mapped(), {"maps": True}), (artefacts.restoring(), {"restored": True})):
        with Scorer(path, backend="openvino", **wanted) as scorer, Scorer(path, **wanted) as other:
            got, expected = scorer.score(image), other.score(image)
        for name in ("map", "restored"):
            if getattr(expected, name) is not None:
                np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=0, atol=FLOAT32_SUM)


def test_a_float16_graph_runs(artefacts: Any) -> None:
    with Scorer(artefacts.mean(dtype="float16"), backend="openvino") as scorer:
        got = scorer.score(np.full((32, 32, 3), 51, np.uint8))
    assert got.value == pytest.approx(0.2, abs=2.0**-12)  # half a float16 step below 0.25


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("graph", ["deep", "quantised"])
def test_bits_do_not_depend_on_batch_threads_or_order(artefacts: Any, graph: str, precision: str) -> None:
    path = artefacts.deep() if graph == "deep" else quantised(artefacts)
    if precision == "bfloat16" and not has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    image = crops(9)
    with make(path, precision=precision) as backend:
        expected = np.concatenate([backend.infer({"image": image[[i]]}, ["score"])["score"] for i in range(9)])
    order = np.random.default_rng(3).permutation(9)
    for threads in (1, 2, 5):
        with make(path, precision=precision, threads=threads) as backend:
            np.testing.assert_array_equal(backend.infer({"image": image}, ["score"])["score"], expected)
            np.testing.assert_array_equal(backend.infer({"image": image[order]}, ["score"])["score"], expected[order])
    assert len(set(expected.tolist())) == 9


def test_callers_in_several_threads_do_not_mix(artefacts: Any) -> None:
    image = crops(24)
    with make(artefacts.deep(), threads=2) as backend:
        expected = backend.infer({"image": image}, ["score"])["score"]
        with ThreadPoolExecutor(6) as callers:
            parts = callers.map(lambda i: backend.infer({"image": image[[i]]}, ["score"])["score"], range(24))
            np.testing.assert_array_equal(np.concatenate(list(parts)), expected)


def test_a_later_run_leaves_earlier_outputs_alone(artefacts: Any) -> None:
    with make(artefacts.mean()) as backend:
        (first,) = backend._run({"image": np.full((1, 3, 32, 32), 0.25, np.float32)}, ["score"])
        backend._run({"image": np.full((1, 3, 32, 32), 0.75, np.float32)}, ["score"])
    assert first.tolist() == [0.25]


def test_float32_unless_bfloat16_is_asked_for(artefacts: Any) -> None:
    if not has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    path = artefacts.deep()
    full, rounded = infer(path), infer(path, precision="bfloat16")
    # Eight layers deep, errors of single roundings add up; the scores' own spread is what they must not drown.
    spread = np.ptp(full)
    assert BFLOAT16_EPSILON / 64 * spread < np.abs(rounded - full).max() < 64 * BFLOAT16_EPSILON * spread
    assert (make(path).provider, make(path, precision="bfloat16").provider) == ("CPU (float32)", "CPU (bfloat16)")


def test_a_processor_without_bfloat16_is_an_error(artefacts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = infer(artefacts.mean())
    monkeypatch.setattr(sys.modules["openvino"].Core, "get_property", Mock(return_value=["FP32", "INT8"]))
    np.testing.assert_array_equal(infer(artefacts.mean()), expected)
    with pytest.raises(BackendError, match="no bfloat16"):
        infer(artefacts.mean(), precision="bfloat16")


def test_float_inputs_of_int8_weights_are_not_rounded(artefacts: Any) -> None:
    path = weight_only(artefacts)
    weight = numpy_helper.to_array(onnx.load(path).graph.initializer[0]).astype(np.float64) * 3e-4
    expected = ((crops(6).reshape(6, 3, -1).astype(np.float64) @ weight) ** 2).mean(axis=(1, 2))
    np.testing.assert_allclose(infer(path), expected, rtol=FLOAT32_SUM)


def test_settings_against_crashes_and_silent_rounding_are_given(
    artefacts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from iqa_runtime.backends.openvino import _import_openvino

    core, given = _import_openvino().Core, []
    original = core.compile_model

    def recording(self: Any, model: Any, device: str, settings: dict[str, Any]) -> Any:
        given.append(settings)
        return original(self, model, device, settings)

    monkeypatch.setattr(core, "compile_model", recording)
    infer(artefacts.mean(), threads=2)
    (settings,) = given
    assert settings["SNIPPETS_MODE"] == "DISABLE"
    assert settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] == 0
    assert settings["ENABLE_CPU_PINNING"] is False
    assert (settings["NUM_STREAMS"], settings["INFERENCE_NUM_THREADS"]) == (2, 2)


def test_the_import_reports_to_nobody(tmp_path: Path, artefacts: Any) -> None:
    code = (
        "import sys, threading; from iqa_runtime import Scorer; Scorer(sys.argv[1], backend='openvino', threads=1);"
        "print('openvino_telemetry' in sys.modules, threading.active_count())"
    )
    home = tmp_path / "home"
    home.mkdir()
    finished = subprocess.run(
        [sys.executable, "-c", code, str(artefacts.mean())],
        env={**os.environ, "HOME": str(home), "LOCALAPPDATA": str(home)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert finished.stdout.split() == ["False", "1"]
    assert list(home.iterdir()) == []


def test_threads_find_the_binding_set_up(artefacts: Any) -> None:
    """Whatever the first tensor of a process imports lets a second thread in, and both would hang."""
    code = """
import builtins, sys
import numpy
from iqa_runtime import Scorer

Scorer(sys.argv[1], backend="openvino").close()
import openvino

imported = []
find = builtins.__import__
builtins.__import__ = lambda name, *rest, **more: (imported.append(name), find(name, *rest, **more))[1]
openvino.Tensor(numpy.zeros(1, numpy.float32), shared_memory=True).data
builtins.__import__ = find
sys.exit(str(imported) if imported else 0)
"""
    ended = subprocess.run([sys.executable, "-c", code, artefacts.mean()], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (rename_input, "'pixels'"),
        (shrink_input, "16"),
        (fix_batch, r"\[1,3,32,32\]"),
        (rename_output, "'beauty'"),
        (unknown_operator, "cannot load it.*Beautify"),
    ],
)
def test_a_graph_that_is_not_its_contract(artefacts: Any, capfd: Any, change: Any, complaint: str) -> None:
    with pytest.raises(ArtefactError, match=complaint) as caught:
        Scorer(rewrite(artefacts.mean(), change), backend="openvino")
    assert "\n" not in str(caught.value)
    assert ".cpp" not in str(caught.value)
    assert capfd.readouterr().out == ""


def test_a_graph_of_another_number_format(artefacts: Any) -> None:
    with pytest.raises(ArtefactError, match=r"f16 .*float32"):
        infer(artefacts.mean(dtype="float16"))


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"gone\.onnx"):
        make(tmp_path / "gone.onnx").activate()


@pytest.mark.parametrize(("option", "value"), [("device", "gpu"), ("device", "cuda"), ("precision", "float16")])
def test_what_it_does_not_have_is_refused(artefacts: Any, option: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"{option}={value}"):
        make(artefacts.mean(), **{option: value})


def test_a_failing_run_is_a_backend_error_and_harms_no_later_one(artefacts: Any) -> None:
    with make(artefacts.mean()) as backend:
        with pytest.raises(BackendError, match="OpenVINO failed"):
            backend._run({"image": np.zeros((1, 3, 4, 4), np.float32)}, ["score"])
        assert backend.infer({"image": np.ones((2, 3, 32, 32), np.float32)}, ["score"])["score"].tolist() == [1, 1]
    with pytest.raises(UsageError, match="deactivated"):
        backend._run({}, ["score"])


@pytest.mark.parametrize(
    ("module", "complaint"),
    [(None, r"pip install \"iqa-deploy\[openvino\]\""), (ModuleType("openvino"), "in part only")],
)
def test_the_library_is_missing_or_broken(
    artefacts: Any, monkeypatch: pytest.MonkeyPatch, module: ModuleType | None, complaint: str
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", module)
    with pytest.raises(DependencyError, match=complaint):
        infer(artefacts.mean())


@pytest.mark.parametrize("task", ["nr", "fr"])
def test_whole_pictures_at_their_own_size(artefacts: Any, noise: Noise, task: str) -> None:
    path = artefacts.whole(task=task, cell=4, multiple=4, fit="reflect")
    pictures = [noise(*size, seed) for seed, size in enumerate([(40, 64), (37, 53), (5, 90), (64, 40), (37, 53)])]
    references = [255 - picture for picture in pictures] if task == "fr" else None
    with Scorer(path, backend="onnxruntime", maps=True) as scorer:
        expected = list(scorer.score_many(pictures, references))
    runs = []
    for threads, order in ((1, 1), (3, 1), (2, -1)):
        with Scorer(path, backend="openvino", threads=threads, maps=True) as scorer:
            others = None if references is None else references[::order]
            runs.append(list(scorer.score_many(pictures[::order], others))[::order])
    for ours, *same in zip(expected, *runs, strict=True):
        assert ours.error is None
        assert same[0].value == pytest.approx(ours.value, abs=FLOAT32_SUM)
        assert {other.value for other in same} == {same[0].value}
        np.testing.assert_allclose(same[0].map, ours.map, atol=FLOAT32_SUM)


def test_whole_pictures_of_a_fixed_size(artefacts: Any, noise: Noise) -> None:
    path = artefacts.whole(size=(24, 40))
    pictures = [noise(30, 50, seed) for seed in range(4)]
    values = []
    for backend in ("onnxruntime", "openvino"):
        with Scorer(path, backend=backend, threads=2) as scorer:
            values.append([score.value for score in scorer.score_many(pictures)])
    np.testing.assert_allclose(*values, rtol=0, atol=FLOAT32_SUM)


def test_a_picture_that_is_too_small_costs_no_other_its_score(artefacts: Any, noise: Noise) -> None:
    with Scorer(artefacts.whole(), backend="openvino", threads=2) as scorer:
        results = list(scorer.score_many([noise(8, 8), noise(3, 3), noise(9, 9)]))
    assert [type(result.error) for result in results] == [type(None), BackendError, type(None)]
