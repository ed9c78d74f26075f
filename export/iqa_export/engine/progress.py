"""How far a build is, told while it goes on; and a way to end it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Progress = Callable[[str, int, int], None]
"""Called with the name of a phase, the steps done of it and their number; phases nest, and overlap where TensorRT uses
several threads, from which it is called. An exception ends the build."""


def make_monitor(trt: Any, progress: Progress | None) -> Any:
    """Return an ``IProgressMonitor`` of a TensorRT module; its `error` is what `progress` raised, or None.

    Without `progress` it still lets Ctrl-C end a build: Python sees the signal only while some Python code runs.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # known only at run time
        def __init__(self) -> None:
            # The binding asks for just this, instead of super().
            trt.IProgressMonitor.__init__(self)
            self.error: BaseException | None = None
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            del parent_phase
            self._steps[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return self.error is None

        def phase_finish(self, phase_name: str) -> None:
            if self.error is None:
                self._tell(phase_name, self._steps.get(phase_name, 0))

        def _tell(self, phase: str, done: int) -> None:
            # No exception may reach TensorRT, which would end the process: kept here, and raised after the build.
            try:
                if progress is not None:
                    progress(phase, done, self._steps.get(phase, done))
            except BaseException as error:
                self.error = self.error or error

    return Monitor()
