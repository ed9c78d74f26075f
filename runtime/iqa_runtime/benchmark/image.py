"""The image a benchmark scores: one of the user's own, or a synthetic photograph."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from iqa_runtime.contract import Contract
from iqa_runtime.errors import FileError, UsageError

_WIDTH, _HEIGHT = 1920, 1080
_JPEG_QUALITY, _REFERENCE_QUALITY = 90, 98


def encoded_images(contract: Contract, image: Path | None, reference: Path | None) -> tuple[bytes, bytes | None]:
    """Return an image as encoded bytes, and its reference if there is one.

    Parameters
    ----------
    contract
        Of the artefact: whether it needs a reference, and the size of one inside it.
    image
        None for a synthetic photograph, of 1920 x 1080 or the size of the reference inside.
    reference
        What `image` is compared with.

    Raises
    ------
    UsageError
        If there is a reference and no image.
    FileError
        If a file cannot be read.
    """
    if image is not None:
        return _bytes(image), None if reference is None else _bytes(reference)
    if reference is not None:
        raise UsageError(f"{reference}: a reference without an image; give both")
    height, width = contract.image_size or (_HEIGHT, _WIDTH)
    picture = _photograph(height, width)
    other = _jpeg(picture, _REFERENCE_QUALITY) if contract.needs_reference else None
    return _jpeg(picture, _JPEG_QUALITY), other


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot read the image ({error.strerror}); check the path") from error


def _photograph(height: int, width: int) -> NDArray[np.uint8]:
    """Make a picture with structure at every scale, which takes about as long to decode as a photograph."""
    random = np.random.default_rng(0)
    picture = np.full((height, width, 3), 128, np.float32)
    for cell in (256, 64, 16, 4, 1):
        # Amplitudes that fall with the frequency, as those of natural images do.
        size = (math.ceil(height / cell), math.ceil(width / cell), 3)
        noise = random.standard_normal(size, dtype=np.float32) * 4 * cell**0.4
        picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _jpeg(picture: NDArray[np.uint8], quality: int) -> bytes:
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()
