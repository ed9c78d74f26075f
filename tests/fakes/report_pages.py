"""Pages of scored images: made from rows that were made up, and read back as an HTML parser sees them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from iqa_runtime.report.pictures import Looks, Sizes, inside
from iqa_runtime.report.writer import About, ReportWriter

Row = dict[str, Any]


def row(path: str, score: float | None, **others: Any) -> Row:
    """Return a row as iqa-run has it."""
    common = {"percentile": None, "verdict": None, "reasons": None, "range": [0.0, 1.0], "direction": "higher"}
    measured = {"width": 64, "height": 48, "color": "sRGB", "patches": 5, "milliseconds": 1.5, "artefact": "3f2a:five"}
    return {"path": path, "score": score, **common, **measured, "error": None, **others}


def about(**changes: Any) -> About:
    """Return what a page says beside its rows."""
    settings: dict[str, Any] = {
        "heading": "Image quality by tiny",
        "title": "tiny",
        "score": "score 0 to 1, higher is better",
        "higher_is_better": True,
        "contract": {"model": "tiny", "weights.licence": "<b>none</b>"},
        "versions": {"iqa-deploy": "0"},
    }
    return About(**{**settings, **changes})


def plain(value: int = 90, size: tuple[int, int] = (48, 64)) -> Looks:
    """Return a picture of one brightness."""
    return Looks(image=np.full((*size, 3), value, np.uint8))


def write_page(
    path: Path, rows: Iterable[tuple[Row, Callable[[], Looks]]], *, interrupted: bool = False, **changes: Any
) -> Path:
    """Write a page."""
    shown = list(rows)
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        writer = ReportWriter(
            stream, about(**changes), sizes=Sizes.of_report(len(shown), inside=True), place=inside, threads=2
        )
        writer.begin()
        for each, look in shown:
            writer.write(each, look)
        writer.end("done", interrupted=interrupted)
        writer.close()
    return path


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._open.append("")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "title", "style"):
            key = self._open[-1]
            if key == "script" and dict(self.tags[-1][1]).get("id") == "data":
                key = "data"
            self.texts[key] = self.texts.get(key, "") + data


def read_page(path: Path) -> tuple[dict[str, Any], list[tuple[str, dict[str, str | None]]]]:
    """Return what a page holds as data, and its tags with their attributes."""
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return json.loads(page.texts["data"]), page.tags


def rows_of(path: Path) -> list[Row]:
    """Return the rows of a page."""
    return [item["row"] for item in read_page(path)[0]["items"]]
