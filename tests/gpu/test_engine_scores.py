"""Engines on a GPU: the scores of ONNX Runtime on the CPU, and the same bits every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iqa_export.engine import EngineOptions, build_engine
from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.artefacts.host_key import Flavour
from iqa_runtime.artefacts.opening import open_graph, read_contract
from iqa_runtime.backends import GraphSpec
from iqa_runtime.backends.tensorrt import TensorRtBackend

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu")]

PRECISIONS = ["fp32", "fp16", "int8"]

BuildEngine = Callable[[str], Path]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_scores_are_those_of_onnx_runtime(
    engine: BuildEngine,
    artefact: Callable[[str], Path],
    score: Callable[..., Any],
    expected: Callable[[Path], Any],
    check_scores: Callable[..., None],
    precision: str,
) -> None:
    check_scores(score(engine(precision)), expected(artefact(precision)), precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_scores_have_the_same_bits_whatever_the_batch(
    engine: BuildEngine, score: Callable[..., Any], precision: str
) -> None:
    one, three, many = (score(engine(precision), batch_size=size) for size in (1, 3, 64))
    np.testing.assert_array_equal(three, one)
    np.testing.assert_array_equal(many, one)


def test_images_are_compared_with_their_references(
    library: Flavour,
    tmp_path: Path,
    score: Callable[..., Any],
    expected: Callable[[Path], Any],
    check_scores: Callable[..., None],
) -> None:
    source = find_artefact("edge-fr")
    build_engine(source, tmp_path / "fr.plan", EngineOptions(library=library))
    check_scores(score(tmp_path / "fr.plan"), expected(source), "fp32")


def test_every_stage_of_a_run_takes_time(engine: BuildEngine) -> None:
    plan = engine("fp32")
    spec = GraphSpec.of_artefact(read_contract(plan))
    with TensorRtBackend(open_graph(plan), spec, device="cuda", threads=1) as backend:
        batch = np.zeros((backend.items_per_run, *spec.inputs[0].item_shape), np.float32)
        times = backend.stage_times({"image": batch})
    assert min(times.host_to_device, times.compute, times.device_to_host) > 0
