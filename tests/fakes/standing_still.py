"""Time limits without a clock: what stands still is over its limit at once, all else never."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

from iqa_runtime.scoring import time_limits

DEADLINE = 60
"""Seconds after which a test that waits for a thread gives up; nothing is measured by it."""


def without_clock(monkeypatch: Any, stands_still: Callable[[Any], bool]) -> None:
    """Let calls that stand still be given up as soon as they are waited for.

    Parameters
    ----------
    monkeypatch
        Anything with a ``setattr(object, name, value)``.
    stands_still
        Tells of a function that was given to a limit.
    """
    begin = time_limits.in_thread
    endless: list[Future[Any]] = []

    def in_thread(function: Callable[[], Any]) -> Future[Any]:
        future = begin(function)
        if stands_still(function):
            endless.append(future)
        return future

    def wait_unless_endless(futures: list[Future[Any]], _: float) -> None:
        if futures[0] not in endless:
            wait(futures, DEADLINE)

    monkeypatch.setattr(time_limits, "in_thread", in_thread)
    monkeypatch.setattr(time_limits, "wait", wait_unless_endless)
