"""One server in one process or in several, which share a listening socket."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from iqa_runtime.commands.process import INTERRUPTED, leave
from iqa_runtime.commands.shared import NOT_RUN, SOME_FAILED, say
from iqa_runtime.errors import IqaError, UsageError
from iqa_serving.app import create_app
from iqa_serving.metrics import FOLDER_VARIABLE, go_on_counting
from iqa_serving.server import Server, reload_held
from iqa_serving.service import Service
from iqa_serving.settings import Settings

NAME = "iqa-serve"

_TICK = 0.2
"""Seconds between two looks at signals that came; a worker that ends is seen at once."""

_PAUSE = 1.0
"""Seconds before a worker that ended by itself is replaced: one that cannot live must not keep the machine busy."""

_KILL_AFTER = 15.0
"""Seconds beyond the grace of a worker until it is killed."""

_SILENCE = 60.0
"""Seconds: sixty signs of life that have not come, more than a machine that is short of everything explains."""


def listen(host: str, port: int) -> socket.socket:
    """Open the socket that clients connect to.

    Raises
    ------
    UsageError
        If that cannot be.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        raise UsageError(
            f"``host={host}``: cannot listen on port {port} there ({error.strerror}); choose another ``port``"
        ) from error
    listening.set_inheritable(True)
    return listening


def serve_here(settings: Settings, listening: socket.socket, *, supervisor: Connection | None = None) -> int:
    """Serve in this process until a signal comes, or the supervisor has gone, which gets a sign of life every second.

    Returns
    -------
    int
        The exit code: 0, or 1 if what scores stands still, so that the process is to be replaced.

    Raises
    ------
    IqaError
        If an artefact or the token cannot be opened.
    """
    with reload_held():
        return _serve(settings, listening, supervisor)


def _serve(settings: Settings, listening: socket.socket, supervisor: Connection | None) -> int:
    service = Service(settings)
    is_lost = False

    async def reload() -> None:
        try:
            await service.reload()
        except IqaError as error:
            say(NAME, f"not reloaded, and served as before: {settings.words(str(error))}")
        except Exception as error:
            say(NAME, f"not reloaded, and served as before: {type(error).__name__}: {error}")
        else:
            say(NAME, f"reloaded: {_described(service)}")

    def look() -> bool:
        nonlocal is_lost
        if supervisor is not None:
            with suppress(OSError):  # it has gone, or reads nothing for hours
                supervisor.send_bytes(b"alive")
        if not is_lost and service.is_lost():
            is_lost = True
            say(NAME, f"no sign of life from what scores for {settings.stall_timeout:g} s; this process ends")
        return not is_lost

    server = Server(create_app(service), grace=settings.grace, reload=reload, look=look)
    if supervisor is not None:
        threading.Thread(target=_watch_parent, args=(server,), name="iqa-parent", daemon=True).start()
    say(NAME, f"ready: {_described(service)}")
    try:
        server.serve_on(listening)
    finally:
        service.close()
    return SOME_FAILED if is_lost else 0


def _described(service: Service) -> str:
    return ", ".join(f"{name} ({each.scorer.artefact_key})" for name, each in service.batchers.items())


def _watch_parent(server: Server) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        server.should_exit = True


def _work(settings: Settings, listening: socket.socket, place: int, supervisor: Connection) -> None:
    """Be a worker."""
    go_on_counting(place)
    os.set_blocking(supervisor.fileno(), False)
    try:
        leave(serve_here(settings, listening, supervisor=supervisor))
    except IqaError as error:
        say(NAME, settings.words(str(error)))
        leave(NOT_RUN)
    except KeyboardInterrupt:  # before it serves
        leave(INTERRUPTED)


class _Worker:
    """A process that serves, and when it last gave a sign of life; None before the first."""

    def __init__(self, process: SpawnProcess, heard: Connection) -> None:
        self.process, self._heard = process, heard
        self.last: float | None = None

    def listen(self) -> None:
        """Take its signs of life."""
        with suppress(EOFError, OSError):  # it has ended
            while self._heard.poll():
                self._heard.recv_bytes()
                self.last = time.monotonic()


class Supervisor:
    """Keeps a number of workers alive, once one has been: where the first ones cannot begin, nor could others.

    One that ends is replaced, and so is one that gives no sign of life, which is killed first.

    Parameters
    ----------
    settings
        What they serve.
    listening
        The socket that they share.
    count
        How many.
    silence
        Seconds for which one that has served may be silent.
    """

    def __init__(self, settings: Settings, listening: socket.socket, count: int, *, silence: float = _SILENCE) -> None:
        self._settings, self._listening, self._count, self._silence = settings, listening, count, silence
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._has_served = False
        self._came: list[int] = []

    def run(self) -> int:
        """Serve until a signal comes; return the exit code."""
        with tempfile.TemporaryDirectory(prefix="iqa-serve-") as folder:
            os.environ[FOLDER_VARIABLE] = folder  # read by prometheus_client when a worker loads it
            for number in (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM)):
                signal.signal(number, lambda number, _: self._came.append(number))
            self._workers += [self._started(place) for place in range(self._count)]
            try:
                return self._watch(Path(folder))
            finally:
                self._stop()

    def _watch(self, folder: Path) -> int:
        while True:
            wait([worker.process.sentinel for worker in self._workers], _TICK)
            while self._came:
                number = self._came.pop(0)
                if number in (signal.SIGTERM, signal.SIGINT):
                    return 0
                self._send(number)
            for place, worker in enumerate(self._workers):
                worker.listen()
                self._has_served = self._has_served or worker.last is not None
                if worker.process.exitcode is None:
                    self._check_life(worker)
                    continue
                how = _how(worker.process.exitcode)
                if not self._has_served and worker.process.exitcode == NOT_RUN:  # it has said why
                    return NOT_RUN
                if not self._has_served:
                    say(NAME, f"a worker has ended before it could serve ({how}); nothing is served")
                    return SOME_FAILED
                say(NAME, f"a worker has ended ({how}); another one takes its place")
                _forget(folder, place)
                time.sleep(_PAUSE)
                self._workers[place] = self._started(place)

    def _check_life(self, worker: _Worker) -> None:
        if worker.last is not None and time.monotonic() - worker.last > self._silence:
            say(NAME, f"a worker has given no sign of life for {self._silence:g} s; it is killed")
            worker.process.kill()
            worker.process.join()

    def _started(self, place: int) -> _Worker:
        heard, telling = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(self._settings, self._listening, place, telling), name=NAME)
        with telling, reload_held():
            process.start()
        return _Worker(process, heard)

    def _send(self, number: int) -> None:
        for worker in self._workers:
            if worker.process.pid is not None and worker.process.exitcode is None:
                os.kill(worker.process.pid, number)

    def _stop(self) -> None:
        self._listening.close()
        self._send(signal.SIGTERM)
        over = time.monotonic() + self._settings.grace + _KILL_AFTER
        for worker in self._workers:
            worker.process.join(max(0.0, over - time.monotonic()))
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()


def _how(code: int) -> str:
    return f"by signal {-code}" if code < 0 else f"with exit code {code}"


def _forget(folder: Path, place: int) -> None:
    """Take a worker that is gone out of the numbers of those that live; what it has counted stays."""
    for path in folder.glob(f"gauge_live*_{place}.db"):
        path.unlink(missing_ok=True)
