"""Progress bars of a job: one for the stage that is on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:  # what else is in that module needs onnx
    from iqa_calibration.jobs.judging import Progress as Told


@contextmanager
def stages(console: Console) -> Iterator[Told]:
    """Show the stages of a job, each as often as it comes, on a terminal.

    Yields
    ------
    callable
        To be told of progress: the name of the stage, what is done, and of how much.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        shown = bars.add_task("", total=None)
        current = ""

        def tell(stage: str, done: int, total: int | None) -> None:
            nonlocal current
            if stage != current or done <= 1:
                bars.reset(shown, description=stage)
                current = stage
            bars.update(shown, completed=done, total=total)

        yield tell
