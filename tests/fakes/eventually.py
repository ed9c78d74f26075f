"""Waiting for what another thread or process does and tells nobody of."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE = 60.0
"""Seconds after which a test gives up: far above what an overloaded host needs, and nothing is measured by it."""


def eventually(condition: Callable[[], object]) -> None:
    """Return once a condition holds; fail if it never does."""
    over = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < over, "it has not come true"
        time.sleep(0.01)
