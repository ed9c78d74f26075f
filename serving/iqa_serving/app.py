"""The ASGI application."""

from __future__ import annotations

import hmac
from typing import cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from iqa_runtime import IqaError, ResourceError
from iqa_serving import inference, scoring
from iqa_serving.bodies import Lingering
from iqa_serving.metrics import Counting
from iqa_serving.page import routes as page
from iqa_serving.problems import ProblemError, busy, problem_response
from iqa_serving.service import Service

_OPEN = frozenset({"/", "/v2/health/live", "/v2/health/ready"})
"""What needs no token: the page asks for it itself, orchestrators ask for health, and none tells what is served."""

_CLIENT_HAS_GONE = 499
"""For the metrics alone; nginx counts them so, too."""


class Guard:
    """ASGI middleware: lets in who has the token."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        token = self.service.token
        if scope["type"] != "http" or token is None or scope["path"] in _OPEN:
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token):
            await self.app(scope, receive, send)
            return
        problem = ProblemError(
            401, "send the token of this server as Authorization: Bearer", {"WWW-Authenticate": "Bearer"}
        )
        await problem_response(request, problem)(scope, receive, send)


def create_app(service: Service) -> Starlette:
    """Return the application of a service, for any server of ASGI; the service is closed by whoever made it."""

    async def metrics(_: Request) -> Response:
        return Response(service.metrics.exposition(), media_type="text/plain; version=0.0.4")

    app = Starlette(
        routes=[
            Route("/score", scoring.score, methods=["POST"]),
            Route("/score/batch", scoring.score_batch, methods=["POST"]),
            Route("/metrics", metrics),
            *inference.ROUTES,
            *(page.ROUTES if service.settings.page else []),
        ],
        middleware=[
            Middleware(Lingering),
            Middleware(Counting, metrics=service.metrics),
            Middleware(Guard, service=service),
        ],
        exception_handlers={
            ProblemError: _on_problem,
            HTTPException: _on_http_exception,
            ClientDisconnect: _on_disconnect,
            IqaError: _on_iqa_error,
            MemoryError: _on_shortage,
            Exception: _on_surprise,
        },
    )
    app.router.redirect_slashes = False  # a redirect would be made of a header of the client
    app.state.service = service
    return app


async def _on_problem(request: Request, error: Exception) -> Response:
    return problem_response(request, cast(ProblemError, error))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    of_http = cast(HTTPException, error)  # of routing: no such path, or no such method
    detail = f"{request.method} {request.url.path}: {of_http.detail}"
    return problem_response(request, ProblemError(of_http.status_code, detail, of_http.headers))


async def _on_disconnect(*_: object) -> Response:
    return Response(status_code=_CLIENT_HAS_GONE)


async def _on_iqa_error(request: Request, error: Exception) -> Response:
    service: Service = request.app.state.service
    words = service.settings.words(str(error))
    return problem_response(request, busy(words) if isinstance(error, ResourceError) else ProblemError(500, words))


async def _on_shortage(request: Request, _: Exception) -> Response:
    return problem_response(request, busy("memory is short; ask again later"))


async def _on_surprise(request: Request, _: Exception) -> Response:
    # Uvicorn closes the connection after it.
    return problem_response(
        request, ProblemError(500, "the server has failed; its log says why", {"Connection": "close"})
    )
