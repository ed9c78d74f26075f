import random
from fractions import Fraction

import numpy as np
import pytest

from iqa_runtime import Scorer
from iqa_runtime.scoring.pooling import pooled


def test_the_mean_is_exact_before_it_is_rounded_and_knows_no_order():
    """Where a running sum loses the small scores beside the large ones."""
    scores = [1e16, 1.0, -1e16, 1.0, 0.1]
    expected = float(sum(map(Fraction, scores)))  # the exact sum, rounded once
    for seed in range(5):
        random.Random(seed).shuffle(scores)
        assert pooled(scores, "mean") == expected / 5
    assert pooled([0.7], "mean") == 0.7


@pytest.mark.parametrize(
    ("pooling", "value"), [("mean", 0.5), ("median", 0.45), ("min", 0.1), ("max", 1.0), ("p05", 0.145)]
)
def test_the_contract_says_how(artefacts, pooling, value):
    """The 5th percentile of four lies 0.05 * 3 of the way from the least to the next: 0.1 + 0.15 * 0.3."""
    scores = [0.5, 0.1, 1.0, 0.4]
    assert pooled(scores, pooling) == pytest.approx(value)
    picture = np.repeat(np.array(scores) * 255, artefacts.side)[None, :, None].repeat(artefacts.side, 0).repeat(3, 2)
    with Scorer(artefacts.mean(pooling=pooling), crops=f"grid:{artefacts.side}") as scorer:
        result = scorer.score(picture.round().astype(np.uint8))
    assert result.value == pooled(result.patch_scores, pooling) == pytest.approx(value, abs=1 / 255)
