"""Rebuild a part of TID2013 from Kodak photographs: real images with the human scores published for them.

TID2013's references 1 to 24 are unscaled 512 x 384 crops of Kodak's photographs 1 to 24, and the parameters of seven of
its distortion types are known well enough to make the images again. Five types come out as published (quantization
noise, Gaussian blur, JPEG, mean shift, contrast change); Gaussian noise is another draw of the same variance, JPEG 2000
another codec at the same PSNR. It is a part: correlations on it are not comparable with papers on all of TID2013.

    python benchmarks/human_scores.py --photographs KODAK --scores SCORES.csv --output DIR
    iqa-eval ARTEFACT --dataset csv --root DIR --baselines

KODAK holds kodim01.png and so on; those that SCORES names suffice. SCORES has the columns reference (i01.png), type
(TID2013's number), level (1 to 5) and mos; further ones are passed over. Needs the train extra and Pillow.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Picture = NDArray[np.uint8]

WIDTH, HEIGHT = 512, 384
LEFT_TOP = {
    1: (104, 126),
    2: (83, 30),
    3: (73, 44),
    4: (0, 206),
    5: (104, 21),
    6: (66, 43),
    7: (153, 93),
    8: (71, 4),
    9: (0, 292),
    10: (0, 337),
    11: (252, 55),
    12: (131, 40),
    13: (119, 41),
    14: (147, 93),
    15: (236, 56),
    16: (121, 8),
    17: (0, 74),
    18: (0, 150),
    19: (0, 255),
    20: (57, 61),
    21: (28, 60),
    22: (59, 33),
    23: (66, 47),
    24: (65, 116),
}
"""Where each photograph is cropped, in pixels."""

NOISE_VARIANCES = (32.5, 65, 130, 260, 520)
QUANTIZATION_STEPS = (19, 27, 39, 55, 76)
BLUR_SIGMAS = (0.5, 0.65, 1.0, 1.7, 4.0)
BLUR_RADIUS = 5
JPEG_QUALITIES = (80, 60, 23, 8, 4)
JPEG2000_PSNRS = (33, 30, 27, 24, 21)
JPEG2000_RATES = (2.0, 6000.0)
SEARCH_STEPS = 30
MEAN_SHIFTS = (-6, 10, -20, 30, -40)
CONTRASTS = (0.9, 1.2, 0.75, 1.45, 0.5)


def to_picture(values: NDArray[np.float64]) -> Picture:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def gaussian_noise(picture: Picture, level: int, generator: np.random.Generator) -> Picture:
    return to_picture(picture + generator.normal(0, math.sqrt(NOISE_VARIANCES[level]), picture.shape))


def quantization_noise(picture: Picture, level: int) -> Picture:
    step = QUANTIZATION_STEPS[level]
    return to_picture(np.round(picture / step) * step)


def gaussian_blur(picture: Picture, level: int) -> Picture:
    """Blur with black beyond the border, as the published images are."""
    window = np.exp(-(np.arange(-BLUR_RADIUS, BLUR_RADIUS + 1) ** 2) / (2 * BLUR_SIGMAS[level] ** 2))
    blurred = picture.astype(np.float64)
    for axis in (0, 1):
        blurred = ndimage.correlate1d(blurred, window / window.sum(), axis, mode="constant")
    return to_picture(blurred)


def jpeg(picture: Picture, level: int) -> Picture:
    """Compress with the standard tables, scaled by libjpeg's rule but not cut off at 255."""
    quality = JPEG_QUALITIES[level]
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    tables = [[max(1, (step * percent + 50) // 100) for step in table] for table in standard_tables()]
    return recode(picture, "JPEG", qtables=tables, subsampling="4:2:0")


@cache
def standard_tables() -> tuple[list[int], list[int]]:
    """Return the tables for luminance and chrominance: what libjpeg writes at quality 50, where it scales by 100 %."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=50)
    with Image.open(file) as image:
        tables: dict[int, list[int]] = image.quantization  # type: ignore[attr-defined]
    return list(tables[0]), list(tables[1])


def jpeg2000(picture: Picture, level: int) -> Picture:
    """Compress to the PSNR of the level, over all channels; the rate is found by bisection of its logarithm."""
    low, high = JPEG2000_RATES
    decoded = picture
    for _ in range(SEARCH_STEPS):
        rate = math.sqrt(low * high)
        decoded = recode(picture, "JPEG2000", quality_mode="rates", quality_layers=[rate], irreversible=True)
        error = np.mean((picture.astype(np.float64) - decoded) ** 2)
        if 10 * np.log10(255**2 / error) > JPEG2000_PSNRS[level]:
            low = rate
        else:
            high = rate
    return decoded


def mean_shift(picture: Picture, level: int) -> Picture:
    return to_picture(picture.astype(np.float64) + MEAN_SHIFTS[level])


def contrast_change(picture: Picture, level: int) -> Picture:
    mean = picture.mean()
    return to_picture((picture - mean) * CONTRASTS[level] + mean)


def recode(picture: Picture, form: str, **options: object) -> Picture:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, form, **options)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


NOISE = 1
"""TID2013's number of Gaussian noise, the only one of the seven that is random."""

TYPES: dict[int, tuple[str, Callable[..., Picture]]] = {
    NOISE: ("additive_gaussian_noise", gaussian_noise),
    7: ("quantization_noise", quantization_noise),
    8: ("gaussian_blur", gaussian_blur),
    10: ("jpeg", jpeg),
    11: ("jpeg2000", jpeg2000),
    16: ("mean_shift", mean_shift),
    17: ("contrast_change", contrast_change),
}
"""By TID2013's numbers; the names are those of the reader of TID2013."""


def distort(picture: Picture, photograph: int, kind: int, level: int) -> Picture:
    """Make one image; `level` is 1 to 5."""
    function = TYPES[kind][1]
    if kind == NOISE:
        return function(picture, level - 1, np.random.default_rng(1000 * photograph + 10 * kind + level - 1))
    return function(picture, level - 1)


def read_reference(folder: Path, photograph: int) -> Picture:
    left, top = LEFT_TOP[photograph]
    path = folder / f"kodim{photograph:02d}.png"
    try:
        with Image.open(path) as image:
            crop = np.asarray(image.convert("RGB"))[top : top + HEIGHT, left : left + WIDTH]
    except OSError as error:
        raise SystemExit(f"{path}: cannot be read ({error}); give the folder of the Kodak photographs") from error
    if crop.shape != (HEIGHT, WIDTH, 3):
        raise SystemExit(f"{path}: too small; give Kodak's photographs at their full 768 x 512 pixels")
    return crop


def read_scores(path: Path) -> list[tuple[int, int, int, str]]:
    """Return photograph, type, level and score of each row."""
    rows = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                name = re.fullmatch(r"(?:.*/)?i(\d+)\.\w+", row["reference"], re.IGNORECASE)
                photograph, kind, level = int(name[1]) if name else 0, int(row["type"]), int(row["level"])
                if photograph not in LEFT_TOP or kind not in TYPES or not 1 <= level <= 5:
                    raise SystemExit(f"{path}: {row}: no photograph, type and level that can be made; leave it out")
                rows.append((photograph, kind, level, str(float(row["mos"]))))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise SystemExit(f"{path}: no table with reference, type, level and mos ({error!r}); give one") from error
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True, metavar="KODAK")
    parser.add_argument("--scores", type=Path, required=True, metavar="SCORES.csv")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args()
    scores = read_scores(arguments.scores)
    pictures = {number: read_reference(arguments.photographs, number) for number in sorted({row[0] for row in scores})}
    for folder in ("ref", "dist"):
        (arguments.output / folder).mkdir(parents=True, exist_ok=True)
    for number, picture in pictures.items():
        Image.fromarray(picture).save(arguments.output / f"ref/i{number:02d}.png")
    with (arguments.output / "mos.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["distorted", "reference", "mos", "type"])
        for number, kind, level, mos in scores:
            name = f"dist/i{number:02d}_{kind:02d}_{level}.png"
            Image.fromarray(distort(pictures[number], number, kind, level)).save(arguments.output / name)
            table.writerow([name, f"ref/i{number:02d}.png", mos, TYPES[kind][0]])
    print(f"{len(scores)} distorted images of {len(pictures)} references in {arguments.output}")


if __name__ == "__main__":
    main()
