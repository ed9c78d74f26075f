"""Requests with images: ``/score`` and ``/score/batch``, and what every such request goes through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from iqa_runtime import BackendError, ResourceError, Score
from iqa_serving.batcher import Batcher
from iqa_serving.bodies import read_body
from iqa_serving.problems import ProblemError, busy
from iqa_serving.service import Service
from iqa_serving.uploads import Upload, read_uploads


def service_of(request: Request) -> Service:
    """Return the service that an application was made for."""
    service: Service = request.app.state.service
    return service


def batcher_of(service: Service, name: str | None) -> tuple[str, Batcher]:
    """Return the name and the batcher of the artefact that is meant; only where there is one need it not be named.

    Raises
    ------
    ProblemError
        400 if none is named among several; 404 if there is none of that name.
    """
    served = ", ".join(service.batchers)
    if name is None and len(service.batchers) > 1:
        raise ProblemError(400, f"several artefacts are served ({served}); say which: ?artefact=NAME")
    name = next(iter(service.batchers)) if name is None else name
    if name not in service.batchers:
        raise ProblemError(404, f"no artefact {name!r} is served, but {served}")
    return name, service.batchers[name]


class Body:
    """The bytes of a request, until they are taken: images are copies of them, and need no second one beside them."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def take(self) -> bytes:
        """Return the bytes, and forget them."""
        content, self._content = self._content, b""
        return content


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[Body]:
    """Read the body of a request, and hold a slot for the block.

    Raises
    ------
    ProblemError, ClientDisconnect
        As `read_body`; 503 if all slots are taken.
    """
    service = service_of(request)
    settings = service.settings
    with service.slots.one():
        yield Body(await read_body(request, most=settings.body_limit, seconds=settings.body_timeout))


async def scores_of(request: Request, name: str, batcher: Batcher, uploads: Sequence[Upload]) -> list[Score]:
    """Score images; if the client goes meanwhile, those whose turn has not come are left out.

    Raises
    ------
    ClientDisconnect
        If the client has gone.
    """
    service = service_of(request)
    futures = [asyncio.wrap_future(batcher.submit(*upload)) for upload in uploads]
    scored, gone = asyncio.ensure_future(asyncio.wait(futures)), asyncio.ensure_future(_left(request))
    either: set[asyncio.Future[Any]] = {scored, gone}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not scored.done():
            raise ClientDisconnect
        results = [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()
        for task in either:
            task.cancel()
    for result in results:
        service.metrics.count_image(name, result)
    return results


def row_of(service: Service, result: Score) -> dict[str, Any]:
    """Return the row that ``iqa-run`` writes for such a file; its path is what the client calls it."""
    row = result.row()
    return row if result.error is None else row | {"error": service.settings.words(row["error"])}


def check_scored(row: dict[str, Any], result: Score) -> None:
    """Refuse to answer for an image that has no score.

    Raises
    ------
    ProblemError
        422 if that is the image's fault, 500 if it is the model's, 503 if memory or threads are short.
    """
    if isinstance(result.error, ResourceError):
        raise busy(row["error"])
    if result.error is not None:
        raise ProblemError(500 if isinstance(result.error, BackendError) else 422, row["error"])


async def score(request: Request) -> Response:
    """Answer ``POST /score``: one image, one row."""
    rows, results = await _scored(request, most=1)
    check_scored(rows[0], results[0])
    return JSONResponse(rows[0])


async def score_batch(request: Request) -> Response:
    """Answer ``POST /score/batch``: a list of rows in the order of the images; what is wrong with one is in its row."""
    rows, _ = await _scored(request, most=service_of(request).settings.batch_limit)
    return JSONResponse(rows)


async def _scored(request: Request, *, most: int) -> tuple[list[dict[str, Any]], list[Score]]:
    service = service_of(request)
    name, _ = batcher_of(service, request.query_params.get("artefact"))
    async with received(request) as body:
        batcher = service.batchers[name]  # artefacts may have been opened anew while the body came
        uploads = read_uploads(
            body.take(),
            request.headers.get("content-type", ""),
            needs_reference=batcher.scorer.contract.needs_reference,
            most=most,
        )
        results = await scores_of(request, name, batcher, uploads)
    return [row_of(service, result) for result in results], results


async def _left(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
