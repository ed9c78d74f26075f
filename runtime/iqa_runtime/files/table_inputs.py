"""Images that a table lists, as paths, addresses or bytes: their names, and where their content is."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from iqa_runtime.errors import FileError, ImageError, UsageError
from iqa_runtime.files.remote import Fetcher
from iqa_runtime.files.table_files import open_table, plain
from iqa_runtime.files.uris import public_name, scheme_of
from iqa_runtime.images.loading import read_file
from iqa_runtime.images.named import NamedImage, StoredImage


class TableInputs:
    """The images of a table, a row each.

    A value is a path, relative to the folder of the table; an address (see `iqa_runtime.files.remote`); the bytes of a
    file; or a structure of ``bytes`` and ``path``, as Hugging Face has it, whose bytes count if there are any.

    Parameters
    ----------
    path
        Of the table (see `iqa_runtime.files.table_files`).
    column
        Of the images.
    id_column
        What to call them: numbers or texts, none of them twice. Without one a path or address is called as the table
        has it, anything else ``TABLE.parquet#17``, where rows count from 0.
    reference_column
        Of references, likewise; None without any.
    fetcher
        For addresses.

    Raises
    ------
    UsageError
        If it has no such column, or names are missing or not one for each image.
    FileError, DependencyError
        If it cannot be read.
    """

    def __init__(
        self,
        path: Path,
        column: str,
        *,
        id_column: str | None = None,
        reference_column: str | None = None,
        fetcher: Fetcher,
    ) -> None:
        self.path = path
        self._column, self._id_column, self._reference_column = column, id_column, reference_column
        self._fetcher = fetcher
        self._folder = os.path.dirname(path)  # noqa: PTH120 - Path would add or drop a ./
        self._table = open_table(path)
        self._columns = [name for name in (column, reference_column, id_column) if name is not None]
        self._table.check_columns(self._columns)
        self.files: dict[str, str] = {}
        """Paths of images that are files of this host, by name."""
        self.references: list[str] = []
        """Paths of references that are, each once."""
        self.names = self._read_names()
        """Of all images, in the order of the table. Paths that stand in several rows are one image, at their first
        place."""

    @property
    def has_references(self) -> bool:
        """Whether references stand beside the images."""
        return self._reference_column is not None

    def pairs(self, names: Collection[str]) -> Iterator[tuple[NamedImage, NamedImage | None]]:
        """Yield the images of these names in the order of the table, each with its reference, if there are any.

        Raises
        ------
        FileError
            If the table cannot be read any more.
        """
        left = {*names}
        for number, cells in enumerate(self._table.rows(self._columns)):
            name = self._name(number, cells)
            if name in left:
                left.remove(name)
                reference = self._source(f"the reference of {name}", cells[1]) if self.has_references else None
                yield self._source(name, cells[0]), reference
        if left:
            raise FileError(f"{self.path}: the table has changed since the run began ({min(left)} is gone); run again")

    def _read_names(self) -> list[str]:
        numbers: dict[str, int] = {}
        references: dict[str, None] = {}
        is_unique = self._id_column is not None or self.has_references
        for number, cells in enumerate(self._table.rows(self._columns, light=True)):
            name = self._name(number, cells)
            if numbers.setdefault(name, number) != number:
                if is_unique:
                    raise UsageError(
                        f"{self.path}: rows {numbers[name]} and {number}, counted from 0, are both {name}; give an "
                        "``id_column`` of other values for each row"
                    )
                continue
            file = self._file(cells[0])
            if file is not None:
                self.files[name] = file
            if self.has_references:
                other = self._file(cells[1])
                references |= {} if other is None else {other: None}
        if not numbers:
            raise UsageError(f"{self.path}: the table has no row; give one with images")
        self.references = [*references]
        return [*numbers]

    def _name(self, number: int, cells: tuple[Any, ...]) -> str:
        if self._id_column is not None:
            given = plain(cells[-1])
            if given is None or given == "":
                raise UsageError(f"{self.path}: row {number}, counted from 0, has no {self._id_column}; fill it in")
            return public_name(str(given))
        # A value that is no text need not be read for its name, and may be large.
        return name_of(cells[0].as_py() if _is_text(cells[0]) else cells[0]) or f"{self.path}#{number}"

    def _file(self, cell: Any) -> str | None:
        value = plain(cell)
        path = value.get("path") if isinstance(value, dict) else value
        if not isinstance(path, str) or not path or scheme_of(path) is not None:
            return None
        return _joined(self._folder, path)

    def _source(self, name: str, cell: Any) -> NamedImage:
        return image_of(name, plain(cell), self._folder, self._fetcher)


class ListedImage(NamedImage):
    """An image file under the name that a table has for it."""

    def __init__(self, name: str, file: str) -> None:
        super().__init__(name)
        self.file = file

    def read(self) -> bytes:
        """Return the bytes of the file.

        Raises
        ------
        FileError, ImageError
            If it cannot be read; the message begins with its path.
        """
        return read_file(self.file or self.name)


class MissingImage(NamedImage):
    """A row without an image, for a reason."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name)
        self._reason = reason

    def read(self) -> bytes:
        """Say why there is none.

        Raises
        ------
        ImageError
            Always.
        """
        raise ImageError(f"{self.name}: {self._reason}")


def name_of(value: Any) -> str | None:
    """Return what a row without an id calls its image: the path, or what may be shown of the address; else None."""
    return public_name(value) if isinstance(value, str) and value else None


def image_of(name: str, value: Any, folder: str, fetcher: Fetcher) -> NamedImage:
    """Return the image that a value of a table stands for.

    Parameters
    ----------
    name
        What to call it.
    value
        A path, an address, the bytes of a file, or a structure of ``bytes`` and ``path``; for anything else the image
        has an error when it is read.
    folder
        Where relative paths begin.
    fetcher
        For addresses.
    """
    if isinstance(value, dict):
        data = value.get("bytes")
        value = value.get("path") if data is None else data
    if isinstance(value, bytes) and value:
        return StoredImage(name, value)
    if not isinstance(value, str) or not value:
        found = f"a value of type {type(value).__name__}" if value else "nothing"
        return MissingImage(name, f"{found} in the table; give the path, the address or the bytes of an image")
    if scheme_of(value) is None:
        value = _joined(folder, value)
    return ListedImage(name, value) if scheme_of(value) is None else fetcher.image(value, name)


def _joined(folder: str, path: str) -> str:
    return os.path.join(folder, path)  # noqa: PTH118 - Path would add or drop a ./


def _is_text(cell: Any) -> bool:
    """Tell whether a cell of pyarrow holds text, without reading it."""
    return str(getattr(cell, "type", "")).startswith(("string", "large_string", "dictionary"))
