"""Requests a second of ``iqa-serve`` beside ``iqa-run`` on the same pictures: ``python benchmarks/serving.py``.

Both run as processes of their own on this machine, in turns; clients speak to the server over loopback, each waiting
for its answer before it sends the next picture. Every score must have the bits that ``iqa-run`` gave it. Ratios are of
one turn, and the median turn is shown, as a table on standard output.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PHOTOGRAPHS = Path(__file__).parents[1] / "examples" / "photographs"
CLIENTS = (1, 8, 64)


@dataclass(frozen=True, slots=True)
class Load:
    """What a number of clients met with: requests a second, and seconds that a request took."""

    rate: float
    median: float
    p99: float


def copies(folder: Path, count: int) -> list[Path]:
    """Link the photographs into a folder, as often as it takes: iqa-run scores no file twice."""
    originals = sorted(PHOTOGRAPHS.glob("*.jpg"))
    paths = []
    for number, original in zip(range(count), itertools.cycle(originals), strict=False):
        paths.append(folder / f"{number:05}_{original.name}")
        paths[-1].symlink_to(original)
    return paths


def run_files(artefact: str, paths: list[Path], threads: int) -> tuple[float, dict[str, float]]:
    """Score files with iqa-run; images a second, without its start, and scores by the file name of the photograph."""
    listed = "\0".join(map(str, paths)).encode()
    command = [sys.executable, "-m", "iqa_runtime.commands.run", artefact, "-", "-0", "--format", "jsonl"]
    done = subprocess.run([*command, "--threads", str(threads)], input=listed, capture_output=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = re.search(rb"([\d.]+) images/s", done.stderr)
    if found is None:
        raise SystemExit(f"iqa-run said nothing of its speed: {done.stderr.decode()}")
    return float(found[1]), {Path(row["path"]).name.partition("_")[2]: row["score"] for row in rows}


@contextmanager
def server(artefact: str, threads: int) -> Iterator[tuple[int, int]]:
    """Start iqa-serve; its port and its process."""
    command = [sys.executable, "-m", "iqa_serving.commands.serve", artefact, "--port", "0", "--threads", str(threads)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        port = int(process.stderr.readline().rpartition(":")[2])
        if "ready" not in (line := process.stderr.readline()):
            raise SystemExit(line)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def send(port: int, paths: list[Path], clients: int, expected: dict[str, float]) -> Load:
    """Let clients send the pictures, all together once; every answer must be what was expected."""
    left = iter(paths)
    taking = threading.Lock()
    took: list[float] = []
    wrong: list[str] = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        while True:
            with taking:
                path = next(left, None)
            if path is None:
                connection.close()
                return
            content = path.read_bytes()
            began = time.perf_counter()
            connection.request("POST", "/score", content)
            answer = json.loads(connection.getresponse().read())
            took.append(time.perf_counter() - began)
            name = path.name.partition("_")[2]
            if answer.get("score") != expected[name]:
                wrong.append(f"{name}: {answer}")

    threads = [threading.Thread(target=client) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if wrong or len(took) != len(paths):
        raise SystemExit(f"{len(paths) - len(took)} without an answer, {len(wrong)} with another score: {wrong[:3]}")
    p99 = statistics.quantiles(took, n=100)[98]
    return Load(len(paths) / seconds, statistics.median(took), p99)


def resident(process: int) -> float:
    """Return the resident memory of a process in MiB; Linux alone."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artefact", default="edge")
    parser.add_argument("--pictures", type=int, default=200, help="of a turn, for each number of clients")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    loads: dict[int, list[Load]] = {clients: [] for clients in CLIENTS}
    ratios: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
    memory = []
    with tempfile.TemporaryDirectory() as folder, server(arguments.artefact, arguments.threads) as (port, process):
        paths = copies(Path(folder), arguments.pictures)
        for _ in range(arguments.turns):
            speed, expected = run_files(arguments.artefact, paths, arguments.threads)
            for clients in CLIENTS:
                load = send(port, paths, clients, expected)
                loads[clients].append(load)
                ratios[clients].append(load.rate / speed)
            memory.append(resident(process))
    print("| clients | requests/s | beside iqa-run | p50 | p99 |\n| ---: | ---: | ---: | ---: | ---: |")
    for clients in CLIENTS:
        rate, median, p99 = (
            statistics.median(values)
            for values in zip(*((each.rate, each.median, each.p99) for each in loads[clients]), strict=True)
        )
        ratio = statistics.median(ratios[clients])
        print(f"| {clients} | {rate:.1f} | {ratio:.0%} | {1000 * median:.0f} ms | {1000 * p99:.0f} ms |")
    print(f"\nResident memory after each turn: {', '.join(f'{each:.0f}' for each in memory)} MiB")
    print(f"Load of the machine (1, 5, 15 minutes): {', '.join(f'{each:.1f}' for each in os.getloadavg())}")


if __name__ == "__main__":
    main()
