"""Spatial distortions: pixels and patches out of place, lost resolution, lost levels, blocks of colour.

Counts of patches and blocks are those of KADID-10k, whose pictures have 512 x 384 pixels, whatever the size.
"""

from __future__ import annotations

import cv2
import numpy as np

from .pixels import Image, apply_curve, to_image, to_unit

_JITTER_ROUNDS = 5
_PATCH = 16
_PATCH_REACH = 8
"""Largest displacement of a patch along an axis, in pixels."""
_BLOCK = 32


def jitter(image: Image, deviation: float, rng: np.random.Generator) -> Image:
    """Move every pixel by Gaussian offsets of `deviation` pixels, five times over, with bilinear interpolation."""
    height, width = image.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    pixels = to_unit(image)
    for _ in range(_JITTER_ROUNDS):
        dy, dx = rng.standard_normal((2, height, width), dtype=np.float32) * np.float32(deviation)
        pixels = np.asarray(
            cv2.remap(pixels, columns + dx, rows + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
        )
    return to_image(pixels)


def non_eccentricity_patch(image: Image, count: float, rng: np.random.Generator) -> Image:
    """Copy `count` patches of 16 x 16 pixels (rounded to a whole number) to places at most 8 pixels away."""
    room = np.array(image.shape[:2]) - _PATCH
    # One row of numbers for each patch, so that the same seed at a higher severity adds patches to the milder ones.
    where, move = np.split(rng.random((round(count), 4)), 2, axis=1)
    sources = (where * (room + 1)).astype(int)
    targets = np.clip(sources + (move * (2 * _PATCH_REACH + 1)).astype(int) - _PATCH_REACH, 0, room)
    patched = image.copy()
    for (row, column), (top, left) in zip(sources.tolist(), targets.tolist(), strict=True):
        patched[top : top + _PATCH, left : left + _PATCH] = image[row : row + _PATCH, column : column + _PATCH]
    return patched


def pixelate(image: Image, scale: float) -> Image:
    """Shrink both sides by `scale` and enlarge them again, each time taking the nearest pixel."""
    height, width = image.shape[:2]
    # Not INTER_NEAREST: it rounds positions down both times, which shifts the whole picture.
    nearest = cv2.INTER_NEAREST_EXACT
    small = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=nearest)
    return np.asarray(cv2.resize(small, (width, height), interpolation=nearest), np.uint8)


def quantization(image: Image, levels: float) -> Image:
    """Keep `levels` equally spaced values (rounded to a whole number) in each channel.

    KADID-10k places the thresholds by Otsu's method; uniform ones are our choice, so that a level means the same on
    every picture.
    """
    steps = round(levels)
    return apply_curve(image, np.arange(256) * steps // 256 / (steps - 1))


def color_block(image: Image, count: float, rng: np.random.Generator) -> Image:
    """Paint `count` blocks of 32 x 32 pixels (rounded to a whole number), each in one drawn colour."""
    # One row of numbers for each block, for the reason above.
    where, shade = np.split(rng.random((round(count), 5)), [2], axis=1)
    corners = (where * (np.array(image.shape[:2]) - _BLOCK + 1)).astype(int)
    colors = (shade * 256).astype(np.uint8)
    painted = image.copy()
    for (top, left), color in zip(corners.tolist(), colors, strict=True):
        painted[top : top + _BLOCK, left : left + _BLOCK] = color
    return painted
