"""The rows of a run on a cluster: a folder of Parquet files, and beside it Ray's lists of what is in them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow.compute
import pyarrow.parquet

from iqa_runtime import FileError, UsageError
from iqa_runtime.errors import one_line
from iqa_runtime.files.inputs import absolute_path
from iqa_runtime.files.uris import scheme_of
from iqa_serving.ray_data.listing import open_system
from iqa_serving.ray_data.tables import NAME

_AT_ONCE = 16
"""Files that are looked into at once: most of that is waiting for a store."""

_OURS = re.compile(r".+_[0-9a-f]{32}_\d+-\d+\.parquet(\.new)?")
"""What files of rows are called by Ray; anything else in the folder is somebody's, and left alone."""

_NEW = ".new"
"""Behind the name of a file that is being written, and is then put in the place of another."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows, and those of them without a score."""

    rows: int
    failed: int


class Output:
    """A folder of rows.

    For a file ``X-0.parquet`` of rows, the list of their names is ``X.parquet`` in another folder, `checkpoint`. It is
    there once the rows are all there.

    Parameters
    ----------
    folder
        Path or address of it.

    Attributes
    ----------
    address
        Of it, absolute.
    checkpoint
        Address of the folder with the lists.

    Raises
    ------
    FileError
        If there is no such store.
    """

    def __init__(self, folder: str) -> None:
        self.name = folder
        self.address = (absolute_path(folder) if scheme_of(folder) is None else folder).rstrip("/")
        self.checkpoint = f"{self.address}.checkpoint"
        self._system, self._rows = open_system(self.address)
        self._lists = f"{self._rows}.checkpoint"

    def check_new(self) -> None:
        """Refuse a folder that is not empty, or whose lists are there.

        Raises
        ------
        UsageError
            Then.
        FileError
            If it cannot be listed.
        """
        if self._files(self._rows) or self._files(self._lists):
            raise UsageError(f"{self.name}: there are rows already; go on with ``resume``, or give another ``output``")

    def resume(self) -> str | None:
        """Make ready to go on: take out rows without a score, and files that a run had not finished.

        Returns
        -------
        str or None
            What the rows are of, as `iqa_runtime.Scorer.artefact_key`; None if there are none.

        Raises
        ------
        UsageError
            If the rows are none of such a run.
        FileError
            If the folder cannot be read or written.
        """
        self.drop_unfinished()
        self._each(self._take_out_failed)
        files = self._row_files()
        if not files:
            return None
        with self._system.open_input_file(files[0]) as file:
            keys = pyarrow.parquet.read_table(file, columns=["artefact"])["artefact"]
        key: str = keys[0].as_py()
        return key

    def drop_unfinished(self) -> None:
        """Delete rows that are on no list: those of a worker that was ended, or went on after its run had ended.

        Raises
        ------
        UsageError
            If there are rows and no lists at all.
        FileError
            If the folder cannot be read or written.
        """
        files, lists = self._row_files(), {posixpath.basename(path) for path in self._files(self._lists)}
        if files and not lists:
            raise UsageError(
                f"{self.name}: {self.checkpoint} is missing, and with it what is done; give another output"
            )
        for path in files:
            if path.endswith(_NEW) or posixpath.basename(self._list_of(path)) not in lists:
                self._system.delete_file(path)
        for name in lists:
            if name.endswith((_NEW, ".pending.parquet")):
                self._system.delete_file(f"{self._lists}/{name}")

    def count(self) -> Counts:
        """Count the rows of all files, by their footers.

        Raises
        ------
        FileError
            If one cannot be read.
        """
        counts = self._each(self._count)
        return Counts(sum(each.rows for each in counts), sum(each.failed for each in counts))

    def _each(self, function: Callable[[str], Any]) -> list[Any]:
        files = self._row_files()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                return list(pool.map(function, files))
            except (pyarrow.ArrowException, OSError) as error:
                raise FileError(f"{self.name}: cannot go through its rows ({one_line(error)}); check them") from error

    def _count(self, path: str) -> Counts:
        with self._system.open_input_file(path) as file:
            errors = pyarrow.parquet.read_table(file, columns=["error"])["error"]
        return Counts(len(errors), len(errors) - errors.null_count)

    def _take_out_failed(self, path: str) -> None:
        if not self._count(path).failed:
            return
        rows, done = (self._read(each) for each in (path, self._list_of(path)))
        has_score = pyarrow.compute.is_null(rows["error"])
        rows, failed = rows.filter(has_score), rows.filter(pyarrow.compute.invert(has_score))
        # First from the list: should this end in between, the rows are still here to be taken out another time.
        is_failed = pyarrow.compute.is_in(done[NAME], value_set=failed[NAME].combine_chunks())
        self._write(self._list_of(path), done.filter(pyarrow.compute.invert(is_failed)))
        if len(rows):
            self._write(path, rows)
        else:
            self._system.delete_file(path)

    def _list_of(self, path: str) -> str:
        return f"{self._lists}/{posixpath.basename(path).rpartition('-')[0]}.parquet"

    def _read(self, path: str) -> Any:
        with self._system.open_input_file(path) as file:
            return pyarrow.parquet.read_table(file)

    def _write(self, path: str, table: Any) -> None:
        with self._system.open_output_stream(path + _NEW) as file:
            pyarrow.parquet.write_table(table, file, compression="zstd")
        self._system.move(path + _NEW, path)

    def _row_files(self) -> list[str]:
        return [path for path in self._files(self._rows) if _OURS.fullmatch(posixpath.basename(path))]

    def _files(self, folder: str) -> list[str]:
        from pyarrow.fs import FileSelector, FileType

        try:
            listed = self._system.get_file_info(FileSelector(folder, allow_not_found=True))
        except OSError as error:
            raise FileError(f"{self.name}: cannot be listed ({one_line(error)}); check the address") from error
        return sorted(info.path for info in listed if info.type is FileType.File)
