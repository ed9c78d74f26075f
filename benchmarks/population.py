"""Make a population of pictures as people meet them, of the photographs that validate a synthetic set.

    python benchmarks/population.py --photographs PHOTOGRAPHS --config training/configs/mfe-edge-quality.yaml \
        --output POPULATION [--without PATTERN]...
    iqa-eval ARTEFACT --population POPULATION --write-quantiles ARTEFACT

PHOTOGRAPHS and the configuration are those of the training run, and the photographs are those it held back, but for the
files that match a pattern. Of each there are: itself, two JPEGs of a quality drawn from 30 to 95, one at 0.4 to 0.9 of
its size, one with noise and one with blur, both mild. The output names the population, for ``--population-name``, with
the digest of photographs and recipe. Needs the train extra.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from iqa_runtime.contract import FileDigest
from iqa_runtime.images.loading import load_image
from iqa_training.configuration import read_config
from iqa_training.datasets.synthetic import find_photographs, held_back

Picture = NDArray[np.uint8]

JPEGS, QUALITY = 2, (30, 95)
SCALE = (0.4, 0.9)
NOISE, BLUR = (2.0, 8.0), (0.5, 1.5)
"""Standard deviations: of Gaussian noise in each channel, on 0 to 255; of a Gaussian in pixels."""
RECIPE = f"JPEG {JPEGS} x {QUALITY}, scale {SCALE}, noise {NOISE}, blur {BLUR}"


def versions(photograph: Picture, rng: np.random.Generator) -> Iterator[tuple[str, Picture, int | None]]:
    """Yield name, pixels, RGB, and the quality of a JPEG, else None, of every version of a photograph."""
    yield "pristine", photograph, None
    for index in range(JPEGS):
        yield f"jpeg_{index + 1}", photograph, int(rng.integers(*QUALITY, endpoint=True))
    scale = rng.uniform(*SCALE)
    smaller = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    yield "smaller", np.asarray(smaller, np.uint8), None
    noise = rng.normal(0, rng.uniform(*NOISE), photograph.shape)
    yield "noise", np.rint(photograph + noise).clip(0, 255).astype(np.uint8), None
    yield "blur", np.asarray(cv2.GaussianBlur(photograph, (0, 0), rng.uniform(*BLUR)), np.uint8), None


def write_population(photographs: dict[str, Path], output: Path) -> int:
    """Write all versions of photographs, by their SHA-256; return how many pictures these are."""
    output.mkdir(parents=True)
    count = 0
    for sha256, file in sorted(photographs.items()):
        for name, pixels, quality in versions(load_image(file), np.random.default_rng(int(sha256[:12], 16))):
            suffix, settings = (".png", []) if quality is None else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])
            target = output / f"{sha256[:16]}_{name}{suffix}"
            if not cv2.imwrite(str(target), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), settings):
                raise SystemExit(f"{target}: cannot be written")
            count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("photographs", "config", "output"):
        parser.add_argument(f"--{option}", type=Path, required=True)
    parser.add_argument("--without", action="append", default=[], metavar="PATTERN")
    arguments = parser.parse_args()
    config = read_config(arguments.config).synthetic
    found = {FileDigest.of_file(file).sha256: file for file in find_photographs(arguments.photographs, config.tile)}
    validating = held_back(list(found), config)
    kept = {
        sha256: file
        for sha256, file in found.items()
        if sha256 in validating and not any(file.match(pattern) for pattern in arguments.without)
    }
    count = write_population(kept, arguments.output)
    digest = hashlib.sha256("\n".join([*sorted(kept), RECIPE]).encode()).hexdigest()[:16]
    print(f"{len(kept)} photographs and what people meet of them: benchmarks/population.py, {digest}")
    print(f"{count} pictures", file=sys.stderr)


if __name__ == "__main__":
    main()
