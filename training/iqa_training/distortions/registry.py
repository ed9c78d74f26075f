"""The 25 distortions of KADID-10k and one of ours by name, their levels, and `distort`, which applies one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

import cv2
import numpy as np

from iqa_runtime.errors import ImageError, UsageError

from .blur import gaussian_blur, lens_blur, motion_blur
from .brightness import brighten, darken, mean_shift
from .color import color_diffusion, color_quantization, color_saturation_1, color_saturation_2, color_shift
from .compression import jpeg, jpeg2000
from .contrast import NEUTRAL_CONTRAST, contrast_change, contrast_scaling, high_sharpen
from .noise import color_component_noise, denoise, impulse_noise, multiplicative_noise, white_noise
from .pixels import Image
from .severity import LEVELS, Levels, TwoSidedLevels
from .spatial import color_block, jitter, non_eccentricity_patch, pixelate, quantization

MIN_SIDE = 32
"""Smallest height and width of a picture in pixels: the side of the blocks that `color_block` paints."""


@dataclass(frozen=True)
class Distortion:
    """One of the types.

    Attributes
    ----------
    group
        Its group, a key of `GROUPS`.
    apply
        The function: picture and parameter, for a random type also the generator, to picture.
    levels
        The parameter at each severity.
    random
        Whether the function draws random numbers.
    """

    group: str
    apply: Callable[..., Image]
    levels: Levels | TwoSidedLevels
    random: bool = False


_PIXELATE_SCALES = (0.95 - 0.01**0.6, 0.95 - 0.05**0.6, 0.95 - 0.1**0.6, 0.95 - 0.2**0.6, 0.95 - 0.5**0.6)
"""0.95 - strength**0.6, as in KADID-10k, for its strengths."""


# In the order of KADID-10k, whose numbers the types have. The levels are those of its generator, in the order of the
# mild-to-strong table of ARNIQA (Agnolucci et al., WACV 2024) where the two differ: 9, 18 and 25.
DISTORTIONS: dict[str, Distortion] = {
    "gaussian_blur": Distortion("blur", gaussian_blur, Levels((0.1, 0.5, 1, 2, 5), 0, geometric=True)),
    "lens_blur": Distortion("blur", lens_blur, Levels((1, 2, 4, 6, 8), 0)),
    "motion_blur": Distortion("blur", motion_blur, Levels((1, 2, 4, 6, 10), 1), random=True),
    "color_diffusion": Distortion("color", color_diffusion, Levels((1, 3, 6, 8, 12), None)),
    "color_shift": Distortion("color", color_shift, Levels((1, 3, 6, 8, 12), 0), random=True),
    "color_quantization": Distortion("color", color_quantization, Levels((64, 48, 32, 16, 8), None, geometric=True)),
    "color_saturation_1": Distortion("color", color_saturation_1, Levels((0.4, 0.2, 0.1, 0, -0.4), 1)),
    "color_saturation_2": Distortion("color", color_saturation_2, Levels((1, 2, 3, 6, 9), 1)),
    "jpeg2000": Distortion("compression", jpeg2000, Levels((16, 32, 45, 120, 170), 1, geometric=True)),
    "jpeg": Distortion("compression", jpeg, Levels((43, 36, 24, 7, 4), 100)),
    "white_noise": Distortion(
        "noise", white_noise, Levels((0.001, 0.002, 0.003, 0.005, 0.01), 0, geometric=True), random=True
    ),
    "color_component_noise": Distortion(
        "noise", color_component_noise, Levels((0.0001, 0.0005, 0.001, 0.002, 0.003), 0, geometric=True), random=True
    ),
    "impulse_noise": Distortion(
        "noise", impulse_noise, Levels((0.001, 0.005, 0.01, 0.02, 0.03), 0, geometric=True), random=True
    ),
    "multiplicative_noise": Distortion(
        "noise", multiplicative_noise, Levels((0.001, 0.005, 0.01, 0.02, 0.05), 0, geometric=True), random=True
    ),
    "denoise": Distortion("noise", denoise, Levels((0.01, 0.03, 0.05, 0.1, 0.15), 0, geometric=True), random=True),
    "brighten": Distortion("brightness", brighten, Levels((0.1, 0.2, 0.4, 0.7, 1.1), 0)),
    "darken": Distortion("brightness", darken, Levels((0.05, 0.1, 0.2, 0.4, 0.8), 0)),
    "mean_shift": Distortion("brightness", mean_shift, TwoSidedLevels((0, 0.08, -0.08, 0.15, -0.15), 0)),
    "jitter": Distortion("spatial", jitter, Levels((0.05, 0.1, 0.2, 0.5, 1), 0, geometric=True), random=True),
    "non_eccentricity_patch": Distortion(
        "spatial", non_eccentricity_patch, Levels((20, 40, 60, 80, 100), 0), random=True
    ),
    "pixelate": Distortion("spatial", pixelate, Levels(_PIXELATE_SCALES, 1)),
    "quantization": Distortion("spatial", quantization, Levels((20, 16, 13, 10, 7), 256, geometric=True)),
    "color_block": Distortion("spatial", color_block, Levels((2, 4, 6, 8, 10), 0), random=True),
    "high_sharpen": Distortion("contrast", high_sharpen, Levels((1, 2, 3, 6, 12), 0)),
    "contrast_change": Distortion(
        "contrast", contrast_change, TwoSidedLevels((0, 0.15, -0.4, 0.3, -0.6), NEUTRAL_CONTRAST)
    ),
    "contrast_scaling": Distortion("contrast", contrast_scaling, TwoSidedLevels((0.15, -0.25, 0.4, -0.6, -1.2), 0)),
}

OWN_TYPES: tuple[str, ...] = ("contrast_scaling",)
"""Types beyond KADID-10k's, with levels of our choice. Curves there keep black and white where they are, but a display,
a limited-range mistake or a fade scales the whole range."""

TYPES: tuple[str, ...] = tuple(name for name in DISTORTIONS if name not in OWN_TYPES)
"""The names of the 25 types of KADID-10k, in its order."""

KADID_NUMBER: dict[str, int] = {name: number for number, name in enumerate(TYPES, 1)}
"""The number, 1 to 25, that KADID-10k gives each type in its file names."""

GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(name for name in TYPES if DISTORTIONS[name].group == group)
    for group in dict.fromkeys(distortion.group for distortion in DISTORTIONS.values())
}
"""The types in each of the seven groups of KADID-10k."""


def distort(image: Image, name: str, severity: float, rng: np.random.Generator) -> Image:
    """Distort a picture.

    Parameters
    ----------
    image
        uint8, H x W x 3, RGB, both sides at least 32 pixels. It is not changed.
    name
        One of `TYPES` or `OWN_TYPES`.
    severity
        In (0, 5]. The whole numbers 1 to 5 are the levels of KADID-10k, or ours; between them the parameter is
        interpolated, and below 1 it runs from no effect to level 1. Level 1 of `gaussian_blur`, `motion_blur`,
        `color_saturation_2` and `mean_shift` has no effect in the table either.
    rng
        Used by the random types (blur direction, noise, places), and by `mean_shift`, `contrast_change` and
        `contrast_scaling` for the direction at severities that are no whole level. The same state gives the same
        picture.

    Returns
    -------
    numpy.ndarray
        uint8, as large as `image`, an array of its own.

    Raises
    ------
    ImageError
        If the picture has another type, shape or too small a size.
    UsageError
        If there is no such type, or the severity is out of range.
    """
    check_step(name, severity)
    _check_image(image)
    distortion = DISTORTIONS[name]
    levels = distortion.levels
    value = levels.value(severity, rng)
    if value == levels.neutral:
        return image.copy()
    contiguous = np.ascontiguousarray(image)
    distorted = distortion.apply(contiguous, value, rng) if distortion.random else distortion.apply(contiguous, value)
    if levels.neutral is None and severity < 1:
        return np.asarray(cv2.addWeighted(distorted, severity, contiguous, 1 - severity, 0), np.uint8)
    return distorted


def check_step(name: str, severity: float) -> None:
    """Refuse an unknown type and a severity out of range.

    Raises
    ------
    UsageError
        If there is no such type, or the severity is not in (0, 5].
    """
    if name not in DISTORTIONS:
        close = get_close_matches(name, DISTORTIONS)
        hint = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(DISTORTIONS)}"
        raise UsageError(f"no distortion is called {name!r}: {hint}")
    if not 0 < severity <= LEVELS:
        raise UsageError(f"severity of {name} is {severity}: it must be above 0 and at most {LEVELS}")


def _check_image(image: Image) -> None:
    if not isinstance(image, np.ndarray):
        raise ImageError(f"image is a {type(image).__name__}: pass a uint8 array of shape (height, width, 3), RGB")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"image is {image.dtype} of shape {image.shape}: pass uint8 of shape (height, width, 3), RGB")
    if min(image.shape[:2]) < MIN_SIDE:
        height, width = image.shape[:2]
        raise ImageError(
            f"image is {width} x {height} pixels: both sides must have at least {MIN_SIDE}; enlarge it first"
        )
