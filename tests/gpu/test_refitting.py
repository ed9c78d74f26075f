"""Weights put into engines without a build, and the scores they then give; of TensorRT alone."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from iqa_export.checkpoints import read_checkpoint
from iqa_export.engine import EngineOptions, build_engine, refit_engine
from iqa_export.exporting import Request, export
from iqa_export.systems import GraphChoice, find_system
from iqa_runtime.artefacts.bundled import find_artefact

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu", "tensorrt")]

GAIN = 1.02
"""Makes other scores of the same graph, and no overflow."""


@pytest.fixture(scope="module")
def tensorrt() -> None:
    if find_spec("tensorrt") is None:
        pytest.skip("TensorRT is not installed")


def test_a_refittable_engine_takes_other_weights(
    tmp_path: Path, score: Callable[..., Any], expected: Callable[[Path], Any], check_scores: Callable[..., None]
) -> None:
    source = find_artefact("edge-nr")
    model = onnx.load(source)
    for weight in [entry for entry in model.graph.initializer if entry.name.endswith("weight") and len(entry.dims) > 1]:
        weight.CopyFrom(numpy_helper.from_array(np.float32(GAIN) * numpy_helper.to_array(weight), weight.name))
    onnx.save(model, tmp_path / "tuned.onnx")
    build_engine(source, tmp_path / "edge.plan", EngineOptions(refittable=True, library="tensorrt"))
    refit_engine(tmp_path / "edge.plan", tmp_path / "tuned.onnx", tmp_path / "tuned.plan")
    tuned = expected(tmp_path / "tuned.onnx")
    check_scores(score(tmp_path / "tuned.plan"), tuned, "fp32")
    check_scores(score(tmp_path / "edge.plan"), expected(source), "fp32")
    with pytest.raises(AssertionError):
        check_scores(expected(source), tuned, "fp32")


def test_a_stripped_engine_gets_its_weights_back(
    tmp_path: Path, score: Callable[..., Any], expected: Callable[[Path], Any], check_scores: Callable[..., None]
) -> None:
    source = find_artefact("edge-nr")
    stripped, full = tmp_path / "stripped.plan", tmp_path / "full.plan"
    build_engine(source, stripped, EngineOptions(strip=True, library="tensorrt"))
    refit_engine(stripped, source, full)
    assert stripped.stat().st_size < full.stat().st_size
    check_scores(score(full), expected(source), "fp32")


def test_an_engine_with_a_reference_encoder_gets_the_weights_of_both(
    tmp_path: Path, score: Callable[..., Any], expected: Callable[[Path], Any], check_scores: Callable[..., None]
) -> None:
    system = find_system("yoto")
    source = tmp_path / "edge-fr.onnx"
    request = Request(
        system=system,
        choice=GraphChoice(variant="edge", task="fr"),
        checkpoint=read_checkpoint(system.bundled["edge"]),
        output=source,
        patch_plan=system.patch_plan,
        cache_reference=True,
    )
    assert export(request).passed
    build_engine(source, tmp_path / "stripped.plan", EngineOptions(strip=True, library="tensorrt"))
    refit_engine(tmp_path / "stripped.plan", source, tmp_path / "full.plan")
    check_scores(score(tmp_path / "full.plan"), expected(source), "fp32")
