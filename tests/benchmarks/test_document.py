"""The document says who lost, what differs and what failed; JSON and history keep it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from speed.command_line import fingerprint, names, store
from speed.document import GOALS, Case, Goal, Section, document, duration, read_results, result_of, section_of
from speed.turns import Outcome, Role

HOST: dict[str, Any] = {
    "commit": "c0ffee",
    "processor": "Test CPU",
    "cpus": 2,
    "system": "Linux",
    "machine": "x86_64",
    "kernels": "avx2",
    "versions": {"numpy": "2"},
}
PATCHES = "patches: time, x a plain write"


def outcome(name: str, role: Role, seconds: float | None, **fields: Any) -> Outcome:
    return Outcome(name=name, role=role, seconds=[] if seconds is None else [seconds], **fields)


def printed(case: Case, **figures: float) -> str:
    section = Section(title="T", text="Text.", cases=[case], figures=figures)
    return document(result_of(HOST, "2026-01-02T03:04:05", {"patches": section}), [])


def row(text: str, name: str) -> str:
    (found,) = [line for line in text.splitlines() if line.startswith((f"| {name} |", f"| **{name}** |"))]
    return found


def test_a_rival_that_wins_is_marked_and_so_is_ours() -> None:
    rows = [outcome("ours", "ours", 2.0), outcome("quick", "rival", 1.0), outcome("slow", "rival", 5.0)]
    text = printed(Case(name="c", outcomes=rows))
    assert "**faster than ours**" in row(text, "quick")
    assert "| 1 s | 0.5 |" in row(text, "quick")
    assert "**slower than quick**" in row(text, "ours")
    assert "**" not in row(text, "slow")


def test_a_limit_is_no_rival() -> None:
    text = printed(Case(name="c", outcomes=[outcome("ours", "ours", 2.0), outcome("write", "limit", 1.0)]))
    assert "**faster" not in row(text, "write")
    assert "**slower" not in row(text, "ours")


def test_speeds_are_multiples_of_the_base() -> None:
    rows = [outcome("eager", "rival", 3.0), outcome("ours", "ours", 0.5)]
    text = printed(Case(name="c", outcomes=rows, base="eager"))
    assert "speed, x eager" in text
    assert "| 500 ms | 6 |" in row(text, "ours")


def test_a_rival_is_judged_against_ours_of_its_precision() -> None:
    rows = [
        outcome("rival", "rival", 2.0),
        outcome("fp32", "ours", 3.0, facts={"precision": "fp32"}),
        outcome("int8", "ours", 1.0, facts={"precision": "int8"}),
    ]
    text = printed(Case(name="c", outcomes=rows))
    assert "**faster than ours**" in row(text, "rival")
    assert "**slower than rival**" in row(text, "fp32")
    assert "slower" not in row(text, "int8")


@pytest.mark.parametrize("value", [0.52, float("nan")])
def test_a_result_that_differs_is_marked(value: float) -> None:
    rows = [outcome("ours", "ours", 1.0, check=[0.5]), outcome("rival", "rival", 2.0, check=[value])]
    text = printed(Case(name="c", outcomes=rows, tolerance=0.01))
    assert "**differs by" in row(text, "rival")
    assert "differs" not in row(text, "ours")


def test_a_row_without_times_says_why() -> None:
    rows = [outcome("ours", "ours", 1.0), outcome("gone", "rival", None, error="not installed | at all")]
    assert row(printed(Case(name="c", outcomes=rows)), "gone").endswith("| not installed / at all |")


def test_goals_are_reached_missed_or_not_measured() -> None:
    case = Case(name="c", outcomes=[])
    assert "| 1.2 | yes |" in row(printed(case, **{PATCHES: 1.2}), PATCHES)
    assert "| 1.7 | **no** |" in row(printed(case, **{PATCHES: 1.7}), PATCHES)
    assert "| | not measured |" in row(printed(case), PATCHES)


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (Goal(figure="f", least=2), 2.0, True),
        (Goal(figure="f", least=2), 1.9, False),
        (Goal(figure="f", most=2), 2.0, True),
        (Goal(figure="f", most=2), 2.1, False),
        (Goal(figure="f", most=2), float("nan"), False),
    ],
)
def test_a_goal_is_met_at_its_bound(goal: Goal, value: float, met: bool) -> None:
    assert goal.is_met(value) is met


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (2.5, "2.5 s"), (0.0125, "12.5 ms"), (61.3e-6, "61.3 µs")])
def test_durations_have_a_unit_that_suits_them(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_of_results_the_largest_difference_from_ours_is_kept() -> None:
    rows = [
        outcome("ours", "ours", 1.0, check=[0.5, 0.25]),
        outcome("rival", "rival", 2.0, check=[0.75, 0.375]),
        outcome("int8", "ours", 1.0, check=[9.0, 9.0], facts={"precision": "int8"}),
        outcome("write", "limit", 1.0),
    ]
    cases = [Case(name="c", outcomes=rows, tolerance=1.0), Case(name="not comparable", outcomes=rows)]
    stored = result_of(HOST, "2026", {"edge": Section(title="T", text="t", cases=cases)})
    kept = [case["outcomes"] for case in stored["sections"]["edge"]["cases"]]
    assert [row["difference"] for row in kept[0]] == [0.0, 0.25, None, None]
    assert [row["difference"] for row in kept[1]] == [None] * 4
    assert not any("check" in row for row in kept[0])


def test_a_section_survives_json() -> None:
    rows = [outcome("ours", "ours", 1.0, facts={"MB": 2.0}, peak_megabytes=3.0)]
    section = Section(title="T", text="t", cases=[Case(name="c", outcomes=rows)], series={"memory: x": [(1.0, 2.0)]})
    stored = json.loads(json.dumps(result_of(HOST, "2026", {"edge": section})))
    back = section_of(stored["sections"]["edge"])
    assert back.cases == section.cases
    assert stored["sections"]["edge"]["cases"][0]["outcomes"][0]["median"] == 1.0


def test_sections_of_one_commit_meet_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "suite.c0ffee.json"
    store(path, HOST, "edge", Section(title="E", text="", figures={"edge: cold start, s": 0.5}))
    store(path, HOST, "patches", Section(title="P", text="", figures={PATCHES: 1.2}))
    again = store(path, HOST, "edge", Section(title="E", text="", figures={"edge: cold start, s": 0.4}))
    assert list(again["sections"]) == ["patches", "edge"]
    text = document(again, read_results(tmp_path))
    assert "| 1.2 | yes |" in row(text, PATCHES)
    history = next(line for line in text.splitlines() if line.startswith("| c0ffee |"))
    assert "| 1.2 |" in history
    assert "| 0.4 |" in history


def test_another_host_starts_the_file_anew(tmp_path: Path) -> None:
    path = tmp_path / "suite.c0ffee.json"
    store(path, HOST, "edge", Section(title="E", text=""))
    other = store(path, HOST | {"processor": "Another"}, "patches", Section(title="P", text=""))
    assert list(other["sections"]) == ["patches"]


def test_the_history_is_oldest_first(tmp_path: Path) -> None:
    for date, commit in (("2026-02", "b"), ("2026-01", "a")):
        result = result_of(HOST | {"commit": commit}, date, {})
        (tmp_path / f"suite.{commit}.json").write_text(json.dumps(result), encoding="utf-8")
    assert [result["host"]["commit"] for result in read_results(tmp_path)] == ["a", "b"]


def test_goals_have_names_of_their_own() -> None:
    assert len({goal.figure for goal in GOALS}) == len(GOALS)


def test_an_unknown_section_is_refused() -> None:
    assert names("edge,patches") == ["edge", "patches"]
    with pytest.raises(argparse.ArgumentTypeError, match="no section speed; there are patches, resizing"):
        names("edge,speed")


def test_artefacts_of_other_code_or_weights_are_not_met_again(tmp_path: Path) -> None:
    (tmp_path / "pass.py").write_text("x = 1")
    first = fingerprint(tmp_path)
    (tmp_path / "notes.txt").write_text("of no consequence")
    assert fingerprint(tmp_path) == first
    (tmp_path / "pass.py").write_text("x = 2")
    assert fingerprint(tmp_path) != first
