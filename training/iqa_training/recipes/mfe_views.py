"""The examples of MFE-Net's contrastive stage: a degraded picture in two sizes and colour spaces, and its class."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from iqa_export.models.mfe import DISTORTIONS as NAMES
from iqa_training.crops import Picture, random_crop
from iqa_training.distortions import DISTORTIONS, KADID_NUMBER, MAX_STEPS, Step

ColorSpace = Literal["rgb", "gray", "lab", "hsv", "mean_subtracted"]
_WINDOW = 7
"""Side and, as a multiple of the standard deviation, width of the window of the local mean, as in BRISQUE."""
_SIGMA = _WINDOW / 6
_MIDDLE = 128
_LEAST_SEVERITY = 1.0
"""From which on a distortion has a name: the mildest level of KADID-10k, below which its effect fades to none."""
_WITHOUT_EFFECT = ("gaussian_blur", "motion_blur", "color_saturation_2", "mean_shift")
"""Types that do nothing at that level."""
_LEAST_OF_THESE = 1.5
_NAME_OF_GROUP = {"brightness": "exposure"}


def distortion_class(steps: tuple[Step, ...], *, levels: bool) -> NDArray[np.uint8]:
    """Return what equals for degradations of the same class.

    Parameters
    ----------
    steps
        None at all for a pristine picture, which is a class too.
    levels
        Whether other levels of the same distortions are another class.

    Returns
    -------
    numpy.ndarray
        uint8, 4 x 2: number and level of each distortion in order, zero for none.
    """
    code = np.zeros((MAX_STEPS, 2), np.uint8)
    for row, step in zip(code, steps, strict=False):
        row[:] = KADID_NUMBER[step.name], round(step.severity) if levels else 0
    return code


def names_of(steps: tuple[Step, ...]) -> NDArray[np.uint8]:
    """Return which names fit what was done to a picture.

    Parameters
    ----------
    steps
        None at all for a pristine picture.

    Returns
    -------
    numpy.ndarray
        uint8, (8,), in the order of `iqa_export.models.mfe.DISTORTIONS`: 1 for the group of each step that shows, and
        for ``none`` where none does.
    """
    groups = {
        DISTORTIONS[step.name].group
        for step in steps
        if step.severity >= (_LEAST_OF_THESE if step.name in _WITHOUT_EFFECT else _LEAST_SEVERITY)
    }
    names = {_NAME_OF_GROUP.get(group, group) for group in groups} or {"none"}
    return np.array([name in names for name in NAMES], np.uint8)


def two_views(
    picture: Picture, crop: int, color_spaces: tuple[ColorSpace, ...], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Cut a crop out of a picture and one out of its half, each in a colour space and flipped half of the time.

    Parameters
    ----------
    picture
        uint8, H x W x 3, RGB.
    crop
        Side of a crop, pixels; where a picture is smaller, zeros surround it.
    color_spaces
        Those to draw from.
    rng
        Draws all of that.

    Returns
    -------
    numpy.ndarray
        uint8, 2 x 3 x crop x crop.
    """
    height, width = picture.shape[:2]
    half = cv2.resize(picture, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)
    views = []
    for scaled in (picture, half):
        converted = to_color_space(np.asarray(scaled, np.uint8), color_spaces[rng.integers(len(color_spaces))])
        views += random_crop([_pad(converted, crop)], crop, rng)
    return np.stack(views)


def to_color_space(picture: Picture, space: ColorSpace) -> Picture:
    """Convert RGB to a colour space, uint8 H x W x 3 both; the hue takes the whole range, a middle of 128 is neutral.

    ``mean_subtracted`` is the difference to the mean under a Gaussian window, channel by channel, and 128. CONTRIQUE
    stretches it from its minimum to its maximum; here how strong the difference is can be seen (our choice).
    """
    if space == "gray":
        return np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[:, :, None], 3, 2).astype(np.uint8)
    if space == "lab":
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2LAB), np.uint8)
    if space == "hsv":
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV_FULL), np.uint8)
    if space == "mean_subtracted":
        mean = cv2.GaussianBlur(picture, (_WINDOW, _WINDOW), _SIGMA)
        return np.asarray(cv2.addWeighted(picture, 1, mean, -1, _MIDDLE), np.uint8)
    return picture


def _pad(picture: Picture, side: int) -> Picture:
    height, width = (max(0, side - length) for length in picture.shape[:2])
    edges = ((height // 2, height - height // 2), (width // 2, width - width // 2), (0, 0))
    return np.pad(picture, edges)
