"""The log of a training run, for its reader: ``metrics.csv`` and TensorBoard's events."""

from __future__ import annotations

import csv
from contextlib import AbstractContextManager
from pathlib import Path


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
