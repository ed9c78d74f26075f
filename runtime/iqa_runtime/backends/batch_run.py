"""A batch under way: what a backend hands out while it works."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from itertools import count

import numpy as np
from numpy.typing import NDArray


class BatchRun:
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
        except BaseException as error:
            self.cancel()
            # The caller may fill its buffers again; after Ctrl-C there is none.
            if isinstance(error, Exception):
                wait(self._runs)
            raise

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing to wait for."""
        return all(run.done() for run in self._runs)

    def when_ended(self, function: Callable[[], None]) -> None:
        """Call a function once no run goes on and none will begin, in the thread that ends the last."""
        ended = count(1)

        def run_ended(_: object) -> None:
            if next(ended) == len(self._runs):
                function()

        for run in self._runs:
            run.add_done_callback(run_ended)

    def cancel(self) -> None:
        """Leave out the runs that have not begun; those that have go on, and nobody is waited for."""
        for run in self._runs:
            run.cancel()
