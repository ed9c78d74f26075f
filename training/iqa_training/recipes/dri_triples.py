"""Samples of DRI-IQA's first stage: a content degraded in two ways, another in a third, two patches of each."""

from __future__ import annotations

import numpy as np

from iqa_training.crops import Picture, random_crop
from iqa_training.distortions import Step, draw

Steps = tuple[Step, ...]

LEVEL_GAP = 2
"""Levels by which one distortion of the two versions differs at least."""
TRIES = 50
"""Places drawn for a pair of patches, as QPT's third-party implementation does."""


def draw_triple(rng: np.random.Generator, *, same_kind: bool) -> tuple[Steps, Steps, Steps]:
    """Draw the degradations of a triple from `iqa_training.distortions.draw`.

    Parameters
    ----------
    rng
        Source of the choice.
    same_kind
        Whether the second has the distortions of the first, in their order and at other levels, one of them two
        levels off at least; otherwise it is drawn alone.

    Returns
    -------
    tuple
        Three compositions; the third shares no distortion type with the others.
    """
    first = draw(rng)
    second = _other_levels(first, rng) if same_kind else draw(rng)
    names = {step.name for step in first + second}
    third = draw(rng)
    while not names.isdisjoint(step.name for step in third):
        third = draw(rng)
    return first, second, third


def _other_levels(steps: Steps, rng: np.random.Generator) -> Steps:
    while True:
        # Levels don't depend on types, so those of any draw as long will do.
        others = tuple(
            Step(step.name, level.severity) for step, level in zip(steps, draw(rng, len(steps)), strict=True)
        )
        if max(abs(a.severity - b.severity) for a, b in zip(steps, others, strict=True)) >= LEVEL_GAP:
            return others


def cut_region(picture: Picture, patch: int, rng: np.random.Generator) -> Picture:
    """Cut out what two touching patches can span at most, so that no more than that has to be distorted.

    Parameters
    ----------
    picture
        uint8, H x W x 3.
    patch
        Side of a patch, pixels.
    rng
        Draws the place.

    Returns
    -------
    numpy.ndarray
        uint8, S x S x 3; S is twice the patch, or the picture's shorter side if that is less.

    Raises
    ------
    UsageError
        If the picture is smaller than a patch.
    """
    side = max(patch, min(2 * patch, *picture.shape[:2]))
    return random_crop([picture], side, rng, flip=False)[0].transpose(1, 2, 0)


def cut_patches(
    region: Picture, patch: int, overlap: tuple[float, float], rng: np.random.Generator
) -> tuple[Picture, Picture]:
    """Cut two overlapping patches, each flipped left to right with probability 1/2.

    Parameters
    ----------
    region
        uint8, S x S x 3, S at least `patch`.
    patch
        Side of a patch, pixels.
    overlap
        Intersection over union, least and most. Of the pairs of places drawn, the first with such a one is taken; the
        last one if none has, as in regions that leave the patches no room.
    rng
        Draws places and flips.

    Returns
    -------
    tuple of numpy.ndarray
        uint8, 3 x patch x patch.
    """
    places = rng.integers(region.shape[0] - patch, size=(TRIES, 2, 2), endpoint=True)
    shared = np.maximum(patch - np.abs(places[:, 0] - places[:, 1]), 0).prod(1)
    union = 2 * patch**2 - shared
    fits = (overlap[0] * union <= shared) & (shared <= overlap[1] * union)
    chosen = int(fits.argmax()) if fits.any() else TRIES - 1
    first, second = (
        random_crop([region[top : top + patch, left : left + patch]], patch, rng)[0] for top, left in places[chosen]
    )
    return first, second
