"""Facts that are measured in a picture, whatever the artefact: sharpness, noise, blocks, clipped tones and size.

They say what may be wrong with a picture, not how good it is, and no score depends on them. ``benchmarks/measures.py``
measures how often the thresholds are right; ``docs/measures.md`` has its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.images.header import Frame
from iqa_runtime.images.loading import DEFAULT_PIXEL_LIMIT, LoadedImage, Source, load_with_color
from iqa_runtime.kernels import resize

MEASURED = ("sharpness", "noise", "blockiness", "jpeg_quality", "overexposed", "underexposed")
"""What rows have of `Measures`; width and height are there anyway."""

SIDE, LONGEST = 512, 4096
"""Pixels of the shorter and at most of the longer side that larger pictures are shrunk to (bicubic, antialiased) before
they are measured, but for blocks: a photograph of 12 megapixels and its copy of one then agree."""

BLUR_BELOW = 0.53
NOISE_ABOVE = 3.5
BLOCKS_ABOVE = 1.0
QUALITY_BELOW = 50
WHITE_ABOVE, BLACK_ABOVE = 0.05, 0.1
SMALL_BELOW = 224
"""Thresholds of `Measures.reasons`. About one in twenty undistorted photographs is below the first, and above the
second; a step of a level is what libjpeg leaves at a quality of 60 to 75; below 50 its rule makes tables coarser than
the standard's own; 224 is the side of the crops that most networks take."""

_REACH = 6
_STRONG, _LEAST_CHANGE, _ENOUGH_CHANGE = 90, 8, 32
_EDGE_TILE, _LEAST_STRONG, _SHARPEST = 32, 0.02, 90
_TILE, _LEAST_TILES, _QUIET = 16, 8, 10
_WHITE_FROM, _BLACK_TO, _CLIPPED_OF_TILE = 252, 3, 0.05
_BLOCK, _LARGEST_STEP, _LEAST_SIDE = 8, 32, 32
_BAND = 1 << 20

_LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
"""Quantisation of luminance by rows (ITU-T T.81, table K.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What was measured in one picture; `SIDE` says at which size.

    Attributes
    ----------
    width, height
        Of the picture, upright, in pixels.
    sharpness
        1/6 to 1: of the changes over six pixels at edges, the share between two neighbours, where the picture is
        sharpest; the less of both directions. An edge that is one step has 1, an even ramp 1/6. None where no edge
        has 8 levels.
    noise
        Standard deviation of the noise in luminance, in levels of 255. None where too little of the picture is neither
        black nor white.
    blockiness
        How much larger steps across the edges of 8 x 8 blocks are than those beside them, in levels of 255, at the
        picture's own size. None for pictures of less than 32 pixels a side.
    jpeg_quality
        Of a JPEG file, 1 to 100: the quality setting of libjpeg whose table comes nearest to that of the file. It is of
        the last time that the file was saved. None for other files and for pixels.
    overexposed, underexposed
        Share of the picture that is white (luminance of at least 252) or black (at most 3), 0 to 1.
    """

    width: int
    height: int
    sharpness: float | None
    noise: float | None
    blockiness: float | None
    jpeg_quality: int | None
    overexposed: float
    underexposed: float

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is beyond its threshold: ``blur noise compression overexposed underexposed small``, in this order.

        The first three words are those of artefacts that name what was done to a picture, and mean the same.
        """
        blocks = self.blockiness is not None and self.blockiness > BLOCKS_ABOVE
        found = {
            "blur": self.sharpness is not None and self.sharpness < BLUR_BELOW,
            "noise": self.noise is not None and self.noise > NOISE_ABOVE,
            "compression": blocks or (self.jpeg_quality is not None and self.jpeg_quality < QUALITY_BELOW),
            "overexposed": self.overexposed > WHITE_ABOVE,
            "underexposed": self.underexposed > BLACK_ABOVE,
            "small": min(self.width, self.height) < SMALL_BELOW,
        }
        return tuple(name for name, holds in found.items() if holds)

    def row(self) -> dict[str, float | int | None]:
        """Return `MEASURED` as plain values, to four decimals."""
        return {name: None if (value := getattr(self, name)) is None else round(value, 4) for name in MEASURED}


def measure(image: Source, *, pixel_limit: int = DEFAULT_PIXEL_LIMIT, frame: Frame | None = None) -> Measures:
    """Measure one picture, in sRGB.

    Parameters
    ----------
    image, pixel_limit, frame
        As in `iqa_runtime.images.loading.load_image`.

    Returns
    -------
    Measures
        The same for the same file on every host with the same OpenCV.

    Raises
    ------
    FileError, ImageError, UsageError
        As `iqa_runtime.images.loading.load_image`.
    """
    return measures_of(load_with_color(image, pixel_limit=pixel_limit, frame=frame))


def measures_of(loaded: LoadedImage) -> Measures:
    """Measure a picture that was loaded whole and in sRGB."""
    import cv2

    pixels, size = loaded.pixels, (loaded.height, loaded.width)
    factor = min(SIDE / min(size), LONGEST / max(size))
    if factor < 1:
        height, width = (max(round(side * factor), 1) for side in size)
        pixels = resize(pixels, (height, width))
    luma: NDArray[Any] = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    white, black = luma >= _WHITE_FROM, luma <= _BLACK_TO
    return Measures(
        width=loaded.width,
        height=loaded.height,
        sharpness=sharpness(luma),
        noise=noise(luma, white | black),
        blockiness=blockiness(loaded.pixels),
        jpeg_quality=None if loaded.quantisation is None else jpeg_quality(loaded.quantisation),
        overexposed=float(white.mean()),
        underexposed=float(black.mean()),
    )


def mean_of(frames: Sequence[Measures]) -> Measures | None:
    """Return the mean of each measure over the frames of a video, and the least size; None without any."""
    if not frames:
        return None
    means: dict[str, Any] = {}
    for name in MEASURED:
        known = [value for frame in frames if (value := getattr(frame, name)) is not None]
        means[name] = math.fsum(known) / len(known) if known else None
    width, height = min(frame.width for frame in frames), min(frame.height for frame in frames)
    return Measures(width=width, height=height, **means)


def sharpness(luma: NDArray[np.uint8]) -> float | None:
    """Measure how steep edges are where the picture is sharpest.

    The width of edges tells blur from a soft subject (Marziliano, Dufaux, Winkler and Ebrahimi, ICIP 2002). Here
    no edge is followed to its ends: of each strong change over six pixels, the largest step between neighbours in it is
    taken. Contrast cancels. The mean over tiles of 32 x 32 pixels, and of these the 90th percentile, because a
    photograph may be out of focus but for its subject, and nothing in a blurred one is sharp. Ours.
    """
    found = [share for lines in (luma, luma.T) if (share := _steepness(lines.astype(np.int16))) is not None]
    return min(found, default=None)


def _steepness(lines: NDArray[np.int16]) -> float | None:
    if lines.shape[1] <= _REACH:
        return None
    changes = np.abs(lines[:, _REACH:] - lines[:, :-_REACH])
    steps = np.abs(np.diff(lines, axis=1))
    count = changes.shape[1]
    largest = steps[:, :count].copy()
    for start in range(1, _REACH):
        np.maximum(largest, steps[:, start : start + count], out=largest)
    # In a picture of little contrast, its own strongest changes.
    strong = changes >= np.clip(np.percentile(changes, _STRONG), _LEAST_CHANGE, _ENOUGH_CHANGE)
    shares = np.where(strong, np.minimum(largest / np.maximum(changes, 1), 1.0), 0.0)
    found, total = _tile_means(strong, _EDGE_TILE), _tile_means(shares, _EDGE_TILE)
    enough = found >= _LEAST_STRONG
    return float(np.percentile(total[enough] / found[enough], _SHARPEST)) if enough.any() else None


def noise(luma: NDArray[np.uint8], clipped: NDArray[np.bool_]) -> float | None:
    """Estimate the standard deviation of noise.

    Immerkaer's mask cancels flat and sloping areas, and its mean magnitude gives the deviation of Gaussian noise
    (Computer Vision and Image Understanding 64, 1996). Texture passes it, too, so tiles of 16 x 16 pixels are taken,
    and the 10th percentile of theirs; tiles with more than a twentieth of their pixels clipped hide noise and are left
    out.
    """
    import cv2

    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    passed: NDArray[Any] = np.abs(cv2.filter2D(luma, cv2.CV_16S, mask))[1:-1, 1:-1]
    free = _tile_means(clipped[1:-1, 1:-1], _TILE) < _CLIPPED_OF_TILE
    if free.sum() < _LEAST_TILES:
        return None
    quiet = float(np.percentile(_tile_means(passed, _TILE)[free], _QUIET))
    return min(math.sqrt(math.pi / 2) / 6 * quiet, 255.0)


def _tile_means(values: NDArray[Any], side: int) -> NDArray[np.float64]:
    """Return the means of square tiles; what is left over at the right and below counts for nothing."""
    rows, columns = values.shape[0] // side, values.shape[1] // side
    tiles = values[: rows * side, : columns * side].reshape(rows, side, columns, side)
    means: NDArray[np.float64] = tiles.mean(axis=(1, 3), dtype=np.float64)
    return means


def blockiness(pixels: NDArray[np.uint8]) -> float | None:
    """Measure the edges of blocks.

    Steps across the edges of blocks against those beside them (Wang, Sheikh and Bovik, ICIP 2002), in both directions
    apart, the less of them, because a picture of stripes has one. The grid may begin anywhere, as in a picture that was
    cropped: the strongest of its eight places counts. Steps count for 32 levels at most, so that the edges of things
    weigh little.

    Parameters
    ----------
    pixels
        H x W x 3, RGB.
    """
    import cv2

    height, width = pixels.shape[:2]
    if min(height, width) < _LEAST_SIDE:
        return None
    across, down = np.zeros(width - 1, np.int64), np.zeros(height - 1, np.int64)
    rows = max(_BAND // width, 1)
    for top in range(0, height, rows):
        luma: NDArray[Any] = cv2.cvtColor(pixels[top : top + rows + 1], cv2.COLOR_RGB2GRAY)
        own = luma[:rows]
        across += np.minimum(cv2.absdiff(own[:, 1:], own[:, :-1]), _LARGEST_STEP).sum(axis=0, dtype=np.int64)
        if len(luma) > 1:
            below = np.minimum(cv2.absdiff(luma[1:], luma[:-1]), _LARGEST_STEP)
            down[top : top + len(below)] = below.sum(axis=1, dtype=np.int64)
    return max(min(_periodic_excess(across / height), _periodic_excess(down / width)), 0.0)


def _periodic_excess(steps: NDArray[np.float64]) -> float:
    excess = steps[1:-1] - (steps[:-2] + steps[2:]) / 2
    return max(float(excess[place::_BLOCK].mean()) for place in range(_BLOCK))


def jpeg_quality(steps: Sequence[int]) -> int:
    """Return the quality, 1 to 100, whose scaled table K.1 comes nearest to one of 64 steps in zigzag order.

    The Independent JPEG Group's rule scales the table of the standard by 5000 / q percent below 50, by 200 - 2 q from
    50 on, and rounds; nearest by least squares, so that tables of other makers have the quality they are most like.
    """
    distances = ((_tables() - np.minimum(np.array(steps, np.int64), 255)) ** 2).sum(axis=1)
    return 100 - int(distances[::-1].argmin())


@lru_cache(maxsize=1)
def _tables() -> NDArray[np.int64]:
    """Return the tables of qualities 1 to 100, in zigzag order."""
    places = [(row, column) for row in range(8) for column in range(8)]
    # Along each diagonal in turn, upwards on even ones.
    places.sort(key=lambda place: (sum(place), place[0] if sum(place) % 2 else place[1]))
    standard = np.array([_LUMINANCE[8 * row + column] for row, column in places], np.int64)
    qualities = np.arange(1, 101)
    scales = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    tables: NDArray[np.int64] = np.clip((standard * scales[:, None] + 50) // 100, 1, 255)
    return tables
