"""Folders of photographs to score: those of the package, enlarged to camera sizes, with grain.

The grain makes files about as large, and as slow to decode, as photographs of that size: an enlarged picture alone has
no detail that JPEG would have to store.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SOURCES = Path(__file__).parents[2] / "calibration" / "iqa_calibration" / "photographs"

LONG_SIDES = (640, 640, 1024, 1024, 1280, 1920, 1920, 2560, 4000, 6000)
"""Pixels of the longer side, in turn: from the web's sizes to 24 megapixels, small ones more often."""

PHONE_SIDE = 4240
"""Pixels of the longer side of 12 megapixels, of 3:2."""

_LONGEST_PNG = 1920
_PNG_EVERY = 3
_JPEG_QUALITY = 90
_GRAIN = 4.0
_GRAIN_SIDE = 512


def make_photographs(folder: Path, count: int, long_sides: tuple[int, ...] = LONG_SIDES) -> list[Path]:
    """Write photographs into a folder, unless they are there, and return their paths in the order of the turns.

    Parameters
    ----------
    folder
        Made if it is missing.
    count
        Of photographs.
    long_sides
        Pixels of the longer side, in turn; every third one up to 1920 is a PNG, the others are JPEGs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources = [_read(path) for path in sorted(SOURCES.glob("*.jpg"))]
    grain = _make_grain()
    paths = []
    for index in range(count):
        side = long_sides[index % len(long_sides)]
        suffix = ".png" if index % _PNG_EVERY == 0 and side <= _LONGEST_PNG else ".jpg"
        path = folder / f"{index:04d}_{side}{suffix}"
        paths.append(path)
        if path.exists():
            continue
        picture = _enlarge(sources[index % len(sources)], side, np.roll(grain, 37 * index, (0, 1)))
        settings = [] if suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        _, encoded = cv2.imencode(suffix, picture, settings)
        # In one step, so that an interrupted run leaves no half of a file to be scored by the next.
        unfinished = path.with_suffix(".part")
        unfinished.write_bytes(encoded.tobytes())
        unfinished.replace(path)
    return paths


def make_pixels(side: int) -> NDArray[np.uint8]:
    """Return one of the photographs, `side` pixels in its longer side, RGB."""
    return np.ascontiguousarray(_enlarge(_read(sorted(SOURCES.glob("*.jpg"))[-1]), side, _make_grain())[..., ::-1])


def link_photographs(folder: Path, photographs: list[Path], count: int) -> list[Path]:
    """Fill a folder with hard links to some photographs, again and again under new names."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(count):
        original = photographs[index % len(photographs)]
        path = folder / f"{index:05d}{original.suffix}"
        if not path.exists():
            os.link(original, path)
        paths.append(path)
    return paths


def _make_grain() -> NDArray[np.int8]:
    return np.random.default_rng(0).normal(0, _GRAIN, (_GRAIN_SIDE, _GRAIN_SIDE, 3)).astype(np.int8)


def _read(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path))
    if picture is None:
        raise FileNotFoundError(f"{path}: not there or no image; it is part of the checkout")
    return np.asarray(picture, np.uint8)


def _enlarge(picture: NDArray[np.uint8], side: int, grain: NDArray[np.int8]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = (round(width * scale), round(height * scale))
    enlarged = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
    tiles = (-(-size[1] // _GRAIN_SIDE), -(-size[0] // _GRAIN_SIDE), 1)
    noise = np.tile(grain, tiles)[: size[1], : size[0]]
    return np.asarray(cv2.add(enlarged, noise, dtype=cv2.CV_8U), np.uint8)
