"""Write the page of scored images, row by row as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from iqa_runtime.errors import starting_threads
from iqa_runtime.report.page import cut_page, page_json, resource
from iqa_runtime.report.pictures import Looks, Place, Sizes
from iqa_runtime.report.shown import Shown, placed, shown_of

_MOST_SECONDS = 60.0
"""To wait for the pictures of one image, whose file may lie where nobody answers; then its row goes without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a page of scored images says beside the rows.

    Attributes
    ----------
    heading, title
        What scored them: in a few words, and in a line.
    score
        Range and direction of the scores, in words.
    higher_is_better
        Direction.
    notices
        What a reader must know first.
    contract, versions
        Names and values, in order.
    """

    heading: str
    title: str
    score: str
    higher_is_better: bool
    notices: tuple[str, ...] = ()
    contract: Mapping[str, str]
    versions: Mapping[str, str]


class ReportWriter:
    """Writes a page to a text stream; `begin` and `end` write what surrounds the rows.

    Parameters
    ----------
    stream
        Where to, UTF-8.
    about
        What the page says beside the rows.
    sizes
        Of the pictures.
    place
        Where encoded pictures go.
    images_from
        Where the page may load them from, as in `iqa_runtime.report.page.cut_page`.
    threads
        That encode pictures.
    """

    def __init__(
        self, stream: TextIO, about: About, *, sizes: Sizes, place: Place, images_from: str = "data:", threads: int = 1
    ) -> None:
        self._stream, self._about, self._sizes, self._place = stream, about, sizes, place
        self._before, self._after = cut_page(
            about.title, style=resource("images.css"), script=resource("images.js"), images_from=images_from
        )
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="iqa-report")
        self._waiting: deque[tuple[dict[str, Any], Future[Shown]]] = deque()
        self._most_waiting = 2 * threads
        self._references: dict[str, int] = {}
        self._written = 0

    def begin(self) -> None:
        """Write what comes before the first row."""
        self._stream.write(self._before + resource("images.html"))
        self._stream.write(
            f'<script type="application/json" id="data">{{"about":{page_json(asdict(self._about))},"items":['
        )

    def write(self, row: dict[str, Any], look: Callable[[], Looks]) -> None:
        """Write one row, soon.

        Parameters
        ----------
        row
            As `iqa_runtime.Score.row` returns it, or with further keys of plain values.
        look
            Returns what can be shown of it; called in another thread.
        """
        with starting_threads():
            self._waiting.append((row, self._pool.submit(lambda: shown_of(look(), self._sizes))))
        while len(self._waiting) > self._most_waiting:
            self._write_oldest()

    def end(self, summary: str, *, interrupted: bool, added: Sequence[Mapping[str, Any]] = ()) -> None:
        """Write the rows that are left, and what comes after them.

        Parameters
        ----------
        summary
            Of the run, in words.
        interrupted
            Whether it was ended before its end.
        added
            Keys that the rows get, because they are known at the end only: one mapping a row, in their order, or none.
        """
        while self._waiting:
            self._write_oldest()
        end = {"summary": summary, "interrupted": interrupted, "added": list(added)}
        self._stream.write(f'\n],"end":{page_json(end)}}}</script>\n')
        self._stream.write(self._after)

    def close(self) -> None:
        """Begin no further picture."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _write_oldest(self) -> None:
        row, future = self._waiting[0]  # it stays there if the run is ended while it waits
        try:
            shown = future.result(_MOST_SECONDS)
        except Exception:  # whatever a picture to show has run into, the score stands
            shown = {}
        self._waiting.popleft()
        beside = shown.get("beside", {})
        if "reference" in beside:
            # One that many images are compared with is in the page once.
            digest = beside["reference"].pop("digest")
            first = self._references.setdefault(digest, self._written)
            if first != self._written:
                beside["reference"] = {"picture": first}
        self._stream.write((",\n" if self._written else "\n") + page_json({"row": row, **placed(shown, self._place)}))
        self._written += 1
