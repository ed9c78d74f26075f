"""Where OpenVINO is chosen, checked in a process of its own, and named in results."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from command_line import invoke
from iqa_runtime import Scorer, UsageError, backends
from iqa_runtime.artefacts.opening import open_artefact
from iqa_runtime.backends import GraphSpec, TensorSpec, choose_backend
from iqa_runtime.backends.openvino import OpenVinoBackend
from iqa_runtime.commands import check
from iqa_runtime.commands import run as cli
from iqa_runtime.commands.check import check_installation
from processor import has_bfloat16
from tiny_contract import unread

pytestmark = pytest.mark.openvino

Noise = Callable[..., NDArray[np.uint8]]

SPEC = GraphSpec((TensorSpec("image", (3, 32, 32), "float32"),), (TensorSpec("score", ()),))


def test_an_imported_library_without_a_spec_counts_as_installed(
    artefacts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", ModuleType("openvino"))
    choice = choose_backend(unread(artefacts.contract(target="openvino")))
    assert choice.backend is OpenVinoBackend


BOTH = ("onnxruntime", "openvino")


@pytest.mark.parametrize(
    ("installed", "target", "device", "expected"),
    [
        (BOTH, "any", "cpu", "onnxruntime"),
        (BOTH, "onnxruntime", "cpu", "onnxruntime"),
        (BOTH, "openvino", "cpu", "openvino"),
        (BOTH, "tensorrt", "cpu", "openvino"),
        (BOTH, "tensorrt", "cuda:1", "onnxruntime"),
        (("openvino",), "any", "cpu", "openvino"),
        (("openvino",), "onnxruntime", "cpu", "openvino"),
        (("onnxruntime",), "openvino", "cpu", "onnxruntime"),
        ((), "openvino", "cpu", "openvino"),
        ((), "any", "cpu", "onnxruntime"),
    ],
)
def test_the_best_installed_backend_is_chosen(
    artefacts: Any,
    monkeypatch: pytest.MonkeyPatch,
    installed: tuple[str, ...],
    target: str,
    device: str,
    expected: str,
) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: name if name in installed else None)
    choice = choose_backend(unread(artefacts.contract(target=target)), device=device)
    made_for = {"any": BOTH, "onnxruntime": ("onnxruntime",)}.get(target, ("openvino",))
    assert choice.backend.name == expected
    assert (choice.complaint is None) == (expected in made_for)


def test_bfloat16_is_openvinos_and_never_silent(artefacts: Any) -> None:
    plain = unread(artefacts.contract())
    judged = unread(artefacts.contract(precision="bf16", target="openvino"))
    choice = choose_backend(plain, precision="bfloat16")
    assert (choice.backend, choice.precision) == (OpenVinoBackend, "bfloat16")
    assert "judged in float32" in (choice.complaint or "")
    choice = choose_backend(judged)
    assert (choice.backend, choice.precision, choice.complaint) == (OpenVinoBackend, "bfloat16", None)
    assert "judged in bfloat16" in (choose_backend(judged, precision="float32").complaint or "")
    with pytest.raises(UsageError, match="'onnxruntime' does not compute in it"):
        choose_backend(plain, "onnxruntime", precision="bfloat16")
    with pytest.raises(UsageError, match="precision=int4"):
        choose_backend(plain, precision="int4")


def test_a_choice_makes_backends_in_its_precision(artefacts: Any) -> None:
    artefact = open_artefact(artefacts.mean())
    for precision in ("float32", "bfloat16"):
        choice = choose_backend(artefact, "openvino", precision=precision)
        backend = choice.create(artefact.graph, SPEC, threads=3)
        assert (backend.provider, backend.threads) == (f"CPU ({precision})", 3)


def test_check_compiles_in_a_process_of_its_own_first(artefacts: Any) -> None:
    steps = {step.name: step for step in check_installation(artefacts.mean(), backend="openvino", threads=1)}
    assert all(step.passed for step in steps.values())
    assert list(steps).index("compiling") < list(steps).index("backend")
    assert "CPU (float32)" in steps["backend"].detail
    assert "openvino" in steps["libraries"].detail


@pytest.mark.parametrize(
    ("code", "seconds", "complaint"),
    [
        ("import os; os.abort()", 60, "crashed a process of its own"),
        ("import threading; threading.Event().wait()", 1, "not done"),
    ],
)
def test_check_survives_a_crash(
    artefacts: Any, monkeypatch: pytest.MonkeyPatch, code: str, seconds: int, complaint: str
) -> None:
    monkeypatch.setattr(check, "_OPEN", code)
    monkeypatch.setattr(check, "_OPEN_SECONDS", seconds)
    *_, last = check_installation(artefacts.mean(), backend="openvino")
    assert (last.name, last.passed) == ("compiling", False)
    assert complaint in last.detail


def test_the_target_of_the_artefact_chooses_and_the_result_says_what_ran(artefacts: Any, noise: Noise) -> None:
    ran = {}
    for target in ("any", "onnxruntime", "openvino", "tensorrt"):
        with Scorer(artefacts.mean(target, target=target)) as scorer:
            ran[target] = scorer.score(noise(32, 32)).backend
    assert ran == {
        "any": "onnxruntime CPUExecutionProvider",
        "onnxruntime": "onnxruntime CPUExecutionProvider",
        "openvino": "openvino CPU (float32)",
        "tensorrt": "openvino CPU (float32)",
    }


@pytest.mark.parametrize(
    ("target", "options", "complaint"),
    [
        ("openvino", {"backend": "onnxruntime"}, "made for openvino and runs on onnxruntime"),
        ("any", {"precision": "bfloat16"}, "judged in float32 and runs in bfloat16"),
    ],
)
def test_running_otherwise_than_judged_is_a_warning(
    artefacts: Any, save_png: Any, noise: Noise, target: str, options: dict[str, str], complaint: str
) -> None:
    if "precision" in options and not has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    path = artefacts.mean(target=target)
    with pytest.warns(UserWarning, match=complaint):
        Scorer(path, **options).close()
    image = save_png(path.with_name("noise.png"), noise(32, 32))
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    result = invoke(cli.main, str(path), str(image), *arguments)
    assert result.exit_code == 0
    assert complaint in result.stderr
    assert options.get("backend", "openvino CPU (bfloat16)") in result.stderr.splitlines()[-1]
