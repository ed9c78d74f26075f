"""How often the measures of a picture give a reason, of photographs as they are and of degraded ones.

    python benchmarks/measures.py PHOTOGRAPHS... --count 120 --degraded 40 --json benchmarks/results/measures.json

False alarms are counted on photographs as they are, at their own size. Hits are counted on photographs that are shrunk
to a shorter side of 512, about as large as those of KADID-10k, and degraded in the ways and at the levels of that set.
The thresholds were chosen on the photographs at even places of the sorted list; these are those at odd ones. One of 4
megapixels at least is measured beside a copy of 1 megapixel, averaged by area. Needs the train extra.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from iqa_runtime import measuring
from iqa_runtime.images.formats import IMAGE_SUFFIXES
from iqa_runtime.images.loading import load_image
from iqa_runtime.kernels import resize
from iqa_runtime.measuring import MEASURED, Measures, measure
from iqa_training.distortions import GROUPS, LEVELS, distort

REASONS = ("blur", "noise", "compression", "overexposed", "underexposed", "small")
DEGRADATIONS = tuple(name for group in ("blur", "noise", "compression", "brightness") for name in GROUPS[group])
LARGE, COPY = 4e6, 1e6
SIDE = 512
THRESHOLDS = ("BLUR_BELOW", "NOISE_ABOVE", "BLOCKS_ABOVE", "QUALITY_BELOW", "WHITE_ABOVE", "BLACK_ABOVE", "SMALL_BELOW")


def shrunk(pixels: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """Return a picture made smaller by averaging areas."""
    if factor >= 1:
        return pixels
    height, width = (max(round(side * factor), 1) for side in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def degraded(pixels: NDArray[np.uint8], levels: Iterable[int]) -> Iterator[tuple[str, int, NDArray[np.uint8]]]:
    """Yield a picture in every degradation: its name, its level, and the picture; the same ones every time."""
    factor = SIDE / min(pixels.shape[:2])
    if factor < 1:
        height, width = (round(side * factor) for side in pixels.shape[:2])
        pixels = resize(pixels, (height, width))
    for name in DEGRADATIONS:
        for level in levels:
            yield name, level, distort(pixels, name, float(level), np.random.default_rng(0))


def shares(found: Sequence[Measures]) -> dict[str, float]:
    """Return how many of them have each reason, as a share."""
    return {reason: round(float(np.mean([reason in each.reasons for each in found])), 4) for reason in REASONS}


def agreement(pairs: Sequence[tuple[Measures, Measures]]) -> dict[str, Any]:
    """Return how far the measures of pictures and of their copies lie apart, and how often a reason differs."""
    apart = {}
    for name in MEASURED:
        values = [(getattr(large, name), getattr(small, name)) for large, small in pairs]
        differences = [abs(large - small) for large, small in values if large is not None and small is not None]
        apart[name] = {"median": float(np.median(differences)), "largest": max(differences)} if differences else None
    differing = {
        reason: sum((reason in large.reasons) != (reason in small.reasons) for large, small in pairs)
        for reason in REASONS
    }
    return {"pictures": len(pairs), "difference": apart, "reason_differs": differing}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, nargs="+", help="folders")
    parser.add_argument("--count", type=int, default=120, help="photographs to measure as they are")
    parser.add_argument("--degraded", type=int, default=40, help="of these, to degrade as well")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    listed = sorted(
        path for folder in arguments.photographs for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES
    )[1::2]
    chosen = [listed[place] for place in np.linspace(0, len(listed) - 1, min(arguments.count, len(listed)), dtype=int)]
    step = max(len(chosen) // arguments.degraded, 1)
    pristine, pairs, hits = [], [], {}
    for place, path in enumerate(chosen):
        pristine.append(measure(path))
        pixels = load_image(path)
        size = pixels.shape[0] * pixels.shape[1]
        if size >= LARGE:
            pairs.append((pristine[-1], measure(shrunk(pixels, (COPY / size) ** 0.5))))
        if place % step == 0 and place // step < arguments.degraded:
            for name, level, picture in degraded(pixels, range(1, LEVELS + 1)):
                hits.setdefault(name, {}).setdefault(level, []).append(measure(picture))
    numbers = {name: [value for each in pristine if (value := getattr(each, name)) is not None] for name in MEASURED}
    results = {
        "thresholds": {name: getattr(measuring, name) for name in THRESHOLDS},
        "pictures": len(pristine),
        "false_alarms": shares(pristine),
        "quantiles_of_pristine": {
            name: dict(
                zip(("0.05", "0.5", "0.95"), np.quantile(values, (0.05, 0.5, 0.95)).round(4).tolist(), strict=True)
            )
            for name, values in numbers.items()
            if values
        },
        "copies_of_1_megapixel": agreement(pairs),
        "degraded": len(next(iter(hits.values()))[1]),
        "hits": {name: {level: shares(found) for level, found in levels.items()} for name, levels in hits.items()},
    }
    text = json.dumps(results, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
