"""Go on where an earlier run stopped: read its rows back, refuse what is none of them."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import msgspec

from iqa_runtime.commands.arrow_rows import read_arrow_rows
from iqa_runtime.commands.rows import KEYS, TYPED, Format, Row, clip_of, columns
from iqa_runtime.errors import FileError, UsageError
from iqa_runtime.measuring import MEASURED

_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Levels = Annotated[float, msgspec.Meta(ge=0, le=255)]


class _Measures(msgspec.Struct, forbid_unknown_fields=True):
    """The types of what was measured, see `iqa_runtime.measuring.Measures`."""

    sharpness: _Share | None
    noise: _Levels | None
    blockiness: _Levels | None
    jpeg_quality: Annotated[int, msgspec.Meta(ge=1, le=100)] | None
    overexposed: _Share
    underexposed: _Share


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    """The types of a row."""

    path: str
    score: float | None
    percentile: Annotated[float, msgspec.Meta(ge=0, le=100)] | None
    verdict: Literal["pass", "fail"] | None
    reasons: list[str] | None
    measures: _Measures | None
    group: str | None
    rank: Annotated[int, msgspec.Meta(ge=1)] | None
    range: tuple[float | None, float | None]
    direction: Literal["higher", "lower"]
    width: int | None
    height: int | None
    color: str | None
    patches: int
    milliseconds: float
    artefact: str
    error: str | None
    p05: float | None = None


# What the values of a row look like, at the end of the text also when cut anywhere.
_NULL = r"n(?:ull|ul?\Z|\Z)"
_JSON_TEXT = re.compile(rf'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|{_NULL}', re.DOTALL)
_JSON_NUMBERS = re.compile(rf"\[[-+.0-9enul, ]*(?:\]|\Z)|[-+.0-9e]+|{_NULL}")
_JSON_NAMES = re.compile(rf'\[(?:[ ,]|"(?:[^"\\]|\\.)*(?:"|\\?\Z))*(?:\]|\Z)|{_NULL}', re.DOTALL)
_JSON_MEASURES = re.compile(rf'\{{[-+.0-9a-z_:", ]*(?:\}}|\Z)|{_NULL}')
_CSV_TEXT = re.compile("[-> .:A-Za-z0-9]*")
_CSV_NUMBERS = re.compile("[-+.0-9einf ]*")
_CSV_NUMBER_TYPES = {
    "score": float,
    "p05": float,
    "percentile": float,
    **{f"measures.{name}": int if name == "jpeg_quality" else float for name in MEASURED},
    "rank": int,
    "width": int,
    "height": int,
    "patches": int,
    "milliseconds": float,
}
_CSV_NAMES = re.compile("[^\r\n]*")
_CSV_PATH = re.compile("(?s:.*)")
_TEXTS = ("path", "verdict", "group", "direction", "color", "artefact", "error")


def path_key(path: str) -> str:
    """Return the text by which a path is known in an output file: itself, unless it is no UTF-8."""
    return path.encode("utf-8", "backslashreplace").decode()


def read_rows(output: Path, form: Format, keys: tuple[str, ...] = KEYS) -> list[Row]:
    """Read the rows of an earlier run; a last row that a crash cut short is left out.

    Parameters
    ----------
    output
        File of an earlier run.
    form
        Its format, JSON lines, CSV, Parquet or Arrow; the latter two are whole, or no file of rows.
    keys
        That its rows must have.

    Raises
    ------
    UsageError
        If the file is something else than rows in this format, the last of them whole or cut.
    FileError
        If it cannot be read.
    """
    try:
        if form in TYPED:
            return _whole_rows(output, form, keys)
        text = output.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise FileError(f"{output}: cannot read the earlier rows ({error.strerror}); check the path") from error
    end = text.rfind("\n") + 1
    if form is Format.CSV:
        # A path may hold a newline, and then it is quoted: a cut inside quotes leaves an odd number of them.
        quotes = text.count('"', 0, end)
        while quotes % 2:
            line = text.rfind("\n", 0, end - 1) + 1
            quotes -= text.count('"', line, end)
            end = line
    whole, cut = text[:end], text[end:]
    try:
        if form is Format.JSONL:
            rows = [json.loads(line, parse_constant=_refuse) for line in whole.split("\n")[:-1]]
            cut_is_ours = _begins_json_row(cut, keys)
        else:
            rows = list(_csv_rows(whole, keys))
            cut_is_ours = _begins_csv_row(cut, keys) if whole else f"{','.join(columns(keys))}\n".startswith(cut)
        ours = cut_is_ours and all(_is_row(row, keys) for row in rows)
    except (ValueError, csv.Error, RecursionError):
        ours = False
    if not ours:
        raise _stranger(output, form)
    return rows


def resume_from(
    output: Path, form: Format, paths: Sequence[str], keys: tuple[str, ...] = KEYS, *, measured: bool = False
) -> tuple[list[Row], list[str]]:
    """Split a run into what is done and what is left; a video is done, or begun anew with all its frames.

    Parameters
    ----------
    output
        File of an earlier run; it may be missing.
    form
        Its format.
    paths
        Images of this run.
    keys
        Of its rows.
    measured
        Whether an image whose row has no measures is scored again.

    Returns
    -------
    keep : list of dict
        Rows to keep. The failed ones of images in `paths` are not among them, nor frames of a video without a score:
        they are tried again.
    left : list of str
        Images without a score, or without measures that are wanted.

    Raises
    ------
    UsageError, FileError
        As `read_rows`.
    """
    rows = read_rows(output, form, keys) if output.exists() else []
    lacking = {path_key(row["path"]) for row in rows if measured and row["measures"] is None}
    scored = {path_key(row["path"]) for row in rows if row["error"] is None} - lacking
    left = [path for path in paths if path_key(path) not in scored]
    again = {path_key(path) for path in left}
    named = {path_key(path) for path in paths}

    def is_kept(path: str) -> bool:
        return path not in again and (path in named or clip_of(path) not in again)

    return [row for row in rows if is_kept(path_key(row["path"]))], left


def _whole_rows(output: Path, form: Format, keys: tuple[str, ...]) -> list[Row]:
    try:
        rows = read_arrow_rows(output, form)
    except ValueError as error:
        raise _stranger(output, form) from error
    if not all(_is_row(row, keys) for row in rows):
        raise _stranger(output, form)
    return rows


def _stranger(output: Path, form: Format) -> UsageError:
    return UsageError(f"{output}: not a {form} file of this command, so it cannot be resumed; give another --output")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _is_row(row: Any, keys: tuple[str, ...]) -> bool:
    """Tell whether this could be what a run has written: all keys in order, and a score or an error."""
    try:
        values = msgspec.convert(row, _Row)
    except msgspec.ValidationError:
        return False
    numbers = [
        *(end for end in values.range if end is not None),
        values.milliseconds,
        values.score or 0.0,
        values.p05 or 0.0,
    ]
    has_one = (values.score is None) != (values.error is None)
    return (
        tuple(row) == keys and has_one and "" not in (values.path, values.artefact) and all(map(math.isfinite, numbers))
    )


def _csv_rows(text: str, keys: tuple[str, ...]) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    names = columns(keys)
    if text and tuple(reader.fieldnames or ()) != names:
        raise ValueError("another header")
    for cells in reader:
        if tuple(cells) != names or None in cells.values():
            raise ValueError("more or fewer cells than the header has")
        row: Row = {key: value or None for key, value in cells.items()}
        # Of an artefact that names nothing, and of one that found nothing to name, the cell is empty.
        row["reasons"] = cells["reasons"].split(",") if cells["reasons"] else None
        ends = [float(end) for end in cells["range"].split()]
        row["range"] = [None if math.isinf(end) else end for end in ends]
        for key, kind in _CSV_NUMBER_TYPES.items():
            if key in cells:
                row[key] = kind(cells[key]) if cells[key] else None
        measures = {name: row.pop(f"measures.{name}") for name in MEASURED}
        row["measures"] = None if set(measures.values()) == {None} else measures
        yield {key: row[key] for key in keys}


def _begins_json_row(text: str, keys: tuple[str, ...]) -> bool:
    """Tell whether a text without a newline at its end is empty or the beginning of a row."""
    for number, key in enumerate(keys):
        opening = f'{", " if number else "{"}"{key}": '
        if len(text) <= len(opening):
            return opening.startswith(text)
        others = _JSON_TEXT if key in _TEXTS else _JSON_NUMBERS
        pattern = {"reasons": _JSON_NAMES, "measures": _JSON_MEASURES}.get(key, others)
        value = pattern.match(text, len(opening)) if text.startswith(opening) else None
        if value is None:
            return False
        text = text[value.end() :]
    return text in ("", "}")


def _begins_csv_row(text: str, keys: tuple[str, ...]) -> bool:
    """Tell the same of a record."""
    records = list(csv.reader(io.StringIO(text, newline="")))
    if len(records) > 1:
        return False
    cells, names = records[0] if records else [], columns(keys)
    texts = dict.fromkeys(_TEXTS, _CSV_TEXT) | {"reasons": _CSV_NAMES, "group": _CSV_PATH}
    patterns = [texts.get(name, _CSV_NUMBERS) for name in names[1:-1]]
    return len(cells) <= len(names) and all(
        pattern.fullmatch(cell) for pattern, cell in zip(patterns, cells[1:], strict=False)
    )
