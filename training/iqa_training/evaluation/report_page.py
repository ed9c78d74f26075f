"""The report of an evaluation as one HTML page that needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context

from iqa_calibration.pages import write_page as write_body
from iqa_runtime.benchmark.host import versions_of
from iqa_training.evaluation.judge import ALL, Judged
from iqa_training.evaluation.plots import draw_scatter
from iqa_training.evaluation.report import COLUMNS, LIBRARIES, WITH_INTERVAL, Report
from iqa_training.evaluation.statistics import CONFIDENCE

_MISSES = 20
"""Images that are listed because score and people differ most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Miss:
    """An image: its score, what human score that stands for, and what people said."""

    image: str
    kind: str | None
    score: float
    predicted: float
    human: float


def write_page(path: Path, report: Report, judged: Judged) -> None:
    """Write the page: the numbers, scores against human scores, the images that are missed most, failures.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    # Equal reports give equal drawings; text stays text, and the names in it are no formulas.
    with rc_context({"svg.hashsalt": "iqa", "svg.fonttype": "none", "text.parse_math": False}):
        stream = StringIO()
        figure = draw_scatter(judged, list(report.rows), "")
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(stream, format="svg", transparent=True, metadata=metadata)
    drawing = stream.getvalue()
    write_body(
        path,
        "iqa_training.evaluation",
        "evaluation.html.j2",
        report.title,
        report=report,
        samples=len(judged.samples),
        method=judged.methods[0].name,
        columns=COLUMNS,
        with_interval=WITH_INTERVAL,
        confidence=CONFIDENCE,
        scatter=Markup(drawing[drawing.index("<svg") :]),
        misses=_misses(report, judged),
        versions=versions_of(LIBRARIES),
    )


def _misses(report: Report, judged: Judged) -> list[_Miss]:
    """Return the images whose score says something else than people did, the worst first; none without a logistic."""
    method = judged.methods[0].name
    logistics = [row.agreement.logistic for row in report.rows if (row.images, row.method) == (ALL, method)]
    logistic = logistics[0] if logistics else None
    if logistic is None:
        return []
    scores = judged.scores[0]
    predicted = logistic(scores)
    order = np.argsort(-np.abs(predicted - judged.human), kind="stable")[:_MISSES]
    return [
        _Miss(
            image=judged.samples[index].distorted,
            kind=judged.samples[index].distortion,
            score=float(scores[index]),
            predicted=float(predicted[index]),
            human=judged.samples[index].mos,
        )
        for index in order.tolist()
    ]
