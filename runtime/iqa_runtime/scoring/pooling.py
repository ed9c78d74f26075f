"""From the scores of crops to that of their image."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pooled(scores: Sequence[float]) -> float:
    """Return the mean of one or more finite scores, summed exactly, so that their order cannot matter."""
    return math.fsum(scores) / len(scores)
