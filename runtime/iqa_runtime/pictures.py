"""Pictures that go with scores: their names, and how they are written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import FileError
from iqa_runtime.inputs import absolute_path


def picture_names(images: Sequence[str]) -> list[Path]:
    """Name a PNG for every image, relative to the folder of pictures.

    The folders below the deepest one common to all images are kept, and the suffix too, so that neither ``a/1.jpg`` and
    ``b/1.jpg`` nor ``1.jpg`` and ``1.png`` meet: ``a/1.jpg.png``.
    """
    absolute = [Path(absolute_path(image)) for image in images]
    common = os.path.commonpath([image.parent for image in absolute]) if absolute else ""
    return [image.with_name(f"{image.name}.png").relative_to(common) for image in absolute]


def write_picture(path: Path, rgb: NDArray[np.uint8]) -> None:
    """Write a PNG of H x W x 3 RGB pixels, making its folder if need be.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    import cv2

    _, encoded = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise FileError(f"{path}: cannot write the picture ({error.strerror}); give another folder") from error
