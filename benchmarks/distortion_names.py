"""How well an artefact names what was done to pictures, on the validation photographs of a synthetic set.

    python benchmarks/distortion_names.py ARTEFACT --config training/configs/mfe-edge-quality.yaml \
        --photographs PHOTOGRAPHS --cache CACHE

The set is that of the training run with this configuration, made anew where it is not in the cache. Its pictures are
scored as iqa-run scores them. Top-1 is of pictures with a single distortion of a severity of at least 2; average
precision and calibration error are of all pictures, by name and as their mean. Intervals (95 %) come from resampling
photographs. Needs the train extra.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_export.models.mfe import DISTORTIONS
from iqa_runtime import Scorer
from iqa_training.configuration import read_config
from iqa_training.datasets.items import Item
from iqa_training.datasets.synthetic import build_synthetic
from iqa_training.evaluation.names import Array, average_precision, calibration_error, top_1
from iqa_training.recipes.mfe_views import names_of

VISIBLE = 2.0
RESAMPLES = 1000
LEVELS = (2.5, 97.5)
"""Percent, of an interval of 95 %."""


def is_single(item: Item) -> bool:
    return item.steps is not None and len(item.steps) == 1 and item.steps[0].severity >= VISIBLE


def by_name(measure: Callable[..., float], probabilities: Array, right: NDArray[np.bool_]) -> dict[str, float]:
    """Return a measure of each name by itself."""
    columns = zip(DISTORTIONS, probabilities.T, right.T, strict=True)
    return {name: measure(column, hits) for name, column, hits in columns}


def summary(probabilities: Array, right: NDArray[np.bool_], single: NDArray[np.bool_]) -> dict[str, float]:
    """Return the three measures that are single numbers."""
    return {
        "top_1": top_1(probabilities[single], right[single]),
        "macro_average_precision": float(np.nanmean([*by_name(average_precision, probabilities, right).values()])),
        "mean_calibration_error": float(np.mean([*by_name(calibration_error, probabilities, right).values()])),
    }


def intervals(photographs: NDArray[np.str_], *rows: NDArray[Any]) -> dict[str, list[float]]:
    """Return the intervals of top-1 and macro average precision, by resampling photographs with all their pictures.

    Calibration errors of resamples are too large: the same picture drawn twice makes shares in bins more extreme.
    """
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(photographs == name) for name in np.unique(photographs)]
    found = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([members[index] for index in rng.integers(len(members), size=len(members))])
        found.append(summary(*(row[drawn] for row in rows)))
    names = ("top_1", "macro_average_precision")
    return {name: np.nanpercentile([each[name] for each in found], LEVELS).tolist() for name in names}


def judge(scorer: Scorer, items: list[Item]) -> dict[str, object]:
    """Return the measures by name."""
    results = list(scorer.score_many(item.distorted for item in items))
    missing = next((result for result in results if result.distortions is None), None)
    if missing is not None:
        raise SystemExit(f"an artefact that names distortions is needed, and pictures it can score: {missing}")
    named = [result.distortions for result in results if result.distortions is not None]
    probabilities = np.array([[names[name] for name in DISTORTIONS] for names in named])
    right = np.array([names_of(item.steps or ()) for item in items]).astype(bool)
    single = np.array([is_single(item) for item in items])
    types = np.array([item.distortion or "none" for item in items])
    photographs = np.array([item.content.rpartition(":")[0] for item in items])
    chosen = {name: single & right[:, index] for index, name in enumerate(DISTORTIONS)}
    return {
        "pictures": len(items),
        "single": int(single.sum()),
        **summary(probabilities, right, single),
        "intervals": intervals(photographs, probabilities, right, single),
        "top_1_by_type": {
            kind: top_1(probabilities[single & (types == kind)], right[single & (types == kind)])
            for kind in sorted(set(types[single]))
        },
        "average_precision": by_name(average_precision, probabilities, right),
        "calibration_error": by_name(calibration_error, probabilities, right),
        "confusion": {
            name: np.bincount(probabilities[rows].argmax(1), minlength=len(DISTORTIONS)).tolist()
            for name, rows in chosen.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefact")
    for option in ("config", "photographs", "cache"):
        parser.add_argument(f"--{option}", type=Path, required=True)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    config = read_config(arguments.config).synthetic
    _, validation = build_synthetic(arguments.photographs, config, arguments.cache, workers=arguments.threads or 1)
    with Scorer(arguments.artefact, threads=arguments.threads) as scorer:
        measures = judge(scorer, [validation.item(index) for index in range(len(validation))])
    print(json.dumps(measures, indent=1))


if __name__ == "__main__":
    main()
