"""ONNX Runtime's CUDA provider: the scores of its CPU provider, and the same bits every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iqa_runtime.artefacts.bundled import find_artefact

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu", "provider")]


@pytest.fixture(scope="module")
def provider() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("the installed ONNX Runtime has no CUDA provider")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_scores_are_those_of_the_cpu(
    artefact: Callable[[str], Path],
    score: Callable[..., Any],
    expected: Callable[[Path], Any],
    check_scores: Callable[..., None],
    precision: str,
) -> None:
    source = artefact(precision)
    check_scores(score(source, backend="onnxruntime", device="cuda"), expected(source), precision)


def test_images_are_compared_with_their_references(
    score: Callable[..., Any], expected: Callable[[Path], Any], check_scores: Callable[..., None]
) -> None:
    source = find_artefact("edge-fr")
    check_scores(score(source, device="cuda"), expected(source), "fp32")


def test_scores_have_the_same_bits_whatever_the_batch(score: Callable[..., Any]) -> None:
    one, three, many = (score(find_artefact("edge-nr"), device="cuda", batch_size=size) for size in (1, 3, 64))
    np.testing.assert_array_equal(three, one)
    np.testing.assert_array_equal(many, one)
