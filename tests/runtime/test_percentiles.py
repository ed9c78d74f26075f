"""The place of a score among those of a population."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from iqa_runtime import Scorer
from iqa_runtime.contract import Quantiles, ScoreOutput
from iqa_runtime.percentiles import percentile

UNIT = ScoreOutput(low=0.0, high=1.0, higher_is_better=True, bounded=True, scale="brightness")


@pytest.mark.parametrize(
    ("scores", "score", "higher", "lower"),
    [
        ((0.0, 1.0), 0.25, 25, 75),
        ((0.0, 1.0), 0.0, 0, 100),
        ((0.0, 1.0), 1.0, 100, 0),
        ((0.0, 1.0), -7.0, 0, 100),
        ((0.0, 1.0), 7.0, 100, 0),
        ((0.0, 0.5, 0.6, 1.0, 3.0), 0.55, 37.5, 62.5),
        ((0.0, 0.5, 0.6, 1.0, 3.0), 2.0, 87.5, 12.5),
        ((-3.0, -1.0, 1.0), -1.0, 50, 50),
        # What is equal is not worse, whichever way the score points.
        ((0.0, 0.5, 0.5, 0.5, 1.0), 0.5, 25, 25),
        ((2.0, 2.0, 2.0), 2.0, 0, 0),
    ],
)
def test_percentile_is_the_share_that_is_worse(
    scores: tuple[float, ...], score: float, higher: float, lower: float
) -> None:
    quantiles = Quantiles(population="photographs", images=100, scores=scores)
    assert percentile(replace(UNIT, quantiles=quantiles), score) == pytest.approx(higher, abs=1e-9)
    assert percentile(replace(UNIT, quantiles=quantiles, higher_is_better=False), score) == pytest.approx(
        lower, abs=1e-9
    )


def test_percentile_of_a_large_sample_is_its_empirical_distribution() -> None:
    sample = np.random.default_rng(3).normal(size=5000)
    quantiles = Quantiles(population="noise", images=5000, scores=tuple(np.quantile(sample, np.linspace(0, 1, 101))))
    for value in (-1.7, -0.3, 0.0, 0.9, 2.1):
        # A percent lies between two quantiles.
        assert percentile(replace(UNIT, quantiles=quantiles), value) == pytest.approx(
            100 * (sample < value).mean(), abs=1
        )
        assert percentile(replace(UNIT, quantiles=quantiles, higher_is_better=False), value) == pytest.approx(
            100 * (sample > value).mean(), abs=1
        )


def test_results_have_it_where_the_artefact_has_quantiles(artefacts: Any) -> None:
    image = np.full((40, 40, 3), 51, np.uint8)
    _, cut = cv2.imencode(".png", image)
    quantiles = Quantiles(population="squares", images=9, scores=(0.0, 0.4, 1.0))
    with Scorer(artefacts.mean("placed", score=replace(UNIT, quantiles=quantiles))) as scorer:
        assert scorer.score(image).percentile == pytest.approx(25, abs=1e-4)  # 51 / 255 in float32
        assert next(scorer.score_many([cut.tobytes()[:40]])).percentile is None
    with Scorer(artefacts.mean()) as scorer:
        assert scorer.score(image).percentile is None
