"""Scatter plots: scores against human scores, the fitted logistic through them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from iqa_runtime.errors import FileError
from iqa_training.evaluation.judge import ALL, Judged, Method, Row, distortion_types

_PANEL = 4.6  # inches
_DOTS_PER_INCH = 120
_DISTINCT_COLORS = 10  # of the palette tab10; more types than that get colours from a spectrum, and shapes in turn
_SHAPES = "os^Dv"


def draw_scatter(judged: Judged, rows: list[Row], title: str) -> Figure:
    """Draw one panel a method, a point an image, a colour a distortion type.

    Parameters
    ----------
    judged
        Scores and human scores.
    rows
        As `measure` returned them; the logistic is that of all images.
    title
        Line above the panels.
    """
    # A Figure of its own, without pyplot: no global state, no window system.
    count = len(judged.methods)
    figure = Figure(figsize=(_PANEL * count + 1.6, _PANEL), dpi=_DOTS_PER_INCH, layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, count, squeeze=False)[0])
    by_method = {row.method: row for row in rows if row.images == ALL}
    for panel, method, scores in zip(panels, judged.methods, judged.scores, strict=True):
        _draw(panel, method, scores, judged, by_method[method.name])
    panels[0].set_ylabel("human score, 1 is best")
    if len(distortion_types(judged.samples)) > 1:
        panels[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small", frameon=False)
    if title:
        figure.suptitle(title, fontsize="medium")
    return figure


def write_scatter(path: Path, judged: Judged, rows: list[Row], title: str) -> None:
    """Draw them, and write a PNG.

    Parameters
    ----------
    path
        File to write.
    judged, rows, title
        As in `draw_scatter`.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    figure = draw_scatter(judged, rows, title)
    try:
        # Without the version of matplotlib, so that equal scores give equal files.
        figure.savefig(path, format="png", metadata={"Software": None})
    except OSError as error:
        raise FileError(f"{path}: cannot write the plot ({error.strerror}); choose another ``output``") from error


def _draw(panel: Axes, method: Method, scores: NDArray[np.float64], judged: Judged, row: Row) -> None:
    finite = np.isfinite(scores)
    types = distortion_types(judged.samples)
    palette = colormaps["tab10"] if len(types) <= _DISTINCT_COLORS else colormaps["turbo"].resampled(len(types))
    names = np.array([sample.distortion or "" for sample in judged.samples])
    for index, name in enumerate([*types, ""]):
        chosen = finite & (names == name)
        if chosen.any():
            panel.scatter(
                scores[chosen],
                judged.human[chosen],
                s=14,
                color=palette(index) if name else "gray",
                marker=_SHAPES[index % len(_SHAPES)],
                alpha=0.7,
                linewidths=0,
                label=name or "no type told",
            )
    logistic = row.agreement.logistic
    if logistic is not None:
        line = np.linspace(scores[finite].min(), scores[finite].max(), 200)
        panel.plot(line, logistic(line), color="black", linewidth=1.2)
    srcc = row.agreement.srcc.value
    panel.set_title("" if srcc is None else f"SRCC {srcc:.3f}, n = {row.agreement.images}", fontsize="small")
    panel.set_xlabel(f"{method.name}, {'higher' if method.higher_is_better else 'lower'} is better")
    panel.grid(alpha=0.3)
