"""Errors as clients see them: problem details (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

MEDIA_TYPE = "application/problem+json"

_RETRY_SECONDS = 1
"""When a client may ask again; a request takes less."""


class ProblemError(Exception):
    """A request that gets no scores, and why.

    Parameters
    ----------
    status
        Of HTTP.
    detail
        What is wrong and what to do about it, for whoever wrote the client.
    headers
        Of the response, beside the usual.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})

    def content(self) -> dict[str, Any]:
        """Return the members of the problem; its type is ``about:blank``, so its title is that of the status."""
        return {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }


def busy(detail: str) -> ProblemError:
    """Return what answers where there is no room now: 503 with Retry-After."""
    return ProblemError(503, detail, {"Retry-After": str(_RETRY_SECONDS)})


def problem_bytes(problem: ProblemError) -> bytes:
    """Return the body of a response, for whoever has no request."""
    return json.dumps(problem.content(), ensure_ascii=False).encode()


def problem_response(request: Request, problem: ProblemError) -> Response:
    """Return what answers a request; clients of the Open Inference Protocol find the detail as ``error``, too."""
    content = problem.content()
    if request.url.path.startswith("/v2"):
        content["error"] = problem.detail
    return JSONResponse(content, problem.status, problem.headers, MEDIA_TYPE)
