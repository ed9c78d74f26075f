"""From a severity, a number in (0, 5], to the parameter of one distortion."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

LEVELS = 5
"""Levels in the published table, 1 (mild) to 5 (strong)."""


@dataclass(frozen=True)
class Levels:
    """The parameter at the five levels, and the way between them.

    Attributes
    ----------
    values
        The parameter at levels 1 to 5.
    neutral
        The parameter that leaves the picture as it is, which severity 0 would have. None where there is no such
        value; below level 1 the result of level 1 is then mixed with the picture, in proportion to the severity.
    geometric
        Interpolate the logarithm instead of the parameter, for values that span decades. The step from a neutral
        value of zero is linear.
    """

    values: tuple[float, float, float, float, float]
    neutral: float | None
    geometric: bool = False

    def value(self, severity: float, _rng: np.random.Generator) -> float:
        """Interpolate the parameter at a severity in (0, 5]."""
        if self.neutral is None:
            return self._between(max(severity, 1.0), self.values[0])
        return self._between(severity, self.neutral)

    def _between(self, severity: float, start: float) -> float:
        knots = (start, *self.values)
        upper = ceil(severity)
        low, high, fraction = knots[upper - 1], knots[upper], severity - (upper - 1)
        if self.geometric and low > 0:
            return float(low * (high / low) ** fraction)
        return low + (high - low) * fraction


@dataclass(frozen=True)
class TwoSidedLevels:
    """The parameter of a distortion that the table moves up at some levels and down at others.

    At a whole level the table holds. Between levels the direction is drawn, and the parameter is interpolated linearly
    among the neutral value and those levels of the table that lie in this direction; beyond the last of them it stays.

    Attributes
    ----------
    values
        The parameter at levels 1 to 5.
    neutral
        The parameter that leaves the picture as it is.
    """

    values: tuple[float, float, float, float, float]
    neutral: float

    def value(self, severity: float, rng: np.random.Generator) -> float:
        """Interpolate the parameter at a severity in (0, 5]; draws from `rng` between levels only."""
        if severity == int(severity):
            return self.values[int(severity) - 1]
        upwards = rng.random() < 0.5
        values = np.array([self.neutral, *self.values])
        levels = np.flatnonzero((values == self.neutral) | ((values > self.neutral) == upwards))
        return float(np.interp(severity, levels, values[levels]))
