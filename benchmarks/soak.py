"""Memory, file descriptors and threads over many images: ``python benchmarks/soak.py [IMAGES]``, or ``make soak``.

Two hundred small files in five formats, one in twenty of them damaged, are scored again and again, by ``score_many``
and by ``score``, plain and with maps. Exit code 1 if anything grows, or a file's score is not the one it had before.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np

from iqa_runtime import IqaError, Scorer

FILES = 200
DAMAGED = 10
FORMATS = (".jpg", ".png", ".webp", ".bmp", ".tiff")
SAMPLES = 40
WARM = 1 / 3
"""Share of a run after which allocators and caches have what they keep."""

SLOPE_LIMIT = 0.5
"""MiB per 1000 images: one leaked picture in four hundred."""

COMING_AND_GOING = 2
"""Threads and descriptors by which two moments may differ without anything growing."""


def make_files(folder: Path) -> list[Path]:
    """Write the pictures: blurred noise of many sizes; the last ones are cut short."""
    random = np.random.default_rng(0)
    files = []
    for number in range(FILES):
        height, width = random.integers(224, 320, 2)
        pixels = cv2.GaussianBlur(random.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 1 + number % 4)
        content = cv2.imencode(FORMATS[number % len(FORMATS)], pixels)[1].tobytes()
        files.append(folder / f"{number}{FORMATS[number % len(FORMATS)]}")
        files[-1].write_bytes(content if number < FILES - DAMAGED else content[: len(content) * 2 // 3])
    return files


def resources() -> tuple[float, int, int]:
    """Return what this process has: resident memory in MiB, file descriptors, threads."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    descriptors, threads = (len(list(Path(f"/proc/self/{what}").iterdir())) for what in ("fd", "task"))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, descriptors, threads


def one_by_one(scorer: Scorer, files: Iterable[Path]) -> Iterator[float | None]:
    for file in files:
        try:
            yield scorer.score(file).value
        except IqaError:
            yield None


def soak(what: str, files: list[Path], images: int, *, many: bool, maps: bool = False) -> bool:
    """Score so many images; print one row; tell whether nothing grew and nothing changed."""
    seen: dict[int, float | None] = {}
    rows, changed, failed = [], 0, 0
    began = time.perf_counter()
    with Scorer("edge-nr", threads=2, crops="center", maps=maps) as scorer:
        endless = islice(cycle(files), images)
        values = (item.value for item in scorer.score_many(endless)) if many else one_by_one(scorer, endless)
        for number, value in enumerate(values):
            failed += value is None
            changed += seen.setdefault(number % len(files), value) != value
            if number % max(1, images // SAMPLES) == 0:
                rows.append((number, *resources()))
    numbers, memory, descriptors, threads = np.array(rows[int(len(rows) * WARM) :], dtype=float).T
    slope = float(np.polyfit(numbers, memory, 1)[0]) * 1000
    more = max(descriptors[-1] - descriptors[0], threads[-1] - threads[0])
    flat = slope <= SLOPE_LIMIT and more <= COMING_AND_GOING
    print(
        f"| {what} | {images} | {failed} | {memory[0]:.0f} → {memory[-1]:.0f} | {slope:+.2f} | "
        f"{descriptors[0]:.0f} → {descriptors[-1]:.0f} | {threads[0]:.0f} → {threads[-1]:.0f} | {changed} | "
        f"{time.perf_counter() - began:.0f} |",
        flush=True,
    )
    return flat and not changed and failed == images // len(files) * DAMAGED


def main(images: int = 20_000) -> bool:
    """Run all four, so many images each (a multiple of the files)."""
    images = -(-images // FILES) * FILES
    print("| by | images | failed | RSS, MiB | per 1000 images | descriptors | threads | scores changed | seconds |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(Path(folder))
        return all(
            [
                soak("`score_many`", files, images, many=True),
                soak("`score_many`, maps", files, images, many=True, maps=True),
                soak("`score`", files, images, many=False),
                soak("`score`, maps", files, images, many=False, maps=True),
            ]
        )


if __name__ == "__main__":
    sys.exit(not main(*map(int, sys.argv[1:])))
