"""Graded degradations, so that a calibration set holds bad images too and a gate can tell whether ranking survives.

Four kinds that every quality metric has to order, each in four steps from just visible to severe. The steps are our
choice: each about doubles the one before it.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import UsageError

LEVELS = 4
"""Steps of every ladder; level 0 is the image itself."""

_BLUR_SIGMA = (0.7, 1.4, 2.8, 5.6)
"""Standard deviation of the Gaussian, in pixels."""

_NOISE_DEVIATION = (5.0, 10.0, 20.0, 40.0)
"""Standard deviation of the white noise, in 8-bit steps."""

_JPEG_QUALITY = (60, 30, 15, 7)

_DOWNSCALING = (1.5, 2.5, 4.0, 6.0)
"""Factor by which both sides shrink before the image is enlarged again."""


def _blur(image: NDArray[np.uint8], level: int, seed: int) -> NDArray[np.uint8]:  # noqa: ARG001 - one signature for all
    """Convolve with a Gaussian."""
    sigma = _BLUR_SIGMA[level - 1]
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), np.uint8)


def _noise(image: NDArray[np.uint8], level: int, seed: int) -> NDArray[np.uint8]:
    """Add white Gaussian noise, independent in each channel."""
    # RandomState, because NumPy promises to keep its stream for ever.
    noise = np.random.RandomState(seed).standard_normal(image.shape) * _NOISE_DEVIATION[level - 1]
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def _jpeg(image: NDArray[np.uint8], level: int, seed: int) -> NDArray[np.uint8]:  # noqa: ARG001
    """Compress as JPEG and decode again."""
    swapped = np.ascontiguousarray(image[..., ::-1])
    _, data = cv2.imencode(".jpg", swapped, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY[level - 1]])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


def _downscaling(image: NDArray[np.uint8], level: int, seed: int) -> NDArray[np.uint8]:  # noqa: ARG001
    """Shrink by area averaging and enlarge bicubically."""
    height, width = image.shape[:2]
    factor = _DOWNSCALING[level - 1]
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


_KINDS: dict[str, Callable[[NDArray[np.uint8], int, int], NDArray[np.uint8]]] = {
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "downscaling": _downscaling,
}

KINDS = tuple(_KINDS)
"""Names of the ladders."""


def degrade(image: NDArray[np.uint8], kind: str, level: int, *, seed: int) -> NDArray[np.uint8]:
    """Degrade an image.

    Parameters
    ----------
    image
        H x W x 3, RGB.
    kind
        One of `KINDS`.
    level
        0 (the image as it is) to `LEVELS`.
    seed
        Of the noise; the other kinds have no randomness.

    Returns
    -------
    numpy.ndarray
        uint8, of the shape of `image`; the same arguments give the same pixels.

    Raises
    ------
    UsageError
        If kind or level is none of those.
    """
    if kind not in _KINDS:
        raise UsageError(f"degradation {kind!r}: choose one of {', '.join(KINDS)}")
    if not 0 <= level <= LEVELS:
        raise UsageError(f"degradation {kind!r}, level {level}: choose 0 to {LEVELS}")
    return image if level == 0 else _KINDS[kind](image, level, seed)
