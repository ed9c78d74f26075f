"""Labelled pictures that lie in memory, as training sees a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from iqa_training.datasets.items import Entry, Item
from iqa_training.distortions import distort
from iqa_training.recipes.base import Batch, Recipe

PHOTOGRAPHS = Path(__file__).parents[2] / "calibration" / "iqa_calibration" / "photographs"
CONTENTS = ("dogs", "fig", "meadow", "sunset")


class Pictures:
    """A source of given items."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = list(items)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def entries(self) -> list[Entry]:
        items = [self.item(index) for index in range(len(self))]
        return [
            Entry(
                f"{item.content}-{index}.png",
                None if item.reference is None else f"{item.content}.png",
                item.label,
                item.content,
                *item.distorted.shape[:2],
            )
            for index, item in enumerate(items)
        ]

    def item(self, index: int) -> Item:
        return self.items[index]


def degraded_photographs(
    side: int,
    names: Sequence[str] = CONTENTS,
    *,
    labels: tuple[float, float] = (0.0, 0.6),
    noise: float = 2,
    references: bool = True,
) -> Pictures:
    """Cut the corner out of photographs, and degrade each twice: blurred beyond recognition, and noisy."""
    items = []
    for name in names:
        photograph = cv2.imread(str(PHOTOGRAPHS / f"{name}.jpg"), cv2.IMREAD_COLOR_RGB)
        pristine = np.ascontiguousarray(photograph[:side, :side])
        for kind, severity, label in zip(("gaussian_blur", "white_noise"), (5, noise), labels, strict=True):
            degraded = distort(pristine, kind, severity, np.random.default_rng(0))
            items.append(Item(degraded, pristine if references else None, label, name, kind))
    return Pictures(items)


def fixed_batch(recipe: Recipe, source: Pictures) -> Batch:
    """Make the training examples of two pictures, always the same."""
    examples = [recipe.example(source, index, np.random.default_rng(index)) for index in (0, 3)]
    return {name: torch.from_numpy(np.stack([example[name] for example in examples])) for name in examples[0]}
