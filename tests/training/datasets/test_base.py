"""Scales of labels."""

import numpy as np
import pytest

from iqa_runtime.errors import UsageError
from iqa_training.datasets import LabelScale

ROUNDING = 1e-12
"""Normalising is a difference and a quotient in float64: a few units in the last place of numbers near 1."""


@pytest.mark.parametrize(("kind", "best", "worst"), [("MOS", 5, 1), ("DMOS", 1, 5)])
def test_scale_maps_best_to_1_and_back(kind, best, worst):
    scale = LabelScale(kind, 1, 5)
    assert (scale.normalise(best), scale.normalise(worst), scale.normalise(3)) == (1, 0, 0.5)
    assert scale.normalise(best + (best - worst)) == 2  # not clipped
    for raw in (1, 2.2, 5, 7):
        assert scale.denormalise(scale.normalise(raw)) == pytest.approx(raw, abs=10 * ROUNDING)


@pytest.mark.parametrize("ends", [(1, 1), (5, 1), (0, np.inf), (np.nan, 1)])
def test_scale_without_two_ends_is_refused(ends):
    with pytest.raises(UsageError):
        LabelScale("MOS", *ends)
