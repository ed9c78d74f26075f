"""What a forked child process must make anew: threads of its parent are not in it, and locks may be held for ever."""

from __future__ import annotations

import ctypes
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


def keep_for_ever(value: object) -> None:
    """Let an object outlive even the end of Python in this process."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def _tell() -> None:
    for watched in list(_living):
        watched.after_fork()
    _leave_libraries_alone()


def _leave_libraries_alone() -> None:
    """Let this process end without what libraries of the parent do at its end: they join threads that are not here.

    Workers of gunicorn hung or crashed there. Python's own end is over by then.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):  # of glibc, which gives the exit code
        pointer = ctypes.c_void_p
        libc.on_exit(ctypes.cast(libc._exit, pointer), None)
        # Whoever comes last is called first: nothing that C code has printed is lost.
        libc.__cxa_atexit(ctypes.cast(libc.fflush, pointer), None, None)
