"""A command as a process: the signals that end it, its standard streams, and how it leaves."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

INTERRUPTED = 130

_ENDING = ("SIGTERM", "SIGHUP")
"""Signals that ask a process to end, beside that of Ctrl-C; Windows has not all of them."""


class Terminated(KeyboardInterrupt):
    """A signal asks this process to end; taken as Ctrl-C is."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """Return what shells expect of a command that was ended so."""
    return interrupt.exit_code if isinstance(interrupt, Terminated) else INTERRUPTED


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """Raise `Terminated` where a signal would end the process; one that is ignored, as under nohup, stays ignored."""

    def stop(number: int, _: object) -> NoReturn:
        raise Terminated(number)

    numbers = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)] if _is_main_thread() else []
    ours = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put off Ctrl-C and its like until the block has ended."""
    came: list[int] = []
    names = ("SIGINT", *_ENDING)
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)] if _is_main_thread() else []
    before = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    for number in before:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def leave(code: int) -> NoReturn:
    """End the process, whatever its other threads do: one that decodes or runs a model cannot be interrupted.

    Everything must be written and closed; Python itself would wait for such threads.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, KeyboardInterrupt):
            stream.flush()
    if any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)
