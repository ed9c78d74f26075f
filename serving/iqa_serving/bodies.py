"""Bodies of requests: how much is read of them, for how long, and what becomes of the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from iqa_serving.problems import ProblemError, busy

_LINGER_SECONDS = 2.0
"""How long what nobody wants is still read, so that a client that sends first and listens later learns why."""


class Slots:
    """Room for so many requests at a time. For one event loop.

    Parameters
    ----------
    count
        How many.
    on_change
        Called with the number of those that are taken.
    """

    def __init__(self, count: int, on_change: Callable[[int], None]) -> None:
        self._count = count
        self._taken = 0
        self._on_change = on_change

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a slot for the block.

        Raises
        ------
        ProblemError
            503 with Retry-After, if all are taken.
        """
        if self._taken >= self._count:
            raise busy(f"{self._count} requests are under way already; ask again later")
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    def _change(self, by: int) -> None:
        self._taken += by
        self._on_change(self._taken)


async def read_body(request: Request, *, most: int, seconds: float) -> bytes:
    """Read the body of a request, whatever its headers promise.

    Raises
    ------
    ProblemError
        413 if it is longer than `most` bytes; 408 if it takes longer than `seconds`; 415 if it is compressed; 400 if it
        is empty.
    ClientDisconnect
        If the client has gone.
    """
    coding = request.headers.get("content-encoding", "identity")
    if coding.strip().lower() != "identity":
        raise ProblemError(
            415, f"content coding {coding!r} is not read; send the body as it is", {"Accept-Encoding": "identity"}
        )
    too_long = ProblemError(413, f"the body is longer than {most} bytes; send less at a time")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise too_long
    except TimeoutError as error:
        raise ProblemError(408, f"the body did not come within {seconds:g} s; send less at a time") from error
    if not body:
        raise ProblemError(400, "the body is empty; send an image")
    return bytes(body)


class Lingering:
    """ASGI middleware: who is answered before the body has ended gets to read the answer, and is then hung up on.

    Were the connection closed at once, what the client still sends would reset it, and the answer could be lost; were
    it left open, the client could go on sending for ever.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or not {b"content-length", b"transfer-encoding"} & {
            name for name, _ in scope["headers"]
        }:
            await self.app(scope, receive, send)
            return
        ended = early = False

        async def receive_noting() -> Message:
            nonlocal ended
            message = await receive()
            ended = ended or message["type"] == "http.disconnect" or not message.get("more_body", False)
            return message

        async def send_lingering(message: Message) -> None:
            nonlocal early
            if message["type"] == "http.response.start" and not ended:
                early = True
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            if message["type"] == "http.response.body" and early and not message.get("more_body", False):
                await send({**message, "more_body": True})
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LINGER_SECONDS):
                        while not ended:
                            await receive_noting()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await self.app(scope, receive_noting, send_lingering)
