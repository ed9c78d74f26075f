"""How memory and cost grow: with the number of images, their size, and threads; with the plots of docs/speed.md."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from speed.commands import iqa_run

Points = list[tuple[float, float]]

SIDES = (512, 1024, 2048, 4096, 6000)
"""Pixels of the longer side; photographs of 3:2."""

_SAMPLE_SECONDS = 0.1
_FEW_POINTS = 20


def watch(artefact: Path, photographs: list[Path], rows: Path, threads: int) -> tuple[Points, Points]:
    """Run `iqa-run` on photographs, and look at it all the while.

    Returns
    -------
    memory, cost
        Resident megabytes, and milliseconds an image since the command began, by the number of images done.

    Raises
    ------
    RuntimeError
        If the command fails.
    """
    memory: Points = []
    cost: Points = []
    command = iqa_run(str(artefact), "-", "--threads", str(threads), "--output", str(rows))
    with rows.with_suffix(".list").open("w+", encoding="utf-8") as listed:
        listed.write("\n".join(map(str, photographs)))
        listed.seek(0)
        began = time.perf_counter()
        with subprocess.Popen(command, stdin=listed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            for done in _lines(process, rows):
                resident = _resident(process.pid)
                if done and resident is not None and (not memory or done > memory[-1][0]):
                    memory.append((done, resident))
                    cost.append((done, 1000 * (time.perf_counter() - began) / done))
    if process.returncode != 0:
        raise RuntimeError(f"iqa-run ended with {process.returncode} on {len(photographs)} photographs; run it by hand")
    return memory, cost


def at(points: Points, place: float) -> float | None:
    """Return the value of the first point at or beyond a place."""
    return next((value for x, value in points if x >= place), None)


def draw(series: dict[str, Points], path: Path) -> None:
    """Draw memory and cost as one SVG, the same bytes for the same points."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels = (
        ("images", "MB resident", "memory: ", "linear"),
        ("images", "ms an image, start-up included", "count: ", "log"),
        ("megapixels", "ms an image", "size: ", "linear"),
        ("threads", "images a second", "threads: ", "linear"),
    )
    # Names of elements are drawn by lot otherwise.
    with mpl.rc_context({"svg.hashsalt": "iqa-deploy", "font.size": 9}):
        figure = Figure(figsize=(9, 6.5), layout="constrained")
        for axes, (across, up, prefix, scale) in zip(figure.subplots(2, 2).flat, panels, strict=True):
            for name, points in series.items():
                if name.startswith(prefix) and points:
                    marker = "." if len(points) < _FEW_POINTS else ""
                    axes.plot(*zip(*points, strict=True), marker=marker, label=name.removeprefix(prefix))
            axes.set_xlabel(across)
            axes.set_ylabel(up)
            axes.set_xscale(scale)
            axes.set_ylim(bottom=0)
            axes.grid(visible=True, alpha=0.3)
            if axes.lines:
                axes.legend()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def _lines(process: subprocess.Popen[bytes], rows: Path) -> Iterator[int]:
    """Yield the number of rows written, again and again until the process ends."""
    done, read = 0, 0
    while process.poll() is None:
        time.sleep(_SAMPLE_SECONDS)
        if rows.exists():
            with rows.open("rb") as file:
                file.seek(read)
                new = file.read()
            done, read = done + new.count(b"\n"), read + len(new)
        yield done


def _resident(process: int) -> float | None:
    """Return the resident memory of a process in 10^6 bytes; None once it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return int(values[0]) * 1024 / 1e6 if values else None
