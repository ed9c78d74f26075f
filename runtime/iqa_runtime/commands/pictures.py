"""Pictures that go with scores: their names, and how they are written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import FileError, ImageError, UsageError, one_line
from iqa_runtime.files.inputs import absolute_path
from iqa_runtime.files.overwriting import write_at_once
from iqa_runtime.images.header import Frame
from iqa_runtime.images.loading import Source, load_image
from iqa_runtime.kernels import resize
from iqa_runtime.report.heatmaps import render_heatmap
from iqa_runtime.results import Score
from iqa_runtime.scoring.time_limits import TimeLimit, interruptible


class PictureWriter:
    """Writes the pictures of one run: heat maps, restored images.

    Parameters
    ----------
    images
        All images of the run; together they decide the names.
    maps, restored
        Folders to write to; None for no such pictures.
    pixel_limit
        Most pixels an image may have: a heat map is laid over it.
    timeout
        Seconds that a heat map may take; None for any time.
    frame
        Which image of several was scored.

    Raises
    ------
    UsageError
        If both folders are the same one.
    """

    def __init__(
        self,
        images: Sequence[str],
        maps: Path | None,
        restored: Path | None,
        *,
        pixel_limit: int,
        timeout: float | None = None,
        frame: Frame | None = None,
    ) -> None:
        if maps and restored and os.path.realpath(maps) == os.path.realpath(restored):
            raise UsageError(f"--maps and --restored: both write the same names to {maps}; give two folders")
        self._maps, self._restored = maps, restored
        self._pixel_limit, self._frame = pixel_limit, frame
        self._limit = None if timeout is None else TimeLimit(timeout)
        self._names = dict(zip(images, picture_names(images), strict=True)) if maps or restored else {}

    def paths(self, images: Sequence[str]) -> Iterator[tuple[str, Path]]:
        """Yield the option that wants it and the path of every picture these images may get."""
        for option, folder in (("--maps", self._maps), ("--restored", self._restored)):
            if folder:
                yield from ((option, folder / self._names[image]) for image in images)

    def write(self, image: str, source: Source, result: Score) -> str | None:
        """Write what there is of one image.

        Parameters
        ----------
        image
            Its name, one of `images`.
        source
            Where it is read from.
        result
            Its score.

        Returns
        -------
        str or None
            Why there is no heat map though there is a score: the file is read again for it, and may be gone by then.

        Raises
        ------
        FileError
            If a picture cannot be written.
        """
        complaint = None
        if self._maps and result.map is not None:
            draw = partial(self._heatmap, source, result.map, result)
            try:
                heatmap = interruptible(draw) if self._limit is None else self._limit.call(draw)
            except (FileError, ImageError, UsageError, MemoryError, TimeoutError) as error:
                complaint = f"{image}: it has a score and no heat map: {one_line(error)}"
            else:
                write_png(self._maps / self._names[image], heatmap)
        if self._restored and result.restored is not None:
            write_png(self._restored / self._names[image], interruptible(partial(encode_png, result.restored)))
        return complaint

    def _heatmap(self, source: Source, values: NDArray[np.float32], result: Score) -> bytes:
        pixels = load_image(source, pixel_limit=self._pixel_limit, frame=self._frame)
        if pixels.shape[:2] != (result.height, result.width):
            raise ImageError("another picture since it was scored; score it again")
        # Where the artefact resizes, the map is of the resized picture.
        pixels = resize(pixels, (values.shape[0], values.shape[1]))
        return encode_png(render_heatmap(pixels, values, result.range, higher_is_better=result.higher_is_better))


def picture_names(images: Sequence[str]) -> list[Path]:
    """Name a PNG for every image, relative to the folder of pictures.

    The folders below the deepest one common to all images are kept, and the suffix too, so that neither ``a/1.jpg`` and
    ``b/1.jpg`` nor ``1.jpg`` and ``1.png`` meet: ``a/1.jpg.png``.
    """
    absolute = [Path(absolute_path(image)) for image in images]
    common = os.path.commonpath([image.parent for image in absolute]) if absolute else ""
    return [image.with_name(f"{image.name}.png").relative_to(common) for image in absolute]


def encode_png(rgb: NDArray[np.uint8]) -> bytes:
    """Encode H x W x 3 RGB pixels as PNG."""
    import cv2

    _, encoded = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()


def write_png(path: Path, content: bytes) -> None:
    """Write a picture whole or not at all, making its folder if need be.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path}: cannot write the picture ({error.strerror}); give another folder") from error
    write_at_once(path, content)
