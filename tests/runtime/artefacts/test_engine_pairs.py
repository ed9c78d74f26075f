"""Engines with a reference encoder, from the export to the score, on the stand-ins for TensorRT and CUDA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copy

import numpy as np
import pytest
from numpy.typing import NDArray

from fake_cuda import FakeCudaRuntime
from fake_engines import stand_ins
from fake_tensorrt_sources import SIDE, write_cached
from iqa_export.engine import EngineOptions, build_engine, refit_engine
from iqa_runtime.artefacts.files import description_path, encoder_plan
from iqa_runtime.artefacts.signing import signature_path
from iqa_runtime.errors import ArtefactError
from iqa_runtime.scorer import Scorer
from signing_keys import write_key_pair

EXACT = 1e-6
"""float32 rounding of a difference of means of values up to one."""

Noise = Callable[..., NDArray[np.uint8]]


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCudaRuntime]:
    with stand_ins(monkeypatch) as (_, runtime):
        yield runtime


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_cached(tmp_path / "x.onnx")


def check_score(plan: Path, noise: Noise, trust: Path | None = None) -> None:
    """Score one crop; the stand-in's engines give the mean of the crop less that of the features."""
    image, reference = noise(SIDE, SIDE, 0), noise(SIDE, SIDE, 1)
    with Scorer(plan, threads=1, crops="center", trust=trust) as scorer:
        value = scorer.score(image, reference).value
    # Normalised with mean and deviation 1/2, so that the means differ by twice as much.
    assert value == pytest.approx(2 * (image.mean() - reference.mean()) / 255, abs=EXACT)


def test_what_was_built_is_scored_with(source: Path, tmp_path: Path, noise: Noise) -> None:
    build_engine(source, tmp_path / "built.plan", EngineOptions())
    check_score(tmp_path / "built.plan", noise)


@pytest.mark.parametrize("options", [EngineOptions(strip=True), EngineOptions(refittable=True)])
def test_what_was_refitted_is_scored_with(source: Path, tmp_path: Path, noise: Noise, options: EngineOptions) -> None:
    build_engine(source, tmp_path / "x.plan", options)
    refit_engine(tmp_path / "x.plan", source, tmp_path / "full.plan")
    check_score(tmp_path / "full.plan", noise)


def test_what_was_signed_is_trusted_in_both_parts(source: Path, tmp_path: Path, noise: Noise) -> None:
    private, public = write_key_pair(tmp_path)
    plan = tmp_path / "x.plan"
    build_engine(source, plan, EngineOptions(sign=private))
    check_score(plan, noise, public)
    signature_path(description_path(encoder_plan(plan))).unlink()
    with pytest.raises(ArtefactError, match=r"x\.reference\.plan\.json\.sig: not there"):
        Scorer(plan, trust=public)


def test_the_encoder_of_another_build_is_refused(source: Path, tmp_path: Path) -> None:
    plan, other = tmp_path / "x.plan", tmp_path / "other.plan"
    build_engine(source, plan, EngineOptions())
    build_engine(write_cached(tmp_path / "other.onnx", bias=0.5), other, EngineOptions())
    for path in (encoder_plan, lambda plan: description_path(encoder_plan(plan))):
        copy(path(other), path(plan))
    with pytest.raises(ArtefactError, match=r"x\.plan was made with .*use the two engines of one build"):
        Scorer(plan)
