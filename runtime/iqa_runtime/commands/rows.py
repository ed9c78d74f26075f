"""Write scores as rows: JSON, JSON lines, CSV or a table."""

from __future__ import annotations

import csv
import io
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TextIO

from iqa_runtime.commands.process import undisturbed
from iqa_runtime.errors import FileError
from iqa_runtime.files.overwriting import open_straight, rewritten
from iqa_runtime.measuring import MEASURED
from iqa_runtime.showing import printable, printable_json

Row = dict[str, Any]
KEYS = (
    *("path", "score", "percentile", "verdict", "reasons", "measures", "group", "rank", "range", "direction"),
    *("width", "height", "color", "patches", "milliseconds", "artefact", "error"),
)
CLIP_KEYS = (*KEYS[:2], "p05", *KEYS[2:])
"""Keys of a run with videos: of one, the 5th percentile of its frames' scores stands beside their mean."""

_FRAME_MARK = "#t="


def columns(keys: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of rows with these keys where a cell is one value: each of the measures has its own."""
    several = {"measures": tuple(f"measures.{name}" for name in MEASURED)}
    return tuple(name for key in keys for name in several.get(key, (key,)))


def frame_path(clip: str, time: float) -> str:
    """Return what rows call a frame of a video, as a media fragment (W3C Media Fragments URI 1.0, 4.2.1)."""
    return f"{clip}{_FRAME_MARK}{time:.3f}"


def clip_of(path: str) -> str | None:
    """Return the video that a path names a frame of; None if it has not the form of one."""
    clip, mark, _ = path.rpartition(_FRAME_MARK)
    return clip if mark else None


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"


TYPED = (Format.PARQUET, Format.ARROW)
"""Formats with typed columns, which `iqa_runtime.commands.arrow_rows` writes; the file is whole only at its end."""

STREAMED = (Format.JSONL, Format.CSV)
"""Formats whose rows stand for themselves, so that a file of them can be cut, resumed and appended to."""


class RowWriter(ABC):
    """Writes rows to a text stream; `begin` and `end` write what surrounds them.

    Parameters
    ----------
    stream
        Where to.
    title
        Heading of a table.
    keys
        Of every row, in this order; what a row lacks is null.
    """

    opening: ClassVar[str] = ""
    closing: ClassVar[str] = ""

    def __init__(self, stream: TextIO, title: str = "", keys: tuple[str, ...] = KEYS) -> None:
        self.stream = stream
        self.title = title
        self.keys = keys
        self._on_terminal = stream.isatty()

    def begin(self) -> None:
        """Write what comes before the first row."""
        self.stream.write(self.opening)

    @abstractmethod
    def write(self, row: Row) -> None:
        """Write one row, in one call to the stream, so that an interruption never leaves half of one."""

    def _json(self, row: Row) -> str:
        text = json.dumps({key: row.get(key) for key in self.keys}, ensure_ascii=False, allow_nan=False)
        return printable_json(text) if self._on_terminal else text

    def end(self) -> None:
        """Write what comes after the last row."""
        self.stream.write(self.closing)


class JsonLinesWriter(RowWriter):
    """One JSON object a line, flushed as it comes."""

    def write(self, row: Row) -> None:  # noqa: D102
        self.stream.write(self._json(row) + "\n")
        self.stream.flush()


class JsonWriter(RowWriter):
    """One JSON array."""

    opening = "["
    closing = "\n]\n"
    _separator = "\n"

    def write(self, row: Row) -> None:  # noqa: D102
        self.stream.write(self._separator + self._json(row))
        self._separator = ",\n"


class CsvWriter(RowWriter):
    """RFC 4180 with a header and bare newlines, flushed as it comes; null is empty.

    The range is two numbers, infinite where it has no end; reasons are joined by commas; each of the measures has a
    column.
    """

    def __init__(self, stream: TextIO, title: str = "", keys: tuple[str, ...] = KEYS) -> None:
        super().__init__(stream, title, keys)
        self._csv = csv.writer(stream, lineterminator="\n")
        self._quoting = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def begin(self) -> None:  # noqa: D102
        self.stream.write(",".join(columns(self.keys)) + "\n")

    def write(self, row: Row) -> None:  # noqa: D102
        ends = zip(row["range"], (-math.inf, math.inf), strict=True)
        words = " ".join(str(open_end if end is None else end) for end, open_end in ends)
        measures = {f"measures.{name}": value for name, value in (row["measures"] or {}).items()}
        flat = row | measures | {"range": words, "reasons": _joined(row)}
        cells = [flat.get(column) for column in columns(self.keys)]
        if self._on_terminal:
            cells = [printable(cell) if isinstance(cell, str) else cell for cell in cells]
        # Python before 3.13 quotes no carriage return, and then reads none back.
        bare = any("\r" in cell for cell in cells if isinstance(cell, str))
        (self._quoting if bare else self._csv).writerow(cells)
        self.stream.flush()


class TableWriter(RowWriter):
    """A table for people, written at the end because the widest row decides its columns."""

    def __init__(self, stream: TextIO, title: str = "", keys: tuple[str, ...] = KEYS) -> None:
        super().__init__(stream, title, keys)
        self._rows: list[Row] = []

    def write(self, row: Row) -> None:  # noqa: D102
        self._rows.append(row)

    def end(self) -> None:  # noqa: D102
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        failed = any(row["error"] for row in self._rows)
        reasoned = any(row["reasons"] is not None for row in self._rows)
        judged = any(row["verdict"] is not None for row in self._rows)
        measured = MEASURED if any(row["measures"] is not None for row in self._rows) else ()
        grouped = any(row["group"] is not None for row in self._rows)
        # Text, not str: a file name is not markup.
        table = Table(box=SIMPLE_HEAD, title=Text(printable(self.title)), title_justify="left")
        table.add_column("path", overflow="fold")
        numbers = {"score": ".4f"} | ({"p05": ".4f"} if "p05" in self.keys else {})
        if any(row["percentile"] is not None for row in self._rows):
            numbers["percentile"] = ".1f"
        for heading in numbers:
            table.add_column(heading, justify="right", no_wrap=True)
        if judged:
            table.add_column("verdict", no_wrap=True)
        if reasoned:
            table.add_column("reasons", overflow="fold")
        for heading in measured:
            table.add_column(heading, justify="right", no_wrap=True)
        if grouped:
            table.add_column("group", overflow="fold")
            table.add_column("rank", no_wrap=True)
        table.add_column("size", justify="right", no_wrap=True)
        table.add_column("color", no_wrap=True)
        for heading in ("patches", "ms"):
            table.add_column(heading, justify="right", no_wrap=True)
        if failed:
            table.add_column("error", overflow="fold")
        for row in self._rows:
            scores = ["" if row.get(key) is None else f"{row[key]:{places}}" for key, places in numbers.items()]
            verdicts = [row["verdict"] or ""] * judged
            size = f"{row['width']} x {row['height']}" if row["width"] else ""
            milliseconds = "" if row["milliseconds"] is None else f"{row['milliseconds']:.0f}"
            color, patches = row["color"] or "", str(row["patches"] or "")
            reasons, errors = [_joined(row) or ""] * reasoned, [row["error"] or ""] * failed
            measures = [_shown((row["measures"] or {}).get(name)) for name in measured]
            ranks = [row["group"] or "", _place(row["rank"])] if grouped else []
            facts = [*verdicts, *reasons, *measures, *ranks]
            cells = [row["path"], *scores, *facts, size, color, patches, milliseconds, *errors]
            table.add_row(*(Text(printable(cell)) for cell in cells))
        # Only a terminal has a width to fold into.
        width = None if self.stream.isatty() else 1_000_000
        console = Console(file=self.stream, width=width, legacy_windows=False, safe_box=True)
        with console.capture() as capture:
            console.print(table)
        self.stream.write("\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n") + "\n")


def _joined(row: Row) -> str | None:
    """Return the reasons of a row in one text; the contract lets no comma into their names."""
    return None if row["reasons"] is None else ",".join(row["reasons"])


def _shown(measure: float | None) -> str:
    return "" if measure is None else f"{measure:.3g}"


def _place(rank: int | None) -> str:
    return "" if rank is None else f"{rank} best" if rank == 1 else str(rank)


WRITERS: dict[Format, type[RowWriter]] = {
    Format.TABLE: TableWriter,
    Format.JSON: JsonWriter,
    Format.JSONL: JsonLinesWriter,
    Format.CSV: CsvWriter,
}


@contextmanager
def open_writer(stream: TextIO, form: Format, title: str = "", keys: tuple[str, ...] = KEYS) -> Iterator[RowWriter]:
    """Write rows to a stream that is already open, such as standard output."""
    writer = WRITERS[form](stream, title, keys)
    writer.begin()
    yield writer
    writer.end()
    stream.flush()


@contextmanager
def open_output(
    output: Path,
    form: Format,
    title: str = "",
    *,
    keep: Sequence[Row] | None = None,
    keys: tuple[str, ...] = KEYS,
    at_once: bool = False,
) -> Iterator[RowWriter]:
    """Write rows to a file.

    JSON lines and CSV go straight to the file, a row at a time, so that a crash loses at most one; the other two are
    whole only at the end, so they are written beside the file, which is then replaced in one step. A device, a pipe or
    a stream of this process (``/dev/stdout``) is always written to directly.

    Parameters
    ----------
    output
        File to write; an earlier one is replaced.
    form
        Format of the rows.
    title
        Heading of the table.
    keep
        Rows of an earlier run (see `iqa_runtime.commands.resuming`) to start with. They are written beside the file
        first, so that a crash now doesn't lose them.
    keys
        Of every row.
    at_once
        Whether the file is replaced in one step whatever the format.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    try:
        with ExitStack() as opened:
            straight = open_straight(output)
            if straight is not None:
                yield opened.enter_context(open_writer(opened.enter_context(_text(straight)), form, title, keys))
            elif form not in STREAMED or at_once:
                new = opened.enter_context(rewritten(output, keep=True)).open("xb")
                writer = opened.enter_context(open_writer(opened.enter_context(_text(new)), form, title, keys))
                yield writer
                with undisturbed():
                    opened.close()
            elif keep is None:
                stream = opened.enter_context(_text(output.open("wb")))
                yield opened.enter_context(open_writer(stream, form, title, keys))
            else:
                with (
                    rewritten(output) as kept,
                    _text(kept.open("xb")) as stream,
                    open_writer(stream, form, keys=keys) as writer,
                ):
                    for row in keep:
                        writer.write(row)
                yield WRITERS[form](opened.enter_context(_text(output.open("ab"))), keys=keys)
    except BrokenPipeError:
        raise
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(
            f"{output}: cannot write the rows ({error.strerror}); check the folder, or give --output"
        ) from error


def _text(stream: BinaryIO) -> TextIO:
    # No newline translation: csv wants none. A file name that is no UTF-8 becomes an escape that JSON reads back.
    return io.TextIOWrapper(stream, encoding="utf-8", errors="backslashreplace", newline="")
