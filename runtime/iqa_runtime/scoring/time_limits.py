"""Time limits for what nothing can interrupt: a decoder in C is left to end by itself, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Condition, Thread
from typing import TypeVar

from iqa_runtime.errors import starting_threads
from iqa_runtime.forking import tell_after_fork

MAX_OVERDUE = 16
"""Calls of one limit that may go on beyond it: each holds the memory of an image, and takes time from the others."""

_Result = TypeVar("_Result")


class NotBegunError(TimeoutError):
    """A call could not begin, because too many others are over their limit."""


def in_thread(function: Callable[[], _Result]) -> Future[_Result]:
    """Call a function in a thread of its own, which does not keep the process from ending.

    Raises
    ------
    ResourceError
        If no thread can be started.
    """
    future: Future[_Result] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    with starting_threads():
        Thread(target=work, name="iqa-limited", daemon=True).start()
    return future


def interruptible(function: Callable[[], _Result]) -> _Result:
    """Return what a function returns, in whose place Ctrl-C ends the waiting: C code in the main thread would go on."""
    return in_thread(function).result()


class TimeLimit:
    """A limit for each of many calls. Safe to use from several threads.

    A call that is over its limit goes on in its thread, to no effect, until the function returns; another may begin
    meanwhile. Once `MAX_OVERDUE` calls do so, a further one waits for one of them to end, and gives up after the same
    time.

    Parameters
    ----------
    seconds
        How long a call may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._changed = Condition()
        self._overdue = 0
        tell_after_fork(self)

    def after_fork(self) -> None:
        """Begin anew: the threads are the parent's."""
        self._changed = Condition()
        self._overdue = 0

    @property
    def overdue(self) -> int:
        """How many calls go on beyond their limit."""
        return self._overdue

    def call(self, function: Callable[[], _Result]) -> _Result:
        """Call a function in a thread of its own, and wait for it as long as the limit is.

        Raises
        ------
        TimeoutError
            If that is over; `NotBegunError` if nothing can be begun.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._overdue < MAX_OVERDUE, self._seconds):
                raise NotBegunError(
                    f"not begun, because {self._overdue} others still go on beyond their time limit of "
                    f"{self._seconds:g} s; restart the process if they never end, or raise the limit"
                )
        future = in_thread(function)
        try:
            wait([future], self._seconds)
        finally:  # by Ctrl-C, too
            if not future.done():
                self._leave(future)
        if future.done():
            return future.result()
        raise TimeoutError(f"not ready within its time limit of {self._seconds:g} s; shrink it or raise the limit")

    def _leave(self, future: Future[_Result]) -> None:
        def ended(_: object) -> None:
            with changed:
                self._overdue -= 1
                changed.notify()

        changed = self._changed
        with changed:
            self._overdue += 1
        future.add_done_callback(ended)
