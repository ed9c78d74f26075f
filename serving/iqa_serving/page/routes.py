"""What the page asks for: itself, what is served, and images scored with their pictures."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from functools import cache
from importlib import resources
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from iqa_runtime import Score
from iqa_runtime.commands.reporting import about_of
from iqa_runtime.report.page import cut_page, page_json, resource
from iqa_runtime.report.pictures import Looks, inside
from iqa_runtime.report.shown import placed, shown_of
from iqa_runtime.report.writer import About
from iqa_serving.scoring import batcher_of, check_scored, received, row_of, scores_of, service_of
from iqa_serving.showing import SIZES
from iqa_serving.uploads import read_uploads

_TITLE = "Image quality"

_HEADERS = {
    "Cache-Control": "no-cache",
    # The rest of its policy is in the page; this part must be a header.
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


async def page(_: Request) -> Response:
    """Return the page, which holds nothing of what is served."""
    return Response(_page(), media_type="text/html", headers=_HEADERS)


async def page_artefacts(request: Request) -> Response:
    """Say what the page may score with."""
    service = service_of(request)
    listed = [
        {
            "name": name,
            "needs_reference": batcher.scorer.contract.needs_reference,
            "about": asdict(about_of(batcher.scorer, _TITLE)),
        }
        for name, batcher in service.batchers.items()
    ]
    return JSONResponse({"artefacts": listed, "body_limit": service.settings.body_limit})


async def page_score(request: Request) -> Response:
    """Score one image; its row, its pictures and what lies beside it, as an item of a report."""
    service = service_of(request)
    name, _ = batcher_of(service, request.query_params.get("artefact"))
    async with received(request) as body:
        batcher = await service.showing.batcher(name)
        uploads = read_uploads(
            body.take(),
            request.headers.get("content-type", ""),
            needs_reference=batcher.scorer.contract.needs_reference,
            most=1,
        )
        (result,) = await scores_of(request, name, batcher, uploads)
        row = row_of(service, result)
        check_scored(row, result)
        shown = await asyncio.to_thread(_shown, result)
    return JSONResponse({"row": row, **shown})


def _shown(result: Score) -> dict[str, Any]:
    shown: dict[str, Any] = placed(shown_of(Looks.of_score(result), SIZES), inside)
    return shown


@cache
def _page() -> bytes:
    before, after = cut_page(
        _TITLE,
        style=resource("images.css") + _resource("drop.css"),
        script=resource("images.js") + _resource("drop.js"),
        connects_to="'self'",
    )
    about = About(heading=_TITLE, title=_TITLE, score="", higher_is_better=True, contract={}, versions={})
    data = page_json({"about": asdict(about), "items": [], "end": {"summary": "", "interrupted": False}})
    header, main, rest = resource("images.html").partition("<main>")
    body = f'{header}{_resource("drop.html")}{main}{rest}<script type="application/json" id="data">{data}</script>\n'
    return (before + body + after).encode()


def _resource(name: str) -> str:
    return resources.files("iqa_serving.page").joinpath(name).read_text(encoding="utf-8")


ROUTES = [
    Route("/", page),
    Route("/page/artefacts", page_artefacts),
    Route("/page/score", page_score, methods=["POST"]),
]
