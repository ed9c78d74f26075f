"""The report as one HTML page that needs nothing else: plots are drawings inside it."""

from __future__ import annotations

import math
from io import StringIO
from pathlib import Path

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from iqa_calibration.gate.gate import GateResult
from iqa_calibration.int8.sensitivity import MAX_PARTS, Sensitivity
from iqa_calibration.jobs.report import Report
from iqa_calibration.pages import write_page as write_body

_WIDTH = 7.5  # inches
_BAR = 0.22  # inches


def write_page(report: Report, path: Path) -> None:
    """Write the page: verdict, numbers, scatter of the scores, sensitivity, what stayed float32.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    # Equal reports give equal drawings; text stays text, and the names in it are no formulas.
    with rc_context({"svg.hashsalt": "iqa", "svg.fonttype": "none", "text.parse_math": False}):
        scatter = None if report.gate is None else _scatter(report.gate, report.contract.precision)
        bars = _bars(report.sensitivities[:MAX_PARTS]) if report.sensitivities else None
    write_body(path, "iqa_calibration.jobs", "report.html.j2", report.title, report=report, scatter=scatter, bars=bars)


def _scatter(gate: GateResult, precision: str) -> Markup:
    figure = Figure(figsize=(_WIDTH * 0.7, _WIDTH * 0.7), layout="constrained")
    panel = figure.subplots()
    scores = gate.fp32_scores
    panel.plot([min(scores), max(scores)], [min(scores), max(scores)], color="gray", linewidth=0.8)
    panel.scatter(scores, gate.candidate_scores, s=12, alpha=0.7, linewidths=0)
    panel.set_xlabel("score, float32")
    panel.set_ylabel(f"score, {precision}")
    return _drawn(figure)


def _bars(parts: tuple[Sensitivity, ...]) -> Markup:
    figure = Figure(figsize=(_WIDTH, 1 + _BAR * len(parts)), layout="constrained")
    panel = figure.subplots()
    finite = [math.isfinite(part.effect) for part in parts]
    names = [part.part + ("" if drawn else " (score not finite)") for part, drawn in zip(parts, finite, strict=True)]
    lengths = [100 * part.effect if drawn else 0.0 for part, drawn in zip(parts, finite, strict=True)]
    panel.barh(range(len(parts)), lengths, height=0.7)
    panel.set_yticks(range(len(parts)), names, fontsize="small")
    panel.margins(y=0.01)
    panel.invert_yaxis()
    panel.set_xlabel("% of the spread of the scores")
    return _drawn(figure)


def _drawn(figure: Figure) -> Markup:
    """Draw as SVG, without the header of a file and without date and version; matplotlib escapes the labels."""
    stream = StringIO()
    figure.savefig(
        stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = stream.getvalue()
    return Markup(text[text.index("<svg") :])
