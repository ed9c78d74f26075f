"""Several distortions one after the other, and their random choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from iqa_runtime.errors import UsageError

from .pixels import Image
from .registry import DISTORTIONS, GROUPS, check_step, distort
from .severity import LEVELS

MAX_STEPS = 4
_LEVEL_DEVIATION = 2.5


@dataclass(frozen=True)
class Step:
    """One distortion of a composition.

    Attributes
    ----------
    name
        One of `TYPES`.
    severity
        In (0, 5]; see `distort`.

    Raises
    ------
    UsageError
        If there is no such type, or the severity is out of range.
    """

    name: str
    severity: float

    def __post_init__(self) -> None:
        check_step(self.name, self.severity)


def compose(image: Image, steps: Sequence[Step], rng: np.random.Generator) -> Image:
    """Distort a picture in one to four steps, in their order; each gets the 8-bit result of the one before.

    Parameters
    ----------
    image
        uint8, H x W x 3, RGB, both sides at least 32 pixels. It is not changed.
    steps
        One to four, of different groups.
    rng
        As in `distort`.

    Returns
    -------
    numpy.ndarray
        uint8, as large as `image`, an array of its own.

    Raises
    ------
    UsageError
        If there are no steps or more than four, or two of them share a group.
    ImageError
        If the picture has another type, shape or too small a size.
    """
    if not 1 <= len(steps) <= MAX_STEPS:
        raise UsageError(f"{len(steps)} steps: a composition has 1 to {MAX_STEPS}")
    seen: dict[str, str] = {}
    for step in steps:
        group = DISTORTIONS[step.name].group
        if group in seen:
            raise UsageError(f"{seen[group]} and {step.name} are both of group {group}: keep one of them")
        seen[group] = step.name
    for step in steps:
        image = distort(image, step.name, step.severity, rng)
    return image


def draw(rng: np.random.Generator, count: int | None = None, groups: Sequence[str] = tuple(GROUPS)) -> tuple[Step, ...]:
    """Draw a composition as ARNIQA does (Agnolucci et al., WACV 2024, section 3.1).

    The number of steps is uniform in 1 to 4, the groups are different and uniform, and so is the type in a group. A
    level l has a probability in proportion to exp(-(l - 1)**2 / (2 * 2.5**2)), so mild ones are more frequent.

    Parameters
    ----------
    rng
        Source of the choice.
    count
        The number of steps, 1 to 4, instead of drawing it.
    groups
        To draw from; with fewer than four of them there are as many steps at most.

    Raises
    ------
    UsageError
        If `count` is out of range.
    """
    most = min(MAX_STEPS, len(groups))
    if count is None:
        count = int(rng.integers(1, most + 1))
    elif not 1 <= count <= most:
        raise UsageError(f"count is {count}: a composition has 1 to {most} steps")
    weights = np.exp(-(np.arange(LEVELS) ** 2) / (2 * _LEVEL_DEVIATION**2))
    drawn = rng.choice(list(groups), count, replace=False)
    names = [str(rng.choice(GROUPS[group])) for group in drawn]
    levels = rng.choice(np.arange(1, LEVELS + 1), count, p=weights / weights.sum())
    return tuple(Step(name, float(level)) for name, level in zip(names, levels, strict=True))
