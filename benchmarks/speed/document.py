"""What was measured, as one Markdown document, and over commits as a history."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speed.turns import Outcome

FASTER, SLOWER = "**faster than ours**", "**slower than {}**"
SAME_SCORE = 1e-3
"""Largest difference of scores in one precision: backends and decoders round in other orders."""


@dataclass(kw_only=True)
class Case:
    """Contenders that took turns.

    Attributes
    ----------
    base
        Name of the contender that speeds are given in multiples of; None for times in multiples of the quickest of
        ours.
    tolerance
        Largest difference of results in float32; None where they are not comparable.
    """

    name: str
    outcomes: list[Outcome]
    base: str | None = None
    tolerance: float | None = None


@dataclass(kw_only=True)
class Section:
    """A part of the document.

    Attributes
    ----------
    figures
        Numbers that goals and history speak of.
    facts
        Further numbers, as a table of their own.
    series
        Points of curves, by name.
    load
        The system's load average when it began.
    seconds
        It took.
    """

    title: str
    text: str
    cases: list[Case] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    load: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a figure shall reach: at least, or at most."""

    figure: str
    least: float | None = None
    most: float | None = None

    def is_met(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        return f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"


GOALS = (
    Goal(figure="patches: time, x a plain write", most=1.5),
    Goal(figure="patches: speed, x the best rival", least=15),
    Goal(figure="patches: speed, x the best library", least=10),
    Goal(figure="resizing: speed, x Pillow, least of all filters", least=3),
    Goal(figure="colours: time, x a plain write", most=1.2),
    Goal(figure="YOTO, fp32: speed, x PyTorch eager", least=6.5),
    Goal(figure="YOTO, bf16: speed, x PyTorch eager", least=12),
    Goal(figure="YOTO, int8: speed, x PyTorch eager", least=18),
    Goal(figure="edge: items a second in batches of 16, x one at a time", least=1),
    Goal(figure="job, edge: speed, x the slower of decoding and model", least=0.9),
    Goal(figure="job, YOTO: speed, x the slower of decoding and model", least=0.9),
    Goal(figure="phone: images a second, x those without a resize", least=2),
    Goal(figure="phone: peak memory, x that without a resize", most=0.5),
    Goal(figure="edge: cold start, s", most=1),
    Goal(figure="edge: runtime without models, MB", most=2),
    Goal(figure="LPIPS, pairs in one call: speed, x PyPI lpips", least=3),
    Goal(figure="LPIPS, one pair from nothing: speed, x PyPI lpips", least=3),
    Goal(figure="LPIPS: installed size, x PyPI lpips", most=0.1),
    Goal(figure="memory after 5000 images, x after 500", most=1.05),
)


def result_of(host: dict[str, Any], date: str, sections: dict[str, Section]) -> dict[str, Any]:
    """Return everything as plain values, for JSON."""
    return {"date": date, "host": host, "sections": {key: _plain(section) for key, section in sections.items()}}


def _plain(section: Section) -> dict[str, Any]:
    cases = [vars(case) | {"outcomes": [_row(case, outcome) for outcome in case.outcomes]} for case in section.cases]
    return vars(section) | {"cases": cases}


def _row(case: Case, outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as it is stored: of its result, only how far from ours it is."""
    row = vars(outcome) | {"median": outcome.median, "difference": _difference(case, outcome)}
    del row["check"]
    return row


def _difference(case: Case, outcome: Outcome) -> float | None:
    peers = _peers(case, outcome)
    if case.tolerance is None or _precision(outcome) != "fp32" or not (peers and outcome.check and peers[0].check):
        return None
    return max(abs(a - b) for a, b in zip(outcome.check, peers[0].check, strict=True))


def _peers(case: Case, outcome: Outcome) -> list[Outcome]:
    """Return those of ours that were measured in its precision."""
    return [
        other
        for other in case.outcomes
        if other.role == "ours" and _precision(other) == _precision(outcome) and other.median is not None
    ]


def _precision(outcome: Outcome) -> str:
    return str(outcome.facts.get("precision", "fp32"))


def section_of(values: dict[str, Any]) -> Section:
    """Return a section that was stored as JSON."""
    cases = []
    for case in values["cases"]:
        outcomes = [{key: value for key, value in row.items() if key != "median"} for row in case["outcomes"]]
        cases.append(Case(**case | {"outcomes": [Outcome(**row) for row in outcomes]}))
    return Section(**values | {"cases": cases})


def document(result: dict[str, Any], history: list[dict[str, Any]]) -> str:
    """Return a result as Markdown, with the history of figures below."""
    host = result["host"]
    versions = ", ".join(f"{name} {version}" for name, version in host["versions"].items())
    sections = {key: section_of(values) for key, values in result["sections"].items()}
    model = f" ({host['processor_model']})" if host.get("processor_model") else ""
    lines = [
        "# Speed",
        "",
        f"Commit {host['commit']}, {result['date']}. {host['processor']}{model}, {host['cpus']} CPUs, {host['system']} "
        f"{host['machine']}, kernels {host['kernels']}. {versions}.",
        "",
        *_goals({name: value for section in sections.values() for name, value in section.figures.items()}),
    ]
    for section in sections.values():
        lines += ["", f"## {section.title}", "", section.text, ""]
        lines.append(f"Load average when it began {section.load:.1f}; it took {section.seconds:.0f} s.")
        if section.facts:
            lines += ["", "| | |", "| --- | ---: |"]
            lines += [f"| {name} | {_number(value)} |" for name, value in section.facts.items()]
        for case in section.cases:
            lines += ["", f"### {case.name}", "", *_table(case)]
    return "\n".join([*lines, "", *_history(history), ""])


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Read the results in a folder, the oldest first."""
    results: list[dict[str, Any]] = [
        json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("suite.*.json")
    ]
    return sorted(results, key=lambda result: str(result["date"]))


def _goals(figures: dict[str, float]) -> Iterator[str]:
    yield "| goal | | measured | reached |"
    yield "| --- | ---: | ---: | --- |"
    for goal in GOALS:
        value = figures.get(goal.figure)
        if value is None:
            yield f"| {goal.figure} | {goal} | | not measured |"
        else:
            yield f"| {goal.figure} | {goal} | {_number(value)} | {'yes' if goal.is_met(value) else '**no**'} |"


def _table(case: Case) -> Iterator[str]:
    ours = [outcome for outcome in case.outcomes if outcome.role == "ours" and outcome.median is not None]
    quickest = min(ours, key=lambda outcome: outcome.median or 0, default=None)
    base = next((outcome for outcome in case.outcomes if outcome.name == case.base), quickest)
    heading = "time, x ours" if case.base is None else f"speed, x {case.base}"
    facts = list(dict.fromkeys(name for outcome in case.outcomes for name in outcome.facts))
    yield f"| | median | {heading} | peak MB | rounds | {''.join(f'{name} | ' for name in facts)}note |"
    yield "| --- |" + " ---: |" * (4 + len(facts)) + " --- |"
    for outcome in case.outcomes:
        beside = None if base is None else base.median
        ratio = _ratio(outcome.median, beside) if case.base is None else _ratio(beside, outcome.median)
        if case.base is not None and outcome.role == "limit":
            ratio = ""  # It does other work.
        cells = [f"**{outcome.name}**" if outcome.role == "ours" else outcome.name, duration(outcome.median), ratio]
        cells += ["" if outcome.peak_megabytes is None else f"{outcome.peak_megabytes:.0f}", str(len(outcome.seconds))]
        cells += [_cell(outcome.facts.get(name)) for name in facts]
        yield f"| {' | '.join(cells)} | {'; '.join(_notes(case, outcome))} |"


def _notes(case: Case, outcome: Outcome) -> Iterator[str]:
    if outcome.error is not None:
        yield outcome.error.replace("|", "/")
    median = outcome.median
    if median is None:
        return
    rivals = {other.name: other.median for other in case.outcomes if other.role == "rival" and other.median is not None}
    peers = _peers(case, outcome)
    if outcome.role == "rival" and peers and all(median < (peer.median or 0) for peer in peers):
        yield FASTER
    if outcome.role == "ours" and rivals and min(rivals.values()) < median:
        yield SLOWER.format(min(rivals, key=lambda name: rivals[name]))
    # Also where it is not a number.
    if case.tolerance is not None and outcome.difference is not None and not outcome.difference <= case.tolerance:
        yield f"**differs by {outcome.difference:.2g}**"


def _history(results: list[dict[str, Any]]) -> Iterator[str]:
    figures = [goal.figure for goal in GOALS]
    yield "## History"
    yield ""
    yield f"| commit | date | processor | {' | '.join(figures)} |"
    yield "| --- | --- | --- |" + " ---: |" * len(figures)
    for result in results:
        known: dict[str, float] = {}
        for section in result["sections"].values():
            known |= section["figures"]
        host = result["host"]
        values = ["" if name not in known else _number(known[name]) for name in figures]
        yield f"| {host['commit']} | {result['date'][:10]} | {host['processor']} | {' | '.join(values)} |"


def duration(seconds: float | None) -> str:
    """Return a time in the unit that suits it."""
    if seconds is None:
        return ""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def _ratio(value: float | None, divisor: float | None) -> str:
    return "" if value is None or divisor is None else _number(value / divisor)


def _cell(value: object) -> str:
    return _number(value) if isinstance(value, float) else "" if value is None else str(value)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
