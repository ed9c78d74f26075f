"""The command iqa-serve as a process of its own."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventually import DEADLINE

COMMAND = (sys.executable, "-m", "iqa_serving.commands.serve")


def workers_of(supervisor: int) -> list[int]:
    """Return the ids of the workers of a process; Linux alone."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


class Process:
    """A server that was started, what it says, and where it listens."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments), "--port", "0", "--threads", "1"],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.url = self.heard("listening on ").rpartition(" ")[2]

    def heard(self, words: str) -> str:
        """Wait for a line with these words, pass over those before it, and return it."""
        passed = []
        while True:
            try:
                passed.append(self._lines.get(timeout=DEADLINE))
            except queue.Empty:
                raise AssertionError(f"{words!r} was not said, but {passed}") from None
            if words in passed[-1]:
                return passed[-1]

    def workers(self) -> list[int]:
        """Return the ids of its workers."""
        return workers_of(self.process.pid)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line.rstrip("\n"))


@contextmanager
def started(*arguments: object) -> Iterator[Process]:
    """Start a server; at the end it is gone, whatever has happened."""
    running = Process(*arguments)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        running._reader.join(DEADLINE)
        assert running.process.stderr is not None
        running.process.stderr.close()
