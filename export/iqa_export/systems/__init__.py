"""The systems that `iqa-export` knows, by name."""

from __future__ import annotations

from iqa_export.systems.base import GraphChoice, System
from iqa_export.systems.cvrkd import CvrkdSystem
from iqa_export.systems.yoto import YotoSystem
from iqa_runtime.errors import UsageError

__all__ = ["SYSTEMS", "GraphChoice", "System", "find_system"]

SYSTEMS: dict[str, System] = {system.name: system for system in (YotoSystem(), CvrkdSystem())}


def find_system(name: str) -> System:
    """Return the system of a name.

    Raises
    ------
    UsageError
        If there is none; the message lists those there are.
    """
    if name not in SYSTEMS:
        raise UsageError(f"--model {name}: there is {', '.join(SYSTEMS)}")
    return SYSTEMS[name]
