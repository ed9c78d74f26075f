"""Read images as blocks of a data set: where they are, or their bytes, with what rows call them."""

from __future__ import annotations

import posixpath
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import types

from iqa_runtime.errors import one_line
from iqa_runtime.files.uris import scheme_of
from iqa_runtime.images.formats import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from iqa_serving.ray_data.columns import is_text
from iqa_serving.ray_data.listing import Place, open_system
from iqa_serving.ray_data.tables import ERROR, IMAGE, NAME, REFERENCE, Columns, names_of, open_table

_ROWS = 64
"""Of images in bytes, in memory at once beside the block that they become a part of."""

_LIGHT_ROWS = 8192
"""The same where there are no bytes."""

_SUFFIXES = (*IMAGE_SUFFIXES, *UNREAD_SUFFIXES)

_DAMAGED = (pa.ArrowException, OSError, ValueError, EOFError, tarfile.TarError)


def read_files(places: Sequence[Place], schema: Any) -> Iterator[Any]:
    """Yield a block of image files; none of them is read."""
    rows = [_file_row(place) for place in places]
    yield pa.Table.from_pylist(rows, schema=schema)


def _file_row(place: Place) -> dict[str, Any]:
    try:
        place.address.encode()
    except UnicodeEncodeError:
        name = place.name.encode("utf-8", "backslashreplace").decode()
        return {NAME: name, ERROR: "its path is not UTF-8, as tables need it; rename it"}
    return {NAME: place.name, IMAGE: place.address}


def read_table(place: Place, columns: Columns, schema: Any) -> Iterator[Any]:
    """Yield blocks of a Parquet file; where it is damaged, the last one is a row that says so.

    Parameters
    ----------
    place
        The file.
    columns
        Of it.
    schema
        Of blocks.
    """
    number, folder = 0, posixpath.dirname(place.address)
    try:
        with open_table(place) as file:
            kept = columns.kept(file.schema_arrow)
            is_light = not any(_has_bytes(field.type) for field in file.schema_arrow)
            for batch in file.iter_batches(_LIGHT_ROWS if is_light else _ROWS):
                names, errors = zip(*names_of(place, batch, columns, number), strict=True)
                number += batch.num_rows
                references = {} if columns.reference is None else {REFERENCE: batch.column(columns.reference)}
                arrays = {
                    NAME: pa.array(names, pa.string()),
                    IMAGE: _placed(batch.column(columns.image), folder),
                    ERROR: pa.array(errors, pa.string()),
                    **{name: _placed(values, folder) for name, values in references.items()},
                    **{called: batch.column(name) for name, called in kept},
                }
                yield pa.table(arrays).select(schema.names).cast(schema)
    except (*_DAMAGED, KeyError) as error:
        yield _damaged(place, error, schema)


def read_archive(place: Place, columns: Columns, schema: Any) -> Iterator[Any]:
    """Yield blocks of a WebDataset: members that have one name up to its first dot are a sample, which has an image.

    Parameters
    ----------
    place
        The archive.
    columns
        Suffixes of the image and of its reference, without the dot; the first image of a sample if none is given.
    schema
        Of blocks.
    """
    rows: list[dict[str, Any]] = []
    seen: Counter[str] = Counter()
    try:
        for key, sample in _samples(place):
            named = _member(sample, columns.image)
            member = key if named is None else f"{key}.{named}"
            seen[member] += 1
            again = "" if seen[member] == 1 else f"#{seen[member]}"
            image = None if named is None else sample[named]
            reference = {} if columns.reference is None else {REFERENCE: sample.get(columns.reference)}
            rows.append({NAME: f"{place.name}#{member}{again}", IMAGE: image, **reference})
            if len(rows) == _ROWS:
                yield pa.Table.from_pylist(rows, schema=schema)
                rows = []
        if rows:
            yield pa.Table.from_pylist(rows, schema=schema)
    except _DAMAGED as error:
        if rows:
            yield pa.Table.from_pylist(rows, schema=schema)
        yield _damaged(place, error, schema)


def _samples(place: Place) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield samples of an archive: by suffix, the bytes of members that follow each other under one name."""
    system, path = open_system(place.address)
    key, sample = None, dict[str, bytes]()
    with system.open_input_stream(path) as stream, tarfile.open(fileobj=stream, mode="r|*") as archive:
        for member in archive:
            if not member.isfile():
                continue
            folder, slash, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            if (here := f"{folder}{slash}{stem}") != key:
                if key is not None:
                    yield key, sample
                key, sample = here, {}
            content = archive.extractfile(member)
            sample[suffix] = b"" if content is None else content.read()
    if key is not None:
        yield key, sample


def _member(sample: dict[str, bytes], wanted: str | None) -> str | None:
    if wanted is not None:
        return wanted if wanted in sample else None
    return next((suffix for suffix in sample if f".{suffix}".lower().endswith(_SUFFIXES)), None)


def _placed(values: Any, folder: str) -> Any:
    """Return values with their relative paths in a folder, that of their table: a worker has another one."""
    if types.is_struct(values.type):
        children = [
            _placed(child, folder) if field.name == "path" else child
            for child, field in zip(values.flatten(), values.type, strict=True)
        ]
        return pa.StructArray.from_arrays(children, names=[field.name for field in values.type], mask=values.is_null())
    if not is_text(values.type):
        return values
    paths = (
        posixpath.join(folder, value) if value and scheme_of(value) is None else value for value in values.to_pylist()
    )
    return pa.array(paths, pa.string())


def _has_bytes(kind: Any) -> bool:
    fields = [kind.field(place).type for place in range(kind.num_fields)] if types.is_struct(kind) else [kind]
    kinds = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return any(is_kind(field) for field in fields for is_kind in kinds)


def _damaged(place: Place, error: Exception, schema: Any) -> Any:
    reason = f"cannot be read to its end ({one_line(error)}); check the file"
    return pa.Table.from_pylist([{NAME: place.name, ERROR: reason}], schema=schema)
