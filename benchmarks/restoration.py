"""What the pictures that an artefact restores gain in PSNR, on the validation photographs of a synthetic set.

    python benchmarks/restoration.py ARTEFACT --config training/configs/dri-edge-quality.yaml \
        --photographs PHOTOGRAPHS --cache CACHE

The set is that of the training run with this configuration, made anew where it is not in the cache. One tile of each
photograph is degraded by one distortion of each kind, at severities 2 to 5, and restored as ``iqa-run --restored
--crops grid`` does. A gain is the PSNR of the restored picture less that of the degraded one, both against the
pristine one; a tile that a distortion leaves as it is, being flat, has none and is left out. Two more rows are of what
needs no restoring: a JPEG of quality 95; and the pristine picture itself, for which there is no gain, but a root mean
squared difference in steps of 8 bits. Needs the train extra.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from iqa_runtime import Scorer
from iqa_training.configuration import read_config
from iqa_training.datasets.synthetic import build_synthetic
from iqa_training.distortions import distort

Picture = NDArray[np.uint8]

KINDS = ("white_noise", "gaussian_blur", "jpeg")
SEVERITIES = (2, 3, 4, 5)
GOOD_QUALITY = 95
HARM = -0.2
"""Gain, dB, below which a picture counts as harmed."""


def difference(picture: Picture, pristine: Picture) -> float:
    """Return the root mean squared difference over all channels."""
    return math.sqrt(np.square(picture.astype(np.float64) - pristine).mean())


def psnr(picture: Picture, pristine: Picture) -> float:
    """Return the peak signal-to-noise ratio over all channels, dB; that of equal pictures is as of half a step."""
    return 20 * math.log10(255 / (difference(picture, pristine) or 0.5))


def good_jpeg(picture: Picture) -> Picture:
    """Return what a camera or an editor leaves of a picture."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, GOOD_QUALITY]
    _, content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), settings)
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB), np.uint8)


def restore(scorer: Scorer, pictures: list[Picture]) -> list[Picture]:
    """Return restored pictures."""
    restored = []
    for result in scorer.score_many(pictures):
        if result.restored is None:
            raise SystemExit(f"a picture was not restored: {result.error}")
        restored.append(result.restored)
    return restored


def gains(scorer: Scorer, degraded: list[Picture], pristine: list[Picture]) -> NDArray[np.float64]:
    """Return the gain, dB, of each picture that is degraded."""
    rows = zip(restore(scorer, degraded), degraded, pristine, strict=True)
    return np.array(
        [psnr(after, aim) - psnr(before, aim) for after, before, aim in rows if not np.array_equal(before, aim)]
    )


def summary(values: NDArray[np.float64]) -> dict[str, float]:
    """Return mean, least and largest of what is measured of each picture."""
    return {"mean": float(values.mean()), "least": float(values.min()), "largest": float(values.max())}


def summary_of_gains(values: NDArray[np.float64]) -> dict[str, float]:
    """Return the same, of how many pictures it is, and how many of them are harmed."""
    return {**summary(values), "pictures": len(values), "harmed": int((values < HARM).sum())}


def judge(scorer: Scorer, pristine: list[Picture]) -> dict[str, object]:
    """Return the measures by name."""
    found: dict[str, NDArray[np.float64]] = {}
    for kind in KINDS:
        for severity in SEVERITIES:
            degraded = [
                distort(picture, kind, severity, np.random.default_rng(index)) for index, picture in enumerate(pristine)
            ]
            found[f"{kind}_{severity}"] = gains(scorer, degraded, pristine)
    left = [difference(*pair) for pair in zip(restore(scorer, pristine), pristine, strict=True)]
    return {
        "pictures": len(pristine),
        "mean_gain": float(np.mean([values.mean() for values in found.values()])),
        "gain": {name: summary_of_gains(values) for name, values in found.items()},
        f"gain_of_jpeg_quality_{GOOD_QUALITY}": summary_of_gains(gains(scorer, [*map(good_jpeg, pristine)], pristine)),
        "difference_of_pristine": summary(np.array(left)),
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
    tiles: dict[str, Picture] = {}
    for index in range(len(validation)):
        item = validation.item(index)
        photograph, _, _ = item.content.rpartition(":")
        if item.reference is not None:
            tiles.setdefault(photograph, item.reference)
    with Scorer(arguments.artefact, crops="grid", restored=True, threads=arguments.threads) as scorer:
        print(json.dumps(judge(scorer, list(tiles.values())), indent=1))


if __name__ == "__main__":
    main()
