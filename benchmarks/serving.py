"""``iqa-serve`` under load, beside ``iqa-run`` on the same pictures; with clients that misbehave; over many requests.

    python benchmarks/serving.py [--only load|faults|memory] [--requests 20000]

Server and clients are processes of this machine, which speak over loopback; each client waits for its answer before it
sends the next picture. Every score must have the bits that ``iqa-run`` gave it, or nothing is shown. Server and
``iqa-run`` take turns; ratios are of one turn, and the median over the turns is shown. Linux alone.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from served.clients import Load, copies, name_of, run_files, send, server
from served.faults import Expected, faults

CLIENTS = (1, 8, 64)
SECTIONS = ("load", "faults", "memory")

SAMPLES = 20
"""Looks at memory over a run."""

WARM = 1 / 3
"""Share of a run after which allocators and caches have what they keep."""


def load(artefact: str, paths: list[Path], turns: int, threads: int) -> Iterator[str]:
    """Yield the table of requests a second."""
    loads: dict[int, list[Load]] = {clients: [] for clients in CLIENTS}
    ratios: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
    speeds = []
    with server(artefact, "--threads", threads, "--no-page") as running:
        for _ in range(turns):
            speed, expected = run_files(artefact, paths, threads)
            speeds.append(speed)
            for clients in CLIENTS:
                measured = send(running.port, paths, clients, expected)
                loads[clients].append(measured)
                ratios[clients].append(measured.rate / speed)
    yield f"iqa-run: {statistics.median(speeds):.1f} images/s"
    yield ""
    yield "| clients | requests/s | beside iqa-run | p50 | p99 |"
    yield "| ---: | ---: | ---: | ---: | ---: |"
    for clients in CLIENTS:
        rate, median, p99 = (
            statistics.median(values)
            for values in zip(*((each.rate, each.median, each.p99) for each in loads[clients]), strict=True)
        )
        ratio = statistics.median(ratios[clients])
        yield f"| {clients} | {rate:.1f} | {ratio:.0%} | {1000 * median:.0f} ms | {1000 * p99:.0f} ms |"


def memory(artefact: str, paths: list[Path], requests: int, expected: Expected, threads: int) -> Iterator[str]:
    """Yield what a server has over many requests of eight clients."""
    sent = itertools.cycle(paths)
    part = max(1, requests // SAMPLES)
    with server(artefact, "--threads", threads, "--no-page") as running:
        rows = []
        for number in range(0, requests, part):
            send(running.port, itertools.islice(sent, part), CLIENTS[1], expected)
            rows.append((number + part, *running.resources()))
    done, resident, descriptors, lanes = np.array(rows[int(len(rows) * WARM) :], dtype=float).T
    slope = float(np.polyfit(done, resident, 1)[0]) * 1000 if len(done) > 1 else 0.0
    yield "| requests | from request | RSS, MiB | per 1000 requests | descriptors | threads |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: |"
    yield (
        f"| {done[-1]:.0f} | {done[0]:.0f} | {resident[0]:.0f} → {resident[-1]:.0f} | {slope:+.2f} | "
        f"{descriptors[0]:.0f} → {descriptors[-1]:.0f} | {lanes[0]:.0f} → {lanes[-1]:.0f} |"
    )


def main(arguments: list[str]) -> None:
    """Print the sections that are asked for, each line as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artefact", default="edge")
    parser.add_argument("--only", choices=SECTIONS, help="one section")
    parser.add_argument("--pictures", type=int, default=200, help="of a turn, for each number of clients")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--requests", type=int, default=2000, help="over which memory is looked at")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        paths = copies(Path(folder), given.pictures)
        _, expected = run_files(given.artefact, paths, given.threads)
        expected = {name_of(path): expected[name_of(path)] for path in paths}
        for section in SECTIONS if given.only is None else [given.only]:
            began = time.perf_counter()
            lines = {
                "load": lambda: load(given.artefact, paths, given.turns, given.threads),
                "faults": lambda: faults(given.artefact, paths[: -(-given.pictures // 2)], expected, given.threads),
                "memory": lambda: memory(given.artefact, paths, given.requests, expected, given.threads),
            }[section]()
            print(f"## {section}\n", flush=True)
            for line in lines:
                print(line, flush=True)
            loads = ", ".join(f"{each:.1f}" for each in os.getloadavg())
            print(
                f"\n{time.perf_counter() - began:.0f} s; load of the machine (1, 5, 15 minutes): {loads}\n", flush=True
            )


if __name__ == "__main__":
    main(sys.argv[1:])
