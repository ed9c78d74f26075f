"""The files of a training run that the next epoch and the reader need: its state and its log."""

from __future__ import annotations

import csv
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from iqa_runtime.errors import FileError, UsageError
from iqa_training.run import Progress, Run

CARRIED_OUT = ("workers", "validate_every")
"""Settings of the loop that may change while a run is under way: they don't touch what is trained."""


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
        """Write the file, at once."""
        state: dict[str, Any] = {name: part.state_dict() for name, part in self._parts.items()}
        state |= {"epoch": progress.epoch, "best": progress.best, "random": torch.get_rng_state()}
        state["random_cuda"] = torch.cuda.get_rng_state_all()  # empty without a GPU
        state["settings"] = self._settings
        temporary = self._path.with_suffix(".part")
        torch.save(state, temporary)
        temporary.replace(self._path)

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
            return Progress(state["epoch"], state["best"])
        except UsageError:
            raise
        except Exception as error:  # a damaged file makes the unpickler raise anything
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise FileError(f"{self._path}: not the last state of such a run ({reason}); give another --out") from error

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
                "started with, or another --out"
            )


class Log(AbstractContextManager["Log"]):
    """``metrics.csv`` and TensorBoard's events."""

    def __init__(self, folder: Path, epochs_done: int) -> None:
        # Importing it takes a second, and only training needs it.
        from torch.utils.tensorboard import SummaryWriter

        self._path = folder / "metrics.csv"
        self._rows = _rows(self._path)[:epochs_done]
        self._writer = SummaryWriter(str(folder), purge_step=epochs_done + 1)

    def write(self, epoch: int, row: dict[str, float]) -> None:
        """Add the row of an epoch to both."""
        for name, value in row.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()
        self._rows.append({"epoch": str(epoch)} | {name: f"{value:.6g}" for name, value in row.items()})
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        with self._path.open("w", newline="") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            table.writerows(self._rows)

    def __exit__(self, *error: object) -> None:
        self._writer.close()


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _settings(run: Run) -> dict[str, str]:
    """Return what decides the result of a run, as text: only plain values are read back."""
    loop = msgspec.to_builtins(run.loop)
    decisive = {name: value for name, value in loop.items() if name not in CARRIED_OUT}
    values = {"recipe": run.recipe.name, "pictures": len(run.train), "seed": run.seed, **decisive, **run.settings}
    return {name: str(value) for name, value in values.items()}
