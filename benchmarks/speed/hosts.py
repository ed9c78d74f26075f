"""Ratios by kind of host: they belong to one, so each stands beside the share of the peak that was measured with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from speed.document import Section, duration, section_of
from speed.networks import EAGER
from speed.settings import EDGE, YOTO
from speed.turns import Outcome

MICROARCHITECTURES = {"family 25, model 17": "Zen 4"}
"""What a processor is called that virtual machines give no number of its own."""

NETWORKS = {YOTO: "full YOTO", EDGE: "edge"}
PRECISIONS = ("fp32", "bf16", "int8")


def name_of(host: dict[str, Any]) -> str:
    """Return what a kind of host is called."""
    model = host.get("processor_model", "")
    return f"{host['processor']} ({MICROARCHITECTURES.get(model, model)})" if model else str(host["processor"])


def table(results: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield the rows of a Markdown table: of each network on each kind of host what was measured last.

    `results` are in the order in which they were measured.
    """
    last: dict[tuple[str, str], str] = {}
    for result in results:
        if "model" not in result["sections"]:
            continue
        section, name = section_of(result["sections"]["model"]), name_of(result["host"])
        peak = f"{_peak(section) / 2 / result['host']['cpus']:.0f} GMAC/s a core"
        for case in section.cases:
            if case.name in NETWORKS:
                cells = [_eager(case.outcomes), *(_cell(case.outcomes, precision) for precision in PRECISIONS)]
                last[name, case.name] = f"| {name} | {peak} | {NETWORKS[case.name]} | {' | '.join(cells)} |"
    yield f"| host | float32 peak | network | PyTorch, as written | {' | '.join(PRECISIONS)} |"
    yield "| --- | ---: | --- | ---: |" + " ---: |" * len(PRECISIONS)
    yield from (last[key] for key in sorted(last, key=lambda key: (key[0], list(NETWORKS).index(key[1]))))


def _peak(section: Section) -> float:
    """Return the operations a second, in 10^9, of the quickest product of float32."""
    outcomes = [outcome for case in section.cases for outcome in case.outcomes if outcome.role == "limit"]
    return max(float(outcome.facts["GFLOP/s"]) for outcome in outcomes if outcome.facts["precision"] == "fp32")


def _eager(outcomes: list[Outcome]) -> str:
    eager = next(outcome for outcome in outcomes if outcome.name == EAGER)
    return f"{duration(eager.facts['ms an item'] / 1000)}, {_share(eager)}"


def _cell(outcomes: list[Outcome], precision: str) -> str:
    """Return how many times as quick as PyTorch the quickest of ours is, and the share of the peak it reaches."""
    eager = next(outcome for outcome in outcomes if outcome.name == EAGER).median
    measured = [
        (outcome.median, outcome)
        for outcome in outcomes
        if outcome.role == "ours" and outcome.facts["precision"] == precision and outcome.median is not None
    ]
    if not measured or eager is None:
        return "-"
    median, quickest = min(measured, key=lambda pair: pair[0])
    return f"{eager / median:.1f} times, {_share(quickest)}"


def _share(outcome: Outcome) -> str:
    return str(outcome.facts["of peak"]).replace("%", " %")
