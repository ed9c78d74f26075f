"""The images of a run: by the names that rows call them, and where they are read from."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, BinaryIO, ClassVar

import typer

from iqa_runtime.errors import UsageError
from iqa_runtime.files.inputs import expand_inputs
from iqa_runtime.files.overwriting import Named
from iqa_runtime.files.remote import DEFAULT_FETCH_BYTES, DEFAULT_FETCH_TIMEOUT, Fetcher, fetched_ahead
from iqa_runtime.files.table_inputs import TableInputs
from iqa_runtime.files.uris import public_name, scheme_of
from iqa_runtime.images.loading import Source


@dataclass(frozen=True, slots=True)
class Inputs:
    """The images of a run.

    Attributes
    ----------
    names
        What rows call them, in order.
    table
        The table that lists them; None if the command line does.
    """

    names: list[str]
    _fetcher: Fetcher
    table: TableInputs | None = None
    _addresses: dict[str, str] = field(default_factory=dict)

    @property
    def has_references(self) -> bool:
        """Whether each has its reference beside it."""
        return self.table is not None and self.table.has_references

    def place(self, name: str) -> str:
        """Return the path of an image that is a file of this host, and the name of another one."""
        return name if self.table is None else self.table.files.get(name, name)

    def read(self) -> Iterator[Named]:
        """Yield all files that the run reads for them."""
        if self.table is not None:
            yield "the table", self.table.path
            yield from (("a reference", path) for path in self.table.references)
        yield from (("an image to score", self.place(name)) for name in self.names)

    def pairs(
        self, names: Collection[str], references: str | Sequence[str] | None
    ) -> Iterator[tuple[Source, Source | None]]:
        """Return some of the images in order, each with its reference if it has one; those of other hosts come ahead.

        Parameters
        ----------
        names
            Of the images, in their order.
        references
            As `iqa_runtime.files.inputs.pair_references` returns them; None if there are none, or the table has them.
        """
        return fetched_ahead(self._pairs(names, references))

    def _pairs(
        self, names: Collection[str], references: str | Sequence[str] | None
    ) -> Iterator[tuple[Source, Source | None]]:
        others: dict[str, Source | None]
        if references is None or isinstance(references, str):
            others = dict.fromkeys(names, None if references is None else self._source(references))
        else:
            others = {name: self._source(path) for name, path in zip(names, references, strict=True)}
        if self.table is None:
            yield from ((self._source(name), others[name]) for name in names)
            return
        for image, reference in self.table.pairs(names):
            yield image, reference or others[image.name]

    def _source(self, name: str) -> Source:
        uri = self._addresses.get(name, name)
        return name if scheme_of(uri) is None else self._fetcher.image(uri)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputOptions:
    """Images that are no files named on the command line."""

    PANEL: ClassVar[str] = "Inputs"

    table: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="TABLE", help="Score the images that a table lists: .parquet, .arrow, .csv or .jsonl."
        ),
    ] = None
    column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of the images: paths, addresses or bytes. Default: image."),
    ] = None
    id_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of what rows call them. Default: the path, or TABLE#ROW."),
    ] = None
    reference_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of their references. Default: as --reference says."),
    ] = None
    fetch_bytes: Annotated[
        int, typer.Option(min=1, metavar="N", help="A file of another host with more bytes fails.")
    ] = DEFAULT_FETCH_BYTES
    fetch_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="A file of another host that takes longer fails.")
    ] = DEFAULT_FETCH_TIMEOUT

    def collect(self, arguments: Sequence[str], stdin: BinaryIO, *, null: bool, videos: bool) -> Inputs:
        """Find the images of a run.

        Parameters
        ----------
        arguments, stdin, null, videos
            As in `iqa_runtime.files.inputs.expand_inputs`.

        Raises
        ------
        UsageError
            If there are none, or options contradict each other.
        FileError, DependencyError
            If the table cannot be read.
        """
        fetcher = Fetcher(self.fetch_bytes, self.fetch_timeout)
        if self.table is None:
            for option in ("column", "id_column", "reference_column"):
                if getattr(self, option) is not None:
                    raise UsageError(f"``{option}``: a column is of a table; give one with --from")
            if not arguments:
                raise UsageError(
                    "nothing to score; behind the artefact, such as edge, give images, folders, quoted globs, - for a "
                    "list on standard input, or --from"
                )
            found = expand_inputs(arguments, stdin, null=null, videos=videos)
            addresses = {public_name(path): path for path in found if scheme_of(path) is not None}
            names = [public_name(path) for path in found]
            return Inputs(names, fetcher, None, addresses)
        if arguments:
            raise UsageError(f"--from: the images are those of {os.fspath(self.table)}; leave {arguments[0]} out")
        table = TableInputs(
            self.table,
            self.column or "image",
            id_column=self.id_column,
            reference_column=self.reference_column,
            fetcher=fetcher,
        )
        return Inputs(table.names, fetcher, table)
