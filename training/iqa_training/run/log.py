"""The log of a training run, for its reader: ``metrics.csv`` and TensorBoard's events."""

from __future__ import annotations

import csv
import io
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from iqa_runtime.errors import FileError
from iqa_runtime.files.overwriting import write_at_once

Row = dict[str, float]
"""What is logged of an epoch, by name; ``epoch`` counts from 1."""


class Log:
    """``metrics.csv`` and TensorBoard's events, both as long as the rows: what a kill left too much of is taken back.

    TensorBoard's own writer hands its events to a thread, which a full disk ends with a traceback; its records are
    written here instead, one after the other.

    Parameters
    ----------
    folder
        Of the run; made if it is not there.
    rows
        Of the epochs that are done.

    Raises
    ------
    FileError
        If something cannot be written, here and in `write`.
    """

    def __init__(self, folder: Path, rows: Sequence[Row]) -> None:
        self._table = folder / "metrics.csv"
        self._events = folder / f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.0"
        self._rows = list(rows)
        if self._rows:
            self._write_table()
        # The second hides from TensorBoard what an interrupted run wrote of epochs that are done again.
        self._append({"file_version": "brain.Event:2"}, {"step": len(rows) + 1, "session_log": {"status": "START"}})

    def write(self, row: Row) -> None:
        """Add the row of an epoch to both."""
        self._rows.append(row)
        self._write_table()
        values = [{"tag": name, "simple_value": value} for name, value in row.items() if name != "epoch"]
        self._append({"step": int(row["epoch"]), "summary": {"value": values}})

    def _write_table(self) -> None:
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, list(dict.fromkeys(name for row in self._rows for name in row)))
        table.writeheader()
        table.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in self._rows)
        write_at_once(self._table, text.getvalue().encode())

    def _append(self, *events: dict[str, object]) -> None:
        # Here and not above, because only training needs it.
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        try:
            self._events.parent.mkdir(parents=True, exist_ok=True)
            with self._events.open("ab") as file:
                for fields in events:
                    RecordWriter(file).write(Event(wall_time=time.time(), **fields).SerializeToString())
        except OSError as error:
            raise FileError(f"{self._events}: cannot write there ({error.strerror}); check folder and disk") from error
