"""Images a second of ``iqa-ray`` beside ``iqa-run``, and what a killed run costs: ``python benchmarks/ray_data.py``.

Both run as processes of their own on this machine, in turns, on copies of the photographs, with as many workers of one
thread as the other has threads. Start-up is left out of both: each runs on a few pictures, too, and the time of that is
taken off. Every row must have the score that ``iqa-run`` gave it. Then the process of ``iqa-ray`` is killed at three
places (SIGKILL), goes on each time, and in the end every row must be there once. Tables on standard output.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.dataset

PHOTOGRAPHS = Path(__file__).parents[1] / "examples" / "photographs"


def copies(folder: Path, count: int) -> Path:
    """Copy the photographs into a folder, as often as it takes; return it."""
    folder.mkdir()
    for number, original in zip(range(count), itertools.cycle(sorted(PHOTOGRAPHS.glob("*.jpg"))), strict=False):
        shutil.copyfile(original, folder / f"{number:06}.jpg")
    return folder


def run_command(artefact: str, pictures: Path, output: Path, threads: int) -> list[str]:
    command = [sys.executable, "-m", "iqa_runtime.commands.run", artefact, pictures]
    return [*map(str, [*command, "--output", output, "--threads", threads])]


def ray_command(artefact: str, pictures: Path, output: Path, workers: int, rows: int, *more: str) -> list[str]:
    command = [sys.executable, "-m", "iqa_serving.commands.ray", artefact, pictures, "--output", output]
    return [*map(str, [*command, "--workers", workers, "--rows-per-file", rows, *more])]


def seconds(command: Sequence[str]) -> float:
    """Run a command to its end; return the time it took."""
    began = time.perf_counter()
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return time.perf_counter() - began


def scores(output: Path) -> dict[str, float]:
    """Return scores by path; no row may be there twice."""
    rows = pyarrow.dataset.dataset(output).to_table(columns=["path", "score"])
    found: dict[str, float] = dict(zip(rows["path"].to_pylist(), rows["score"].to_pylist(), strict=True))
    if len(found) != len(rows):
        raise SystemExit(f"{output}: {len(rows)} rows of {len(found)} images")
    return found


def killed(command: list[str], lists: Path, files: int) -> int:
    """Kill a run once it has written so many files; return how many there were then."""

    def written() -> int:
        return sum(not path.name.endswith(".pending.parquet") for path in lists.glob("*.parquet"))

    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while process.poll() is None and written() < files:
        time.sleep(0.01)
    if process.poll() is not None:
        raise SystemExit("the run was over before it could be killed; give more --pictures or fewer --rows")
    process.kill()
    process.wait()
    return written()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artefact", default="edge")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--few", type=int, default=200, help="of the runs whose time is taken off")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rows", type=int, default=100, help="of a file, and of what a worker takes at a time")
    parser.add_argument("--kills", type=float, nargs="*", default=[0.25, 0.5, 0.75], help="shares of the rows")
    arguments = parser.parse_args()
    artefact, workers, rows = arguments.artefact, arguments.workers, arguments.rows
    if not 0 < arguments.few < arguments.pictures:
        parser.error("--few must be fewer than --pictures")
    rates: dict[str, list[float]] = {"iqa-run": [], "iqa-ray": []}
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        many, few = copies(folder / "many", arguments.pictures), copies(folder / "few", arguments.few)
        for turn in range(arguments.turns):
            took: dict[str, list[float]] = {"iqa-run": [], "iqa-ray": []}
            for pictures in (few, many):
                name = f"{pictures.name}-{turn}"
                took["iqa-run"].append(seconds(run_command(artefact, pictures, folder / f"{name}.parquet", workers)))
                took["iqa-ray"].append(seconds(ray_command(artefact, pictures, folder / name, workers, rows)))
                expected = scores(folder / f"{name}.parquet")
                if scores(folder / name) != expected:
                    raise SystemExit(f"turn {turn}: other scores than those of iqa-run")
            for which, (little, much) in took.items():
                rates[which].append((arguments.pictures - arguments.few) / (much - little))
        print("| | images/s, each turn | median | beside iqa-run |\n| --- | --- | ---: | ---: |")
        ratios = [ours / theirs for ours, theirs in zip(rates["iqa-ray"], rates["iqa-run"], strict=True)]
        for which, each in rates.items():
            beside = f"{statistics.median(ratios):.0%}" if which == "iqa-ray" else ""
            print(f"| {which} | {', '.join(f'{x:.1f}' for x in each)} | {statistics.median(each):.1f} | {beside} |")
        print(f"\n| killed after | rows there, of {len(expected)} | rows in the end |\n| ---: | ---: | ---: |")
        output, lists = folder / "killed", folder / "killed.checkpoint"
        command = ray_command(artefact, many, output, workers, rows, "--resume")
        for place in arguments.kills:
            files = killed(command, lists, max(1, round(place * arguments.pictures / rows)))
            print(f"| {place:.0%} | {files * rows} | |")
        seconds(command)
        final = scores(output)
        if final != expected:
            raise SystemExit(f"{len(final)} rows of {len(expected)}, or other scores")
        print(f"| never | | {len(final)}, each once, all scores the same |")
    print(f"\nLoad of the machine (1, 5, 15 minutes): {', '.join(f'{each:.1f}' for each in os.getloadavg())}")


if __name__ == "__main__":
    main()
