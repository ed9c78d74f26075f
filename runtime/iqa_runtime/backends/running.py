"""A batch under way: what a backend hands out while it works."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, wait

import numpy as np
from numpy.typing import NDArray


class Running:
    """A batch that `Backend.begin` has begun.

    Parameters
    ----------
    outputs
        Of the whole batch, filled in as runs end.
    runs
        Each returns the seconds it took.
    """

    def __init__(self, outputs: dict[str, NDArray[np.float32]], runs: Sequence[Future[float]]) -> None:
        self._outputs, self._runs = outputs, runs

    def result(self) -> tuple[dict[str, NDArray[np.float32]], float]:
        """Wait for it.

        Returns
        -------
        outputs, seconds
            As `Backend.infer` returns them, and the time of all runs together.

        Raises
        ------
        BackendError
            As `Backend.infer`.
        """
        try:
            return self._outputs, sum(run.result() for run in self._runs)
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Leave out what has not begun, and wait for what has; nothing happens once it has ended."""
        wait([run for run in self._runs if not run.cancel()])
