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
BROKEN_PIPE = 141

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


def open_closed_streams() -> None:
    """Let standard streams that were closed before the process began be ``/dev/null``.

    Their numbers are taken, too: the next file that is opened must not become standard output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            stream = open(os.devnull, "r" if number == 0 else "w", encoding="utf-8")  # noqa: SIM115, PTH123 - stays open
            setattr(sys, name, stream)


def _catchable(*names: str) -> list[int]:
    """Return those of these signals that there are here; none outside of the main thread, which alone may catch."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """Raise `Terminated` where a signal would end the process; one that is ignored, as under nohup, stays ignored."""

    def stop(number: int, _: object) -> NoReturn:
        raise Terminated(number)

    ours = [number for number in _catchable(*_ENDING) if signal.getsignal(number) == signal.SIG_DFL]
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
    numbers = _catchable("SIGINT", *_ENDING)
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


def give_up_output() -> int:
    """Forget standard output, whose reader has gone; return what shells expect then."""
    # Left as it is, Python would complain when it flushes at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE


def leave(code: int) -> NoReturn:
    """End the process, whatever its other threads do: one that decodes or runs a model cannot be interrupted.

    Everything must be written and closed; Python itself would wait for such threads.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, KeyboardInterrupt):
            stream.flush()
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    # Of ours daemons, too: they may be inside a decoder, whose library would be taken down around it.
    if any(not thread.daemon or thread.name.startswith("iqa-") for thread in others):
        os._exit(code)
    sys.exit(code)
