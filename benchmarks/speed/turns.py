"""Contenders take turns, each in a process of its own.

Libraries in one process share caches, thread pools and crashes. Here a contender that hangs or dies loses its own row
only, has its own peak of memory, and idles while another works. A turn is short and every round has one of each, so
that a change of clock or load meets all of them.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

Role = Literal["ours", "rival", "limit", "part"]

SETTLING = 0.03
"""Seconds before each turn: threads of the library before it still spin for work."""

_WARM_UP_SHARE = 0.25
_END_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a contender does in its turns.

    Attributes
    ----------
    call
        The work.
    check
        Numbers of its result, to be compared with those of the others.
    facts
        Whatever else is worth a cell, such as ``gmac``.
    peak_megabytes
        Returns the most memory the work has taken, where it happens in another process than the contender's.
    """

    call: Callable[[], object]
    check: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    peak_megabytes: Callable[[], float | None] | None = None


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Who takes part.

    Attributes
    ----------
    name
        In the document.
    role
        ``ours``; ``rival``: what people use instead; ``limit``: what the machine can do; ``part``: a part of our work.
    make
        ``module:function`` that takes `options` and returns a `Work`; called in the contender's process.
    options
        Of `make`; they are pickled.
    environment
        Variables set before any library is imported.
    load
        Seconds that loading may take; None for as many as others.
    """

    name: str
    role: Role
    make: str
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    load: float | None = None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much is measured, and how long things may take, in seconds.

    Attributes
    ----------
    rounds, least_rounds
        Turns of each contender; fewer, but not fewer than the least, where they do not fit into the budget.
    turn
        Length of a turn: calls are repeated until it is over, and at least one is made.
    load, call
        What loading a contender, and one of its turns, may take; who needs longer is out.
    budget
        After which no further round begins.
    """

    rounds: int
    least_rounds: int = 2
    turn: float = 0.03
    load: float = 60.0
    call: float = 60.0
    budget: float = 60.0


@dataclass(kw_only=True)
class Outcome:
    """What came of a contender.

    Attributes
    ----------
    seconds, cpu_seconds
        Of one call, wall clock and processor time of all threads: the median of every round.
    peak_megabytes
        Of memory; None where the system does not tell.
    check
        As in `Work`; not stored.
    difference
        The largest of its `check` from that of ours in float32, when it was stored; None where they are not compared.
    error
        Why it has no times, or stopped.
    """

    name: str
    role: Role
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_megabytes: float | None = None
    check: list[float] = field(default_factory=list)
    difference: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def median(self) -> float | None:
        """Seconds of a call, the median over the rounds."""
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def median_cpu(self) -> float | None:
        """Processor seconds of a call, the median over the rounds."""
        return statistics.median(self.cpu_seconds) if self.cpu_seconds else None


class ContenderError(Exception):
    """A contender died, failed or took too long."""


class _Process:
    """One contender in a process of its own, seen from here."""

    def __init__(self, contender: Contender) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, contender), daemon=True)
        with _environment(contender.environment):
            self._process.start()
        there.close()

    def ask(self, question: tuple[Any, ...] | None, limit: float) -> dict[str, Any]:
        """Send a question, or none, and return the answer; a process that does not answer is ended."""
        try:
            if question is not None:
                self._here.send(question)
            if not self._here.poll(limit):
                raise ContenderError(f"no answer within {limit:.0f} s")
            answer: dict[str, Any] = self._here.recv()
        except (EOFError, OSError) as error:
            self._process.join(_END_SECONDS)
            raise ContenderError(f"the process died (exit code {self._process.exitcode})") from error
        if "error" in answer:
            raise ContenderError(answer["error"])
        return answer

    def end(self) -> None:
        # With the commands it has begun: they would work on beside the others.
        if self._process.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join(_END_SECONDS)
        self._here.close()


def take_turns(contenders: Sequence[Contender], limits: Limits) -> list[Outcome]:
    """Measure contenders in rounds.

    Parameters
    ----------
    contenders
        Who takes part; all are loaded before the first round.
    limits
        Rounds, and how long things may take.

    Returns
    -------
    list of Outcome
        In the order of `contenders`.
    """
    outcomes = [Outcome(name=contender.name, role=contender.role) for contender in contenders]
    running: list[tuple[_Process, Outcome]] = []
    try:
        for contender, outcome in zip(contenders, outcomes, strict=True):
            process = _Process(contender)
            try:
                ready = process.ask(None, contender.load or limits.load)
            except ContenderError as error:
                outcome.error = f"could not be loaded: {error}"
                process.end()
                continue
            outcome.check, outcome.facts = ready["check"], ready["facts"]
            running.append((process, outcome))
        began = time.perf_counter()
        for done in range(limits.rounds):
            if done >= limits.least_rounds and time.perf_counter() - began > limits.budget:
                break
            for process, outcome in running:
                _take_turn(process, outcome, limits)
    finally:
        for process, outcome in running:
            _note_memory(process, outcome)
            process.end()
    return outcomes


def prepare(contender: Contender, limit: float) -> Outcome:
    """Call a contender's `make` in a process of its own, for what it leaves on the disk and its facts."""
    return take_turns([contender], Limits(rounds=0, load=limit))[0]


def _take_turn(process: _Process, outcome: Outcome, limits: Limits) -> None:
    if outcome.error is not None:
        return
    time.sleep(SETTLING)
    try:
        answer = process.ask(("turn", limits.turn), limits.call)
    except ContenderError as error:
        outcome.error = str(error)
        process.end()
        return
    outcome.seconds.append(answer["seconds"])
    outcome.cpu_seconds.append(answer["cpu_seconds"])


def _note_memory(process: _Process, outcome: Outcome) -> None:
    if outcome.error is None:
        try:
            outcome.peak_megabytes = process.ask(("memory",), _END_SECONDS)["peak_megabytes"]
        except ContenderError as error:
            outcome.error = str(error)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables for a process that is about to start, which libraries read when they are loaded."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _serve(parent: Connection, contender: Contender) -> None:
    """Be a contender: load, then answer until the parent ends this process."""
    os.setpgrp()
    # What libraries print must not get into the document.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        module, _, function = contender.make.partition(":")
        work: Work = getattr(importlib.import_module(module), function)(contender.options)
        parent.send({"check": work.check, "facts": work.facts})
        last = 0.0
        while True:
            question = parent.recv()
            if question[0] == "memory":
                parent.send({"peak_megabytes": (work.peak_megabytes or peak_megabytes)()})
            else:
                seconds, cpu = _work(work.call, question[1], warm_up=last < question[1])
                last = statistics.median(seconds)
                parent.send({"seconds": last, "cpu_seconds": statistics.median(cpu)})
    except EOFError:
        return
    except Exception as error:  # whatever a library raises becomes the note of its row
        parent.send({"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]})


def _work(call: Callable[[], object], turn: float, *, warm_up: bool) -> tuple[list[float], list[float]]:
    """Call until the turn is over; the first calls find caches as another contender left them and don't count."""
    if warm_up:
        until = time.perf_counter() + turn * _WARM_UP_SHARE
        call()
        while time.perf_counter() < until:
            call()
    seconds: list[float] = []
    cpu: list[float] = []
    while not seconds or sum(seconds) < turn:
        cpu_began, began = time.process_time(), time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
        cpu.append(time.process_time() - cpu_began)
    return seconds, cpu


def peak_megabytes() -> float | None:
    """Return the most memory this process has had, in 10^6 bytes; None where the system does not tell.

    Not `getrusage`, whose peak on Linux includes that of the process this one was started from.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(values[0]) * 1024 / 1e6 if values else None
