"""The page of all reports: one HTML file that needs nothing else and asks for nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from functools import cache
from importlib import resources
from string import Template
from typing import Any

from iqa_runtime import __version__
from iqa_runtime.showing import printable

_BODY = "\x00"
"""Stands for the body in a page that is cut in two there; no text of a page can hold it."""


@cache
def resource(name: str) -> str:
    """Return the text of a file of this package."""
    return resources.files("iqa_runtime.report").joinpath(name).read_text(encoding="utf-8")


def whole_page(title: str, body: str) -> str:
    """Return a page without scripts.

    Parameters
    ----------
    title
        Plain text.
    body
        HTML, in which whatever comes from outside has been escaped.
    """
    return _BODY.join(cut_page(title)).replace(_BODY, body, 1)


def cut_page(
    title: str, *, style: str = "", script: str = "", images_from: str = "data:", connects_to: str = "'none'"
) -> tuple[str, str]:
    """Return what comes before and what comes after the body of a page.

    Its policy lets in styles and the one script that are inside, and images; nothing else is loaded or run, whatever
    gets into the body.

    Parameters
    ----------
    title
        Plain text.
    style
        CSS of this page, beside that of all.
    script
        JavaScript that runs once the body is there; empty for none.
    images_from, connects_to
        Sources of images, and whom the script may ask, in the words of a content security policy.
    """
    source = f"\n{script}"
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    scripts = f"; script-src 'sha256-{digest}'" if script else ""
    text = Template(resource("page.html")).substitute(
        policy=f"default-src 'none'; style-src 'unsafe-inline'; img-src {images_from}{scripts}; "
        f"connect-src {connects_to}; base-uri 'none'; form-action 'none'",
        generator=html.escape(f"iqa-deploy {__version__}"),
        title=html.escape(printable(title).replace(_BODY, "")),
        style=resource("page.css") + style,
        body=_BODY + (f"<script>{source}</script>\n" if script else ""),
    )
    before, _, after = text.partition(_BODY)
    return before, after


def page_json(value: Any) -> str:
    """Write JSON that no HTML parser takes for markup, whatever the texts in it hold."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
