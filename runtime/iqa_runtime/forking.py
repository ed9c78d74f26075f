"""What a forked child process must make anew: threads of its parent are not in it, and locks may be held for ever."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class SurvivesFork(Protocol):
    """Something that goes on in a forked child once it was told."""

    def after_fork(self) -> None:
        """Make locks and pools of threads anew; called in the child before any other code of it runs."""


_living: WeakSet[SurvivesFork] = WeakSet()
_is_watching = False


def tell_after_fork(watched: SurvivesFork) -> None:
    """Call ``watched.after_fork()`` in every child process that is forked while it lives."""
    global _is_watching
    _living.add(watched)
    # When the first object needs it and not on import; Python cannot take such a call back.
    if not _is_watching and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_tell)
        _is_watching = True


def _tell() -> None:
    for watched in list(_living):
        watched.after_fork()
