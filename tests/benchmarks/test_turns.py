"""Contenders take turns: whoever fails loses its own row, and says why."""

from __future__ import annotations

import os
import re
from dataclasses import asdict

import pytest
from speed.patches import Case, contenders
from speed.turns import Contender, Limits, prepare, take_turns

SMALL = Case(height=224, width=224, crops=1)
QUICK = Limits(rounds=2, turn=0.001, load=30, call=10)
KERNEL = Contender(name="ours", role="ours", make="speed.patches:kernel", options=asdict(SMALL))


def test_every_contender_has_a_turn_in_every_round() -> None:
    store = Contender(name="limit", role="limit", make="speed.patches:store", options=asdict(SMALL))
    outcomes = take_turns([KERNEL, store], QUICK)
    assert [outcome.name for outcome in outcomes] == ["ours", "limit"]
    for outcome in outcomes:
        assert outcome.error is None
        assert len(outcome.seconds) == QUICK.rounds
        assert outcome.median is not None
        assert min(outcome.seconds) <= outcome.median <= max(outcome.seconds)
        assert outcome.peak_megabytes is None or outcome.peak_megabytes > 1


@pytest.mark.parametrize(
    ("make", "options", "limits", "reason"),
    [
        ("os:_exit", 3, QUICK, r"could not be loaded: the process died \(exit code 3\)"),
        ("time:sleep", 60, Limits(rounds=1, load=2), "could not be loaded: no answer within 2 s"),
        ("speed.patches:kernel", {}, QUICK, "could not be loaded: TypeError: .* missing 3 required"),
    ],
)
def test_a_contender_that_fails_is_a_row_with_the_reason(
    make: str, options: object, limits: Limits, reason: str
) -> None:
    broken = Contender(name="broken", role="rival", make=make, options=options)  # type: ignore[arg-type]
    (outcome,) = take_turns([broken], limits)
    assert outcome.median is None
    assert outcome.error is not None
    assert re.match(reason, outcome.error)


def test_the_others_go_on_without_one_that_died() -> None:
    broken = Contender(name="broken", role="rival", make="os:_exit", options=3)  # type: ignore[arg-type]
    failed, fine = take_turns([broken, KERNEL], QUICK)
    assert failed.error is not None
    assert len(fine.seconds) == QUICK.rounds


def test_a_turn_that_takes_too_long_ends_the_contender_alone() -> None:
    slow = Contender(
        name="slow",
        role="rival",
        make="speed.commands:make",
        options={"arguments": ["sleep", "1.5"]},
    )
    (outcome,) = take_turns([slow], Limits(rounds=2, turn=0, load=30, call=0.5))
    assert outcome.error == "no answer within 0 s"


def test_variables_are_those_of_the_contender_alone() -> None:
    before = dict(os.environ)
    forced = Contender(
        name="numpy",
        role="part",
        make="speed.patches:kernel",
        options=asdict(SMALL),
        environment={"IQA_KERNELS": "no such kernel"},
    )
    outcome = prepare(forced, 30)
    assert outcome.error is not None
    assert "IQA_KERNELS=no such kernel" in outcome.error
    assert dict(os.environ) == before


def test_the_budget_ends_the_rounds_but_not_before_the_least() -> None:
    (outcome,) = take_turns([KERNEL], Limits(rounds=50, least_rounds=3, turn=0.001, budget=0))
    assert len(outcome.seconds) == 3


def test_a_case_has_ours_a_limit_and_rivals() -> None:
    roles = [contender.role for contender in contenders(SMALL)]
    assert roles.count("ours") == 1
    assert {"limit", "rival"} <= set(roles)
