"""Parquet files that list images: their columns, and what rows call the images."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from iqa_runtime import FileError, UsageError
from iqa_runtime.commands.rows import KEYS
from iqa_runtime.errors import one_line
from iqa_runtime.files.table_inputs import name_of
from iqa_serving.ray_data.columns import is_text, kept_columns
from iqa_serving.ray_data.listing import Kind, Place, open_system

NAME, IMAGE, REFERENCE, ERROR = "path", "__image__", "__reference__", "__error__"
"""Columns of every block, that of references only where there are any; `NAME` is the rows' own."""


class Columns(NamedTuple):
    """Columns of a table, or of members of an archive their suffixes; None where none is given."""

    image: str | None = None
    reference: str | None = None
    id: str | None = None

    def block_schema(self, kind: Kind, of_table: Any = None) -> Any:
        """Return the schema of blocks; `of_table` is that of the table, where they come from one."""
        images = pa.string() if kind is Kind.IMAGES else pa.binary()
        types_of = {} if of_table is None else {field.name: field.type for field in of_table}
        fields = [(NAME, pa.string()), (IMAGE, types_of.get(self.image, images)), (ERROR, pa.string())]
        if self.reference is not None:
            fields.append((REFERENCE, types_of.get(self.reference, images)))
        return pa.schema([*fields, *((called, types_of[name]) for name, called in self.kept(of_table))])

    def kept(self, of_table: Any) -> list[tuple[str, str]]:
        """Return the other columns of a table with this schema, each with what it is called beside the rows'."""
        own = {self.image, self.reference, *({NAME} if self.id == NAME else ())}
        names = [] if of_table is None else [name for name in of_table.names if name not in own]
        return list(kept_columns(names, KEYS).items())


def open_table(place: Place) -> Any:
    """Open a Parquet file.

    Raises
    ------
    OSError, pyarrow.ArrowException
        If it cannot be read, or is none.
    """
    system, path = open_system(place.address)
    return pyarrow.parquet.ParquetFile(system.open_input_file(path), pre_buffer=False)


def schema_of(place: Place, columns: Columns) -> Any:
    """Return the schema of a table that has these columns.

    Raises
    ------
    UsageError
        If it lacks one.
    FileError
        If it cannot be read.
    """
    with _reading(place), open_table(place) as file:
        schema = file.schema_arrow
    for column in columns:
        if column is not None and column not in schema.names:
            raise UsageError(f"{place.name}: it has no column {column}; its columns are {', '.join(schema.names)}")
    return schema


def names_of(place: Place, batch: Any, columns: Columns, first: int) -> Iterator[tuple[str, str | None]]:
    """Yield what rows call the images of a batch, each with an error if its row has no such name.

    Parameters
    ----------
    place
        The table.
    batch
        Of it.
    columns
        Of it.
    first
        Number of the first row.
    """
    column = columns.image if columns.id is None else columns.id
    values = batch.column(column)
    if columns.id is None and not is_text(values.type):
        yield from ((f"{place.name}#{number}", None) for number in range(first, first + batch.num_rows))
        return
    for number, value in enumerate(values.to_pylist(), first):
        name = name_of(value if columns.id is None or value is None else str(value))
        missing = None if columns.id is None or name else f"the table has no {columns.id} for it; fill it in"
        yield name or f"{place.name}#{number}", missing


def check_names(places: Sequence[Place], columns: Columns) -> None:
    """Refuse tables in which two rows have one name: which of them is done could not be told.

    One column is read for it, and eight bytes a row are kept.

    Raises
    ------
    UsageError
        Then.
    FileError
        If a table cannot be read.
    """
    hashes = np.frombuffer(array("q", map(hash, _all_names(places, columns))), np.int64)
    ordered = np.sort(hashes)
    suspects = {*ordered[1:][ordered[1:] == ordered[:-1]].tolist()}
    if not suspects:
        return
    seen: set[str] = set()
    for name in _all_names(places, columns):
        if hash(name) in suspects:
            if name in seen:
                raise UsageError(f"two rows are {name}; give an ``id_column`` of other values for each row")
            seen.add(name)


def _all_names(places: Iterable[Place], columns: Columns) -> Iterator[str]:
    column = columns.image if columns.id is None else columns.id
    for place in places:
        with _reading(place), open_table(place) as file:
            if column in file.schema_arrow.names and (
                columns.id is not None or is_text(file.schema_arrow.field(column).type)
            ):
                number = 0
                for batch in file.iter_batches(8192, columns=[column]):
                    yield from (name for name, _ in names_of(place, batch, columns, number))
                    number += batch.num_rows


@contextmanager
def _reading(place: Place) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise FileError(f"{place.name}: cannot read the table ({one_line(error)}); check the file") from error
