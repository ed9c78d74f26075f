"""A process that serves: Uvicorn, with what it lacks: patience that ends, problems as errors, SIGHUP."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from iqa_serving.problems import MEDIA_TYPE, ProblemError, problem_bytes

HEADER_SECONDS = 10.0
"""How long a connection may be open without the header of a request having come."""

_LOOK_SECONDS = 1.0
"""Between two looks at whether the server is to go on."""

_IDLE_SECONDS = 15
"""How long a connection stays open after an answer, for the next request."""


class Protocol(H11Protocol):
    """HTTP/1.1 for a connection: one that begins no request is closed, and what is no HTTP is a problem."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what the client sends; the clock stands while a request is under way."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # an answer is under way already
            self.transport.close()
            return
        headers = [("Content-Type", MEDIA_TYPE), ("Connection", "close")]
        content = problem_bytes(ProblemError(400, msg))
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=content), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def on_response_complete(self) -> None:
        """Give who does not read the answer no longer than who sends nothing."""
        super().on_response_complete()
        if self.transport.is_closing():
            self.loop.call_later(_IDLE_SECONDS, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, whatever of its last answer is unread."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(_IDLE_SECONDS, self.transport.abort)

    def _wait(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


class Server(uvicorn.Server):
    """Ends well on SIGTERM and Ctrl-C, and is told to reload by SIGHUP.

    Parameters
    ----------
    app
        The application.
    grace
        Seconds that requests under way have to end.
    reload
        What SIGHUP does; None where nothing is to be done.
    look
        Asked every second, as long as the event loop runs; once it returns False, the server ends as on SIGTERM.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        grace: float,
        reload: Callable[[], Awaitable[None]] | None = None,
        look: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,  # loggers are the host's
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_IDLE_SECONDS,
                timeout_graceful_shutdown=grace,  # type: ignore[arg-type]  # to asyncio a float is as good
            )
        )
        self._reload, self._look = reload, look
        self._reloading: asyncio.Task[None] | None = None
        self._is_reload_wanted = False

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Catch signals for the block. Nothing is raised after it: who ends because it was asked to has not failed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        handlers: dict[int, Callable[[int, FrameType | None], Any]] = {
            signal.SIGTERM: self.handle_exit,
            signal.SIGINT: self.handle_exit,
        }
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = lambda *_: loop.call_soon_threadsafe(self._begin_reload)
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        _mask_reload(held=False)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve on sockets until the end."""
        looking = asyncio.ensure_future(self._keep_looking())
        try:
            await super().serve(sockets)
        finally:
            looking.cancel()

    def serve_on(self, listening: socket.socket) -> None:
        """Serve until a signal comes, then answer what is under way."""
        self.run([listening])

    async def _keep_looking(self) -> None:
        while True:
            self.should_exit = not self._look() or self.should_exit
            await asyncio.sleep(_LOOK_SECONDS)

    def _begin_reload(self) -> None:
        self._is_reload_wanted = True
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.ensure_future(self._reload_until_latest())

    async def _reload_until_latest(self) -> None:
        """Reload, and once more if that was asked for meanwhile: a file may have changed after it was read."""
        while self._reload is not None and self._is_reload_wanted:
            self._is_reload_wanted = False
            await self._reload()


@contextmanager
def reload_held() -> Iterator[None]:
    """Let SIGHUP wait for the block, or until there is who reloads: it would end a process that opens artefacts.

    Processes that are started meanwhile inherit it.
    """
    _mask_reload(held=True)
    try:
        yield
    finally:
        _mask_reload(held=False)


def _mask_reload(*, held: bool) -> None:
    if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
        signal.pthread_sigmask(signal.SIG_BLOCK if held else signal.SIG_UNBLOCK, {signal.SIGHUP})
