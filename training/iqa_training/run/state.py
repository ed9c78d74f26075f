"""What a training run is, where it stands, and how that is kept for the next epoch: ``last.pt``."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from iqa_runtime.errors import FileError, UsageError, first_line
from iqa_runtime.files.overwriting import write_at_once
from iqa_training.configuration import LoopConfig
from iqa_training.datasets.items import Source
from iqa_training.recipes.base import Recipe
from iqa_training.run.checks import describe_photographs, describe_pictures
from iqa_training.run.log import Row

CARRIED_OUT = ("workers", "validate_every")
"""Settings of the loop that may change while a run is under way: they don't touch what is trained."""


@dataclass
class Progress:
    """Where a run is.

    Attributes
    ----------
    epoch
        Epochs done.
    best
        The best validation so far: SRCC, or minus the loss of recipes that train no score; minus infinity while none
        was defined.
    rows
        What was logged of each epoch.
    """

    epoch: int = 0
    best: float = -math.inf
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A recipe on its data.

    Attributes
    ----------
    recipe
        What to train.
    train, validation
        Pictures of other contents each; no validation set keeps the last epoch.
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
    validation: Source | None
    loop: LoopConfig
    seed: int
    folder: Path
    settings: dict[str, object] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"


class State:
    """What ``last.pt`` holds."""

    def __init__(
        self,
        run: Run,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        scaler: torch.amp.GradScaler,
    ) -> None:
        self._path = run.folder / "last.pt"
        self._settings = _settings(run)
        self._parts: dict[str, Any] = {
            "network": network,
            "optimizer": optimizer,
            "schedule": schedule,
            "scaler": scaler,
        }

    def save(self, progress: Progress) -> None:
        """Write the file, at once.

        Raises
        ------
        FileError
            If it cannot be written.
        """
        state: dict[str, Any] = {name: part.state_dict() for name, part in self._parts.items()}
        state |= {"epoch": progress.epoch, "best": progress.best, "rows": progress.rows}
        state["random"] = torch.get_rng_state()
        state["random_cuda"] = torch.cuda.get_rng_state_all()  # empty without a GPU
        state["settings"] = self._settings
        # Through memory, because PyTorch's own writer says nothing of a full disk but where in C++ it was.
        content = io.BytesIO()
        torch.save(state, content)
        write_at_once(self._path, content.getvalue())

    def restore(self) -> Progress:
        """Load the file, if there is one, into what it was made from; return where the run stands.

        Raises
        ------
        UsageError
            If the folder's run was of other settings.
        FileError
            If the file is damaged.
        """
        if not self._path.is_file():
            return Progress()
        try:
            state = torch.load(self._path, map_location="cpu", weights_only=True)
            self._compare(state["settings"])
            for name, part in self._parts.items():
                part.load_state_dict(state[name])
            torch.set_rng_state(state["random"])
            torch.cuda.set_rng_state_all(state["random_cuda"])
            return Progress(state["epoch"], state["best"], state["rows"])
        except UsageError:
            raise
        except Exception as error:  # a damaged file makes the unpickler raise anything
            raise FileError(
                f"{self._path}: not the last state of such a run ({first_line(error)}); give another ``out``"
            ) from error

    def _compare(self, earlier: dict[str, str]) -> None:
        """Refuse settings that the run was not started with: the result would be that of neither."""
        changes = [
            f"{name} was {earlier.get(name)}, is {self._settings.get(name)}"
            for name in sorted(earlier.keys() | self._settings.keys())
            if earlier.get(name) != self._settings.get(name)
        ]
        if changes:
            raise UsageError(
                f"{self._path.parent}: a run of other settings is there ({'; '.join(changes)}); give those it was "
                "started with, or another ``out``"
            )


def _settings(run: Run) -> dict[str, str]:
    """Return what decides the result of a run, as text: only plain values are read back."""
    loop = msgspec.to_builtins(run.loop)
    decisive = {name: value for name, value in loop.items() if name not in CARRIED_OUT}
    parts = (("training", run.train), ("validation", run.validation))
    sources = {f"{part}_pictures": "none" if source is None else describe_pictures(source) for part, source in parts}
    if run.recipe.photographs:
        sources["photographs"] = describe_photographs(run.recipe.photographs)
    values = {"recipe": run.recipe.name, "seed": run.seed, **decisive, **run.settings, **sources}
    return {name: str(value) for name, value in values.items()}
