"""Read columns of a table row by row: Parquet and Arrow (extra ``tables``), CSV, JSON lines."""

from __future__ import annotations

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from iqa_runtime.errors import FileError, UsageError, needing, one_line

_ROWS = 16
"""Read at once where images are among the columns: as bytes each may take megabytes."""

_LIGHT_ROWS = 8192
"""The same without them."""


class TableFile(ABC):
    """A table on disk.

    Parameters
    ----------
    path
        Of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""

    @abstractmethod
    def rows(self, columns: Sequence[str], *, light: bool = False) -> Iterator[tuple[Any, ...]]:
        """Yield these columns of each row, a few rows in memory at a time.

        Parameters
        ----------
        columns
            Names, all of them among `columns`.
        light
            Whether bytes are left out, so that they need not be read: they are None, and of a structure there is no
            more than its ``path``.

        Yields
        ------
        tuple
            Values for `plain`.

        Raises
        ------
        FileError
            If the file is damaged, or cannot be read.
        """

    def check_columns(self, columns: Sequence[str]) -> None:
        """Refuse columns that there are not.

        Raises
        ------
        UsageError
            Naming those that there are.
        """
        for column in columns:
            if column not in self.columns:
                there = ", ".join(self.columns) or "none"
                raise UsageError(f"{self._path}: it has no column {column}; its columns are {there}")

    def _unreadable(self, error: Exception) -> FileError:
        reason = getattr(error, "strerror", None) or one_line(error)
        return FileError(f"{self._path}: cannot read the table ({reason}); check the file")


def open_table(path: Path) -> TableFile:
    """Open a table; its suffix says what it is.

    Raises
    ------
    UsageError
        If that is none of a table.
    FileError
        If it cannot be read.
    DependencyError
        If the extra is missing that reads it.
    """
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"{path}: no table by its name; give a file ending in {', '.join(_KINDS)}")
    table = kind(path)
    table.columns  # noqa: B018 - so that what is none is refused here
    return table


def plain(value: Any) -> Any:
    """Return a value of a row as Python has it: text, a number, bytes, a dict, or None."""
    return value.as_py() if hasattr(value, "as_py") else value


class _ArrowTable(TableFile):
    """What pyarrow reads."""

    @cached_property
    def _schema(self) -> Any:
        with self._reading():
            return self._read_schema()

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self._schema.names)

    def rows(self, columns: Sequence[str], *, light: bool = False) -> Iterator[tuple[Any, ...]]:
        with self._reading():
            for batch in self._batches(columns, light=light):
                yield from zip(*(self._cells(batch, column, light=light) for column in columns), strict=True)

    def _cells(self, batch: Any, column: str, *, light: bool) -> Any:
        """Return one column of a batch; as long as its values are not made `plain`, nothing is copied."""
        if not light:
            return batch.column(column)
        parts = _light_parts(self._schema.field(column))
        if not parts:
            return [None] * batch.num_rows
        if parts == [column]:
            return batch.column(column)
        return [{"path": path} for path in batch.column(column).field("path").to_pylist()]

    @abstractmethod
    def _read_schema(self) -> Any: ...

    @abstractmethod
    def _batches(self, columns: Sequence[str], *, light: bool) -> Iterator[Any]:
        """Yield the table in pieces, which have these columns at least."""

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with needing("what reads this table", extras="tables"):
            import pyarrow as pa
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._unreadable(error) from error


class _Parquet(_ArrowTable):
    def _read_schema(self) -> Any:
        return self._open().schema_arrow

    def _batches(self, columns: Sequence[str], *, light: bool) -> Iterator[Any]:
        if light:
            columns = [part for column in columns for part in _light_parts(self._schema.field(column))]
        yield from self._open().iter_batches(_LIGHT_ROWS if light else _ROWS, columns=[*columns])

    def _open(self) -> Any:
        import pyarrow.parquet

        # A group of rows may hold a thousand images: mapped, what is read of it need not stay in memory.
        return pyarrow.parquet.ParquetFile(self._path, memory_map=True, pre_buffer=False)


class _Arrow(_ArrowTable):
    def _read_schema(self) -> Any:
        return self._open().schema

    def _batches(self, columns: Sequence[str], *, light: bool) -> Iterator[Any]:
        del columns, light  # mapped, what is not looked at is not read
        reader = self._open()
        if hasattr(reader, "num_record_batches"):
            yield from map(reader.get_batch, range(reader.num_record_batches))
        else:
            yield from reader

    def _open(self) -> Any:
        import pyarrow as pa

        mapped = pa.memory_map(str(self._path))
        try:
            return pa.ipc.open_file(mapped)
        except pa.ArrowInvalid:  # a stream, as Hugging Face keeps
            mapped.seek(0)
            return pa.ipc.open_stream(mapped)


class _Csv(TableFile):
    @cached_property
    def columns(self) -> tuple[str, ...]:
        with self._reading() as file:
            return tuple(next(csv.reader(file), ()))

    def rows(self, columns: Sequence[str], *, light: bool = False) -> Iterator[tuple[Any, ...]]:
        del light  # there are no bytes in text
        with self._reading() as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            places = [header.index(column) for column in columns]
            for cells in reader:
                if cells and len(cells) != len(header):
                    raise ValueError(f"line {reader.line_num} has {len(cells)} fields, the header {len(header)}")
                if cells:
                    yield tuple(cells[place] for place in places)

    @contextmanager
    def _reading(self) -> Iterator[TextIO]:
        try:
            with self._path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                yield file
        except (OSError, ValueError, csv.Error) as error:
            raise self._unreadable(error) from error


class _JsonLines(TableFile):
    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names in the first row; others may have more, and lack some."""
        return tuple(next(self._objects(), {}))

    def rows(self, columns: Sequence[str], *, light: bool = False) -> Iterator[tuple[Any, ...]]:
        del light
        for row in self._objects():
            yield tuple(row.get(column) for column in columns)

    def _objects(self) -> Iterator[dict[str, Any]]:
        try:
            with self._path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
                for number, line in enumerate(file, 1):
                    if not line.strip():
                        continue
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError(f"line {number} is no object")
                    yield row
        except (OSError, ValueError, RecursionError) as error:
            raise self._unreadable(error) from error


_KINDS: dict[str, type[TableFile]] = {
    ".parquet": _Parquet,
    ".arrow": _Arrow,
    ".feather": _Arrow,
    ".csv": _Csv,
    ".jsonl": _JsonLines,
}


def _light_parts(field: Any) -> list[str]:
    """Return what is read of a column if bytes are left out, as Parquet names it."""
    from pyarrow import types

    kinds = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    if any(is_kind(field.type) for is_kind in kinds):
        return []
    if types.is_struct(field.type):
        return [f"{field.name}.path"] if field.type.get_field_index("path") >= 0 else []
    return [field.name]
