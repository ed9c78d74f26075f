"""Pictures of a report: how large they may be, and what they are encoded as."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.contract import Range
from iqa_runtime.report.heatmaps import colour_scale, coloured
from iqa_runtime.results import Score
from iqa_runtime.scoring.resizing import shrunk

MOST_INSIDE = 2000
"""Images whose pictures are inside the page; those of more lie in a folder beside it."""

_BYTES = 10_400_000
"""Of all pictures of a page, encoded; as text in it they take a third more."""

_SHARED_BESIDE = 1000
"""Images among which they are shared out where they lie beside the page, which does not grow by them."""

_THUMBNAIL = 208
_PICTURE = 800
_MAP = 64
"""Longest sides, in pixels: of a list, of a picture by itself, and of a heat map, which varies slowly."""

_MAP_BYTES = 2_000
"""Of a heat map."""

_THUMBNAIL_DENSITY = 0.13
_PICTURE_DENSITY = 0.2
"""Bytes for each pixel of the square of the longest side: what photographs take, and a half more."""

_QUALITIES = (72, 45)
"""Tried one after another, until it is small enough."""

_SMALLEST = 48
"""Longest side below which nothing is shrunk any further for its size in bytes."""

_NAME = re.compile(r"[0-9a-f]{32}\.webp")

Place = Callable[[bytes, str], str]
"""Puts an encoded picture where the page finds it, and returns its address there; the other argument is its suffix."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What pictures there are of each image of a report, and how large they are.

    WebP takes the fewest bytes and ten times the time of JPEG. So all have a thumbnail in WebP and, where a report has
    so few images that bytes are plenty, a larger picture in JPEG.

    Attributes
    ----------
    thumbnail, thumbnail_bytes
        Longest side in pixels, and the most bytes it takes.
    picture, picture_bytes
        Of the larger picture; 0 where there is none.
    """

    thumbnail: int
    thumbnail_bytes: int
    picture: int
    picture_bytes: int

    @staticmethod
    def of_report(pictures: int, *, inside: bool) -> Sizes:
        """Share out the bytes of a page.

        Parameters
        ----------
        pictures
            Images, references and restored images; only looked at inside.
        inside
            Whether the pictures are inside the page.
        """
        share = _BYTES // (max(1, pictures) if inside else _SHARED_BESIDE) - _MAP_BYTES
        thumbnail = min(_THUMBNAIL, max(_SMALLEST, int((share / _THUMBNAIL_DENSITY) ** 0.5)))
        thumbnail_bytes = min(share, int(2 * _THUMBNAIL_DENSITY * thumbnail**2))
        rest = share - thumbnail_bytes
        picture = min(_PICTURE, int((max(0, rest) / _PICTURE_DENSITY) ** 0.5)) if inside else 0
        if picture < 1.5 * thumbnail:
            return Sizes(thumbnail, max(0, share), 0, 0)
        return Sizes(thumbnail, thumbnail_bytes, picture, rest)

    @property
    def longest(self) -> int:
        """Side, in pixels, that all of them can be made from."""
        return max(self.thumbnail, self.picture)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What can be shown of an image; all of it is optional.

    Attributes
    ----------
    image, reference, restored
        H x W x 3, RGB.
    map
        Quality map, H x W, with the range and the direction of the score it is in.
    """

    image: NDArray[np.uint8] | None = None
    reference: NDArray[np.uint8] | None = None
    restored: NDArray[np.uint8] | None = None
    map: tuple[NDArray[np.float32], Range, bool] | None = None

    @staticmethod
    def of_score(result: Score) -> Looks:
        """Return what a result has."""
        return Looks(
            image=result.preview,
            reference=result.reference_preview,
            restored=result.restored,
            map=None if result.map is None else (result.map, result.range, result.higher_is_better),
        )


def encoded(rgb: NDArray[np.uint8], suffix: str, limit: int) -> bytes:
    """Encode a picture in at most so many bytes: at a lower quality, or smaller, if it takes more.

    Parameters
    ----------
    rgb
        H x W x 3.
    suffix
        ``.webp`` or ``.jpg``.
    limit
        Bytes; a picture of `_SMALLEST` pixels may take more.
    """
    import cv2

    flag = cv2.IMWRITE_WEBP_QUALITY if suffix == ".webp" else cv2.IMWRITE_JPEG_QUALITY
    while True:
        pixels = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        for quality in _QUALITIES:
            _, data = cv2.imencode(suffix, pixels, [flag, quality])
            if data.size <= limit or (max(rgb.shape) <= _SMALLEST and quality == _QUALITIES[-1]):
                return data.tobytes()
        rgb = shrunk(rgb, max(_SMALLEST, int(0.7 * max(rgb.shape))))


def encoded_map(values: NDArray[np.float32], nominal: Range, *, higher_is_better: bool) -> tuple[bytes, float, float]:
    """Encode the colours of a quality map as WebP, to be laid over its image; where it has no value one sees through.

    Returns
    -------
    tuple
        The file, and the values at the worst and the best end of the colours.
    """
    import cv2

    low, high = colour_scale(values, nominal)
    worst, best = (low, high) if higher_is_better else (high, low)
    step = -(-max(values.shape) // _MAP)
    while True:
        colours, known = coloured(values[step // 2 :: step, step // 2 :: step], worst, best)
        pixels = np.dstack([colours, np.where(known, 255, 0).astype(np.uint8)])
        _, data = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, _QUALITIES[0]])
        if data.size <= _MAP_BYTES or max(pixels.shape) <= _SMALLEST:
            return data.tobytes(), worst, best
        step *= 2


def inside(data: bytes, suffix: str) -> str:
    """Put a picture into its own address, as a data URL (RFC 2397)."""
    kind = {".webp": "webp", ".jpg": "jpeg"}[suffix]
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


class Beside:
    """Puts pictures into a folder beside the page, under names that follow from their content.

    So a page that is there already keeps its pictures until the new one has taken its place.

    Parameters
    ----------
    folder
        Made if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: set[str] = set()

    def __call__(self, data: bytes, suffix: str) -> str:
        """Put a picture there, and return its address."""
        from urllib.parse import quote

        name = hashlib.sha256(data).hexdigest()[:32] + suffix
        self._folder.mkdir(exist_ok=True)
        if name not in self._names:
            (self._folder / name).write_bytes(data)
            self._names.add(name)
        return f"{quote(self._folder.name, errors='surrogateescape')}/{name}"

    def remove_others(self) -> None:
        """Remove pictures of an earlier page, and the folder if nothing is left."""
        for path in pictures_beside(self._folder):
            if path.name not in self._names:
                path.unlink(missing_ok=True)
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()


def pictures_beside(folder: Path) -> list[Path]:
    """Return the pictures of a page in the folder beside it, by the form of their names."""
    return [path for path in folder.glob("*.webp") if _NAME.fullmatch(path.name)]
