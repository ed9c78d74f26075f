"""Write and read rows as Parquet and Arrow IPC, with typed columns (extra ``tables``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from iqa_runtime import __version__
from iqa_runtime.artefacts.contract_json import contract_to_json
from iqa_runtime.commands.process import undisturbed
from iqa_runtime.commands.rows import KEYS, Format, Row
from iqa_runtime.errors import FileError, needing
from iqa_runtime.files.overwriting import open_straight, rewritten
from iqa_runtime.measuring import MEASURED
from iqa_runtime.scorer import Scorer
from iqa_runtime.tables import arrow_schema

_ROWS = 8192
"""In memory until they are written as one group, some 10 MB; readers skip and read groups as a whole."""


class ArrowWriter:
    """Writes rows in groups; the file can be read once it is closed.

    Parameters
    ----------
    stream
        Where to; it need not be seekable.
    form
        `Format.PARQUET` or `Format.ARROW`.
    keys
        Of every row, in this order; what a row lacks is null.
    metadata
        What the file says about the run.

    Raises
    ------
    DependencyError
        If pyarrow is missing.
    """

    def __init__(
        self, stream: BinaryIO, form: Format, keys: Sequence[str] = KEYS, metadata: Mapping[str, str] | None = None
    ) -> None:
        self._schema = arrow_schema(keys, MEASURED, metadata)
        self._rows: list[Row] = []
        # arrow_schema has told whether it is there.
        import pyarrow as pa
        import pyarrow.parquet

        if form is Format.PARQUET:
            self._file: Any = pyarrow.parquet.ParquetWriter(stream, self._schema, compression="zstd")
        else:
            self._file = pa.ipc.new_file(stream, self._schema)

    def write(self, row: Row) -> None:
        """Take one row; every so many are written."""
        self._rows.append(row)
        if len(self._rows) == _ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is left, and the end of the file."""
        if self._rows:
            self._flush()
        self._file.close()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        self._file.write_batch(to_batch(rows, self._schema))


def about_run(scorer: Scorer) -> dict[str, str]:
    """Return what a file of rows says about the run that they are of."""
    return {
        "iqa.version": __version__,
        "iqa.artefact": scorer.artefact_key,
        "iqa.artefact_sha256": scorer.file.sha256,
        "iqa.backend": f"{scorer.backend_name} {scorer.provider}",
        "iqa.contract": contract_to_json(scorer.contract),
    }


def to_batch(rows: Iterable[Row], schema: Any) -> Any:
    """Return rows as a `pyarrow.RecordBatch` of a schema, as `arrow_schema` returns it; what a row lacks is null."""
    import pyarrow as pa

    return pa.RecordBatch.from_pylist(
        [{key: _encodable(row.get(key)) for key in schema.names} for row in rows], schema=schema
    )


@contextmanager
def open_arrow_output(
    output: Path,
    form: Format,
    *,
    keep: Sequence[Row] | None = None,
    keys: Sequence[str] = KEYS,
    metadata: Mapping[str, str] | None = None,
) -> Iterator[ArrowWriter]:
    """Write rows to a file that is whole at the end only: beside it, and then in its place.

    Parameters
    ----------
    output
        File to write; an earlier one is replaced. A device, a pipe or a stream of this process is written to directly.
    form
        `Format.PARQUET` or `Format.ARROW`.
    keep
        Rows of an earlier run to start with.
    keys, metadata
        As `ArrowWriter` takes them.

    Raises
    ------
    FileError
        If the file cannot be written.
    DependencyError
        If pyarrow is missing.
    """
    arrow_schema(keys)  # before a file is touched
    try:
        with ExitStack() as opened:
            straight = open_straight(output)
            stream = opened.enter_context(rewritten(output, keep=True)).open("xb") if straight is None else straight
            writer = ArrowWriter(opened.enter_context(stream), form, keys, metadata)
            opened.callback(writer.close)
            for row in keep or ():
                writer.write(row)
            yield writer
            with undisturbed():
                opened.close()
    except (FileError, BrokenPipeError):
        raise
    except OSError as error:
        reason = error.strerror or error
        raise FileError(f"{output}: cannot write the rows ({reason}); check folder and disk") from error


def read_arrow_rows(output: Path, form: Format) -> list[Row]:
    """Read the rows of a file that is whole.

    Raises
    ------
    ValueError
        If it is none of this format.
    OSError
        If it cannot be read.
    DependencyError
        If pyarrow is missing.
    """
    with needing("what reads Parquet and Arrow", extras="tables"):
        import pyarrow as pa
        import pyarrow.parquet
    with output.open("rb") as file:
        table = pyarrow.parquet.read_table(file) if form is Format.PARQUET else pa.ipc.open_file(file).read_all()
    rows: list[Row] = table.to_pylist()
    return rows


def _encodable(value: Any) -> Any:
    """Return a value as UTF-8 has it: of a path that is none, odd bytes are escaped, as in every other format."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
