"""What the benchmarks of ``iqa-serve`` have in common: a server as a process, and clients that check every answer."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import queue
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PHOTOGRAPHS = Path(__file__).parents[2] / "examples" / "photographs"

PATIENCE = 600
"""Seconds that a client waits for an answer."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a number of clients met with: requests a second, and seconds that a request took."""

    rate: float
    median: float
    p99: float


@dataclass(slots=True)
class Server:
    """A running ``iqa-serve``, and what it has said."""

    port: int
    process: subprocess.Popen[str]
    said: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)

    def read(self, lines: Iterable[str]) -> None:
        """Take what it says."""
        for line in lines:
            self.said.put(line)

    def heard(self, words: str) -> str:
        """Wait for a line with these words."""
        while words not in (line := self.said.get(timeout=PATIENCE)):
            pass
        return line

    def workers(self) -> list[int]:
        """Return the ids of its workers; its own where there are none."""
        own = self.process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()] or [
            own
        ]

    def resources(self) -> tuple[float, int, int]:
        """Return what it has, workers together: resident memory in MiB, file descriptors, threads; Linux alone."""
        pages, descriptors, threads = 0, 0, 0
        for worker in self.workers():
            pages += int(Path(f"/proc/{worker}/statm").read_text().split()[1])
            descriptors += len(list(Path(f"/proc/{worker}/fd").iterdir()))
            threads += len(list(Path(f"/proc/{worker}/task").iterdir()))
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, descriptors, threads


@contextmanager
def server(artefact: str, *options: object, workers: int = 1) -> Iterator[Server]:
    """Start a server, ready for requests; at the end it is gone."""
    command = [sys.executable, "-m", "iqa_serving.commands.serve", artefact, "--port", "0", "--workers", str(workers)]
    process = subprocess.Popen([*command, *map(str, options)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process.stderr as lines:
        first = lines.readline()
        if "listening" not in first:
            raise SystemExit(first)
        running = Server(int(first.rpartition(":")[2]), process)
        reader = threading.Thread(target=running.read, args=(lines,))
        reader.start()
        try:
            for _ in range(workers):
                running.heard("ready")
            yield running
        finally:
            process.terminate()
            process.wait()
            reader.join()


def copies(folder: Path, count: int) -> list[Path]:
    """Link the photographs into a folder, as often as it takes: iqa-run scores no file twice."""
    originals = sorted(PHOTOGRAPHS.glob("*.jpg"))
    paths = []
    for number, original in zip(range(count), itertools.cycle(originals), strict=False):
        paths.append(folder / f"{number:05}_{original.name}")
        paths[-1].symlink_to(original)
    return paths


def name_of(path: Path) -> str:
    """Return the name of the photograph that a file is a link to."""
    return path.name.partition("_")[2]


def run_files(artefact: str, paths: list[Path], threads: int) -> tuple[float, dict[str, float]]:
    """Score files with iqa-run; images a second, without its start, and scores by the name of the photograph."""
    listed = "\0".join(map(str, paths)).encode()
    command = [sys.executable, "-m", "iqa_runtime.commands.run", artefact, "-", "-0", "--format", "jsonl"]
    done = subprocess.run([*command, "--threads", str(threads)], input=listed, capture_output=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = re.search(rb"([\d.]+) images/s", done.stderr)
    if found is None:
        raise SystemExit(f"iqa-run said nothing of its speed: {done.stderr.decode()}")
    return float(found[1]), {name_of(Path(row["path"])): row["score"] for row in rows}


def together(clients: int, work: Callable[[int], None]) -> None:
    """Let clients work at once, each in a thread of its own, and wait for them."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def post(connection: http.client.HTTPConnection, content: bytes) -> tuple[int, dict[str, object]]:
    """Send an image; the status and the row, or the problem."""
    connection.request("POST", "/score", content)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def send(port: int, paths: Iterable[Path], clients: int, expected: dict[str, float]) -> Load:
    """Let clients send the pictures, all together once; every answer must be what was expected."""
    left = iter(paths)
    taking = threading.Lock()
    took: list[float] = []
    wrong: list[str] = []
    began = time.perf_counter()

    def client(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        while True:
            with taking:
                path = next(left, None)
            if path is None:
                connection.close()
                return
            content = path.read_bytes()
            sent = time.perf_counter()
            status, answer = post(connection, content)
            took.append(time.perf_counter() - sent)
            if answer.get("score") != expected[name_of(path)]:
                wrong.append(f"{path.name}: {status} {answer}")

    together(clients, client)
    seconds = time.perf_counter() - began
    if wrong:
        raise SystemExit(f"{len(wrong)} of {len(took)} answers are not what iqa-run says: {wrong[:3]}")
    p99 = statistics.quantiles(took, n=100)[98] if len(took) > 1 else took[0]
    return Load(len(took) / seconds, statistics.median(took), p99)
