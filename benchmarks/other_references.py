"""Judge a non-aligned artefact on human scores against several references, and say how much its ranks depend on them.

    python benchmarks/other_references.py ARTEFACT --root DIR [--references PHOTOGRAPHS] [--output RESULTS.json]

DIR is made by human_scores.py. Each photograph of the folder PHOTOGRAPHS in turn is the reference of every image;
without that option each image is its own, as a twin trained without references wants it. There are mean and standard
deviation of SRCC over the references, for all images and for those of each type and group. Needs the train extra.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import stats

from iqa_runtime.contract import FileDigest
from iqa_runtime.results import Score
from iqa_runtime.scorer import Scorer
from iqa_training.datasets import read_dataset
from iqa_training.datasets.base import Sample

COMMON = ("additive_gaussian_noise", "gaussian_blur", "jpeg", "jpeg2000")


def groups(samples: list[Sample]) -> dict[str, list[int]]:
    """Return which images belong to all, to the common types, and to each type."""
    types = [sample.distortion or "" for sample in samples]
    found = {"all": list(range(len(types))), "common": [index for index, each in enumerate(types) if each in COMMON]}
    return found | {name: [index for index, each in enumerate(types) if each == name] for name in sorted(set(types))}


def value_of(result: Score) -> float:
    """Return the score; an image without one would change what the others are ranked among."""
    if result.value is None:
        raise SystemExit(f"{result.path}: {result.error}")
    return result.value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefact")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--references", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    samples = list(read_dataset("csv", arguments.root).samples)
    truth = np.array([sample.mos for sample in samples])
    members = groups(samples)
    images = [sample.distorted for sample in samples]
    folder = arguments.references
    references = [] if folder is None else sorted(path for path in folder.iterdir() if path.is_file())
    found: dict[str, list[float]] = {name: [] for name in members}
    with Scorer(arguments.artefact, threads=arguments.threads) as scorer:
        sign = 1 if scorer.contract.score.higher_is_better else -1
        for reference in references or [None]:
            results = scorer.score_many(images, images if reference is None else reference)
            scores = sign * np.array([value_of(result) for result in results])
            for name, chosen in members.items():
                found[name].append(float(stats.spearmanr(scores[chosen], truth[chosen]).statistic))
            print(f"{reference.name if reference else 'itself'}: {found['all'][-1]:.3f}", flush=True)
        digest = scorer.file.sha256
    table = {
        name: {"n": len(members[name]), "mean": float(np.mean(values)), "std": float(np.std(values)), "srcc": values}
        for name, values in found.items()
    }
    for name, row in table.items():
        print(f"{name:24} n {row['n']:4}  SRCC {row['mean']:.3f}, standard deviation {row['std']:.4f}")
    if arguments.output is not None:
        digests = [FileDigest.of_file(reference).sha256 for reference in references]
        report = {"artefact_sha256": digest, "references_sha256": digests, "groups": table}
        arguments.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
