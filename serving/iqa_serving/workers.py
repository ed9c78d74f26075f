"""One server in one process or in several, which share a listening socket."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from iqa_runtime.commands.process import INTERRUPTED, leave
from iqa_runtime.commands.shared import NOT_RUN, SOME_FAILED, say
from iqa_runtime.errors import IqaError, UsageError
from iqa_serving.app import create_app
from iqa_serving.metrics import FOLDER_VARIABLE
from iqa_serving.server import Server, reload_held
from iqa_serving.service import Service
from iqa_serving.settings import Settings

NAME = "iqa-serve"

_TICK = 0.2
"""Seconds between two looks at signals that came; a worker that ends is seen at once."""

_PAUSE = 1.0
"""Seconds before a worker that ended by itself is replaced: one that cannot live must not keep the machine busy."""

_KILL_AFTER = 5.0
"""Seconds beyond the grace of a worker until it is killed."""


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


def serve_here(settings: Settings, listening: socket.socket, *, supervisor: Connection | None = None) -> None:
    """Serve in this process until a signal comes, or the supervisor has gone, which is told once requests are taken.

    Raises
    ------
    IqaError
        If an artefact or the token cannot be opened.
    """
    with reload_held():
        _serve(settings, listening, supervisor)


def _serve(settings: Settings, listening: socket.socket, supervisor: Connection | None) -> None:
    service = Service(settings)

    async def reload() -> None:
        try:
            await service.reload()
        except IqaError as error:
            say(NAME, f"not reloaded, and served as before: {settings.words(str(error))}")
        except Exception as error:
            say(NAME, f"not reloaded, and served as before: {type(error).__name__}: {error}")
        else:
            say(NAME, f"reloaded: {_described(service)}")

    server = Server(create_app(service), grace=settings.grace, reload=reload)
    if supervisor is not None:
        threading.Thread(target=_watch_parent, args=(server,), name="iqa-parent", daemon=True).start()
        supervisor.send_bytes(b"ready")
    say(NAME, f"ready: {_described(service)}")
    try:
        server.serve_on(listening)
    finally:
        service.close()


def _described(service: Service) -> str:
    return ", ".join(f"{name} ({each.scorer.artefact_key})" for name, each in service.batchers.items())


def _watch_parent(server: Server) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        server.should_exit = True


def _work(settings: Settings, listening: socket.socket, supervisor: Connection) -> None:
    """Be a worker."""
    try:
        serve_here(settings, listening, supervisor=supervisor)
    except IqaError as error:
        say(NAME, settings.words(str(error)))
        leave(NOT_RUN)
    except KeyboardInterrupt:  # before it serves
        leave(INTERRUPTED)
    leave(0)


class Supervisor:
    """Keeps a number of workers alive, once one has been: where the first ones cannot begin, nor could others.

    Parameters
    ----------
    settings
        What they serve.
    listening
        The socket that they share.
    count
        How many.
    """

    def __init__(self, settings: Settings, listening: socket.socket, count: int) -> None:
        self._settings, self._listening, self._count = settings, listening, count
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[SpawnProcess] = []
        self._told, self._telling = self._context.Pipe(duplex=False)
        self._has_served = False
        self._came: list[int] = []

    def run(self) -> int:
        """Serve until a signal comes; return the exit code."""
        with tempfile.TemporaryDirectory(prefix="iqa-serve-") as folder:
            os.environ[FOLDER_VARIABLE] = folder  # read by prometheus_client when a worker loads it
            for number in (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM)):
                signal.signal(number, lambda number, _: self._came.append(number))
            self._workers = [self._started() for _ in range(self._count)]
            try:
                return self._watch(Path(folder))
            finally:
                self._stop()

    def _watch(self, folder: Path) -> int:
        while True:
            wait([worker.sentinel for worker in self._workers], _TICK)
            while self._came:
                number = self._came.pop(0)
                if number in (signal.SIGTERM, signal.SIGINT):
                    return 0
                self._send(number)
            for index, worker in enumerate(self._workers):
                if worker.exitcode is None:
                    continue
                while self._told.poll():
                    self._has_served = bool(self._told.recv_bytes())
                if not self._has_served and worker.exitcode == NOT_RUN:  # it has said why
                    return NOT_RUN
                if not self._has_served:
                    say(NAME, f"a worker has ended before it could serve ({_how(worker.exitcode)}); nothing is served")
                    return SOME_FAILED
                say(NAME, f"a worker has ended ({_how(worker.exitcode)}); another one takes its place")
                _forget(folder, worker)
                time.sleep(_PAUSE)
                self._workers[index] = self._started()

    def _started(self) -> SpawnProcess:
        worker = self._context.Process(target=_work, args=(self._settings, self._listening, self._telling), name=NAME)
        with reload_held():
            worker.start()
        return worker

    def _send(self, number: int) -> None:
        for worker in self._workers:
            if worker.pid is not None and worker.exitcode is None:
                os.kill(worker.pid, number)

    def _stop(self) -> None:
        self._listening.close()
        self._send(signal.SIGTERM)
        over = time.monotonic() + self._settings.grace + _KILL_AFTER
        for worker in self._workers:
            worker.join(max(0.0, over - time.monotonic()))
            if worker.exitcode is None:
                worker.kill()
                worker.join()


def _how(code: int) -> str:
    return f"by signal {-code}" if code < 0 else f"with exit code {code}"


def _forget(folder: Path, worker: SpawnProcess) -> None:
    """Take a worker that is gone out of the numbers of those that live."""
    for path in folder.glob(f"gauge_live*_{worker.pid}.db"):
        path.unlink(missing_ok=True)
