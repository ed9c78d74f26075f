"""Files as a data set of Ray: a task for so many image files, for each Parquet file, for each archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from iqa_runtime import UsageError
from iqa_serving.ray_data.listing import Kind, Place
from iqa_serving.ray_data.reading import read_archive, read_files, read_table
from iqa_serving.ray_data.tables import Columns, check_names, schema_of

_IMAGE = "image"
"""Column of images, unless another one is named: as in data sets of Hugging Face."""


class ImageFiles(Datasource):  # type: ignore[misc]  # Ray has no types for us
    """Images of files, tables or archives, as blocks of `iqa_serving.ray_data.reading`.

    Parameters
    ----------
    kind
        What the files are.
    places
        The files.
    columns
        Of tables and archives; of images in tables ``image`` if none is given.
    rows
        Image files of a task.

    Attributes
    ----------
    schema
        Of blocks; of tables as the first one has it.

    Raises
    ------
    UsageError
        If files have no such columns, the first table lacks a column, or two rows have one name.
    FileError
        If a table cannot be read.
    """

    def __init__(self, kind: Kind, places: Sequence[Place], columns: Columns, rows: int) -> None:
        super().__init__()
        for option, value in (("column", columns.image), ("reference_column", columns.reference)):
            if kind is Kind.IMAGES and value is not None:
                raise UsageError(f"``{option}``: these are image files; a column is of Parquet files or WebDatasets")
        if kind is not Kind.TABLES and columns.id is not None:
            raise UsageError("``id_column``: a column of ids is of Parquet files")
        if kind is Kind.TABLES and columns.image is None:
            columns = columns._replace(image=_IMAGE)
        self._kind, self._places, self._columns, self._rows = kind, places, columns, rows
        of_table = schema_of(places[0], columns) if kind is Kind.TABLES else None
        if kind is Kind.TABLES:
            check_names(places, columns)
        self.schema = columns.block_schema(kind, of_table)

    @property
    def tasks(self) -> int:
        """How many tasks read."""
        return -(-len(self._places) // self._rows) if self._kind is Kind.IMAGES else len(self._places)

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: nobody has looked into the files."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[Any]:
        """Return the tasks; there are as many as the files ask for."""
        del parallelism, data_context
        return [
            ReadTask(read, BlockMetadata(None, None, None, None), self.schema, per_task_row_limit)
            for read in self._reads()
        ]

    def _reads(self) -> Iterator[Any]:
        if self._kind is Kind.IMAGES:
            for first in range(0, len(self._places), self._rows):
                yield partial(read_files, self._places[first : first + self._rows], self.schema)
            return
        read = read_table if self._kind is Kind.TABLES else read_archive
        for place in self._places:
            yield partial(read, place, self._columns, self.schema)
