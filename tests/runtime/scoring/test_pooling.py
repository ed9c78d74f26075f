import random
from fractions import Fraction

from iqa_runtime.scoring.pooling import pooled


def test_the_mean_is_exact_before_it_is_rounded_and_knows_no_order():
    """Where a running sum loses the small scores beside the large ones."""
    scores = [1e16, 1.0, -1e16, 1.0, 0.1]
    expected = float(sum(map(Fraction, scores)))  # the exact sum, rounded once
    for seed in range(5):
        random.Random(seed).shuffle(scores)
        assert pooled(scores) == expected / 5
    assert pooled([0.7]) == 0.7
