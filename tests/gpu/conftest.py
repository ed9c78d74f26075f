"""What the tests on a GPU share: the GPU, or the reason to skip; pictures, artefacts, engines and their scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from iqa_calibration.gate.agreement import spread_of
from iqa_calibration.gate.gate import LIMITS
from iqa_calibration.images.degradations import KINDS, LEVELS, degrade
from iqa_calibration.jobs.forms import Form
from iqa_calibration.jobs.job import Request, calibrate
from iqa_calibration.photographs import packaged_photographs
from iqa_export.engine import EngineOptions, build_engine
from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.artefacts.host_key import TITLES, Flavour
from iqa_runtime.cpu import available_cpus
from iqa_runtime.cuda import Gpu, describe_gpu
from iqa_runtime.errors import DependencyError
from iqa_runtime.images.loading import load_image
from iqa_runtime.scorer import Scorer

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]

TOLERANCES = {
    # Parity at export allows 1e-4 of the largest score, of which the spread is more than half; TF32 is off.
    "fp32": 2e-4,
    # Which sums stay in float32 is a kernel's own choice, so each side may be as far from float32 as the gate allows.
    "fp16": 2 * LIMITS["fp16"].largest,
    # Half of what the gate allows between int8 and float32: where a value lies between two levels rounding decides, and
    # so ONNX Runtime's own kernels differ by 0.6 % on this graph, those on integers from those on floats between Q/DQ.
    "int8": LIMITS["int8"].largest / 2,
}
"""Largest difference from ONNX Runtime on the CPU with the same graph, as a share of the scores' spread."""


@pytest.fixture(scope="session")
def gpu() -> Gpu:
    """The first GPU; what asks for it is skipped where there is none."""
    try:
        found = describe_gpu(0)
    except DependencyError as error:
        pytest.skip(str(error))
    if found is None:
        pytest.skip("no NVIDIA GPU was found")
    return found


@pytest.fixture(scope="session", params=list(TITLES))
def library(request: pytest.FixtureRequest, gpu: Gpu) -> Flavour:
    """Each of the two libraries that is installed."""
    del gpu  # without one, nothing is asked of them
    found: Flavour = request.param
    if find_spec(found) is None:
        pytest.skip(f"{TITLES[found]} is not installed")
    return found


@pytest.fixture(scope="session")
def pictures() -> list[Pair]:
    """Packaged photographs, each as it is and mildly and severely degraded, beside the photograph itself."""
    photographs = [load_image(source) for source in packaged_photographs()]
    return [
        (degrade(photograph, kind, level, seed=0), photograph)
        for photograph in photographs
        for kind, level in [(KINDS[0], 0), *((kind, level) for kind in KINDS for level in (1, LEVELS))]
    ]


@pytest.fixture(scope="session")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from a precision to the bundled edge model in it, as TensorRT takes it."""
    folder = tmp_path_factory.mktemp("artefacts")

    @cache
    def make(precision: str) -> Path:
        bundled = find_artefact("edge-nr")
        if precision == "fp32":
            return bundled
        request = Request(
            artefact=bundled,
            form=Form.choose(precision, target="tensorrt" if precision == "int8" else None),  # type: ignore[arg-type]
            images=tuple(packaged_photographs()),
            output=folder / f"edge-nr.{precision}.onnx",
            threads=available_cpus(),
        )
        with warnings.catch_warnings():
            # That the photographs are few.
            warnings.simplefilter("ignore", UserWarning)
            assert calibrate(request).passed
        return request.output

    return make


@pytest.fixture(scope="session")
def engine(
    library: Flavour, artefact: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Return a function from a precision to the engine of its artefact."""
    folder = tmp_path_factory.mktemp(library)

    @cache
    def build(precision: str) -> Path:
        plan = folder / f"{precision}.plan"
        build_engine(artefact(precision), plan, EngineOptions(library=library, opt_batch=4, max_batch=8))
        return plan

    return build


Score = Callable[..., NDArray[np.float64]]


@pytest.fixture(scope="session")
def score(pictures: list[Pair]) -> Score:
    """Return a function from an artefact, and options of `Scorer`, to the scores of all pictures."""

    def run(path: Path, **options: Any) -> NDArray[np.float64]:
        with Scorer(path, **options) as scorer:
            references = [original for _, original in pictures] if scorer.contract.needs_reference else None
            results = list(scorer.score_many([picture for picture, _ in pictures], references))
        assert [result.error for result in results] == [None] * len(pictures)
        return np.array([result.value for result in results])

    return run


@pytest.fixture(scope="session")
def expected(score: Score) -> Callable[[Path], NDArray[np.float64]]:
    """Return a function from an artefact to the scores of ONNX Runtime on the CPU."""

    @cache
    def compute(path: Path) -> NDArray[np.float64]:
        with warnings.catch_warnings():
            # That a graph made for TensorRT may be slow on it.
            warnings.simplefilter("ignore", UserWarning)
            return score(path, backend="onnxruntime", device="cpu")

    return compute


@pytest.fixture(scope="session")
def check_scores() -> Callable[[Sequence[float], Sequence[float], str], None]:
    """Return a function that compares scores, the second ones being right, as a precision allows."""

    def check(found: Sequence[float], right: Sequence[float], precision: str) -> None:
        spread = spread_of(np.asarray(right))
        assert spread > 0
        np.testing.assert_allclose(found, right, rtol=0, atol=TOLERANCES[precision] * spread)

    return check
