"""What a training run is, and where it stands."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from iqa_training.configuration import LoopConfig
from iqa_training.datasets.items import Source
from iqa_training.recipes.base import Recipe


@dataclass
class Progress:
    """Where a run is.

    Attributes
    ----------
    epoch
        Epochs done.
    best
        The best validation so far: SRCC, or minus the loss of recipes that train no score.
    """

    epoch: int = 0
    best: float = -math.inf


@dataclass(frozen=True, kw_only=True)
class Run:
    """A recipe on its data.

    Attributes
    ----------
    recipe
        What to train.
    train, validation
        Pictures of other contents each.
    loop, seed
        Settings; `seed` also seeds the draws inside the recipe.
    folder
        Where the run is kept.
    settings
        Of recipe and data, plain values; a run is resumed with equal ones only.
    metadata
        Written into the best checkpoint: licence, what it was trained on.
    device
        ``cpu`` or ``cuda``.
    """

    recipe: Recipe
    train: Source
    validation: Source
    loop: LoopConfig
    seed: int
    folder: Path
    settings: dict[str, object] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"
