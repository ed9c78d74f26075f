"""Colour: diffusion, displacement, quantisation and saturation."""

from __future__ import annotations

from math import ceil, cos, pi, sin

import cv2
import numpy as np
import PIL.Image

from .pixels import Image, from_lab, to_image, to_lab, to_unit

_EDGE_SIGMA = 4
"""Standard deviation, in pixels, of the Gaussian that widens edges in `color_shift`; as in KADID-10k."""


def color_diffusion(image: Image, amount: float) -> Image:
    """Blur a and b of CIE L*a*b* with a sigma of 1.5 `amount` + 2 pixels, and multiply them by `amount`."""
    lab = to_lab(image)
    sigma = 1.5 * amount + 2
    size = 2 * ceil(2 * sigma) + 1
    chroma = cv2.GaussianBlur(lab[..., 1:], (size, size), sigma, borderType=cv2.BORDER_REPLICATE)
    lab[..., 1:] = amount * np.asarray(chroma)
    return from_lab(lab)


def color_shift(image: Image, distance: float, rng: np.random.Generator) -> Image:
    """Move the green channel by `distance` pixels in a drawn direction, near edges only.

    The weight of the moved channel is the blurred gradient of the luma, stretched so that its 1st and 99th percentiles
    become 0 and 1. KADID-10k rounds the move to whole pixels; here it is exact, so that the severity is continuous.
    """
    height, width = image.shape[:2]
    pixels = to_unit(image)
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    gradient = np.hypot(cv2.Sobel(luma, -1, 1, 0, ksize=1), cv2.Sobel(luma, -1, 0, 1, ksize=1))
    edges = np.asarray(cv2.GaussianBlur(gradient, (0, 0), _EDGE_SIGMA, borderType=cv2.BORDER_REPLICATE), np.float32)
    low, high = np.percentile(edges, (1, 99))
    if low == high:
        return image.copy()  # no edges, nothing to see of the move
    weight = np.clip((edges - low) / (high - low), 0, 1)
    angle = rng.uniform(0, 2 * pi)
    move = np.array([[1, 0, distance * cos(angle)], [0, 1, distance * sin(angle)]])
    green = pixels[..., 1]
    moved = np.asarray(
        cv2.warpAffine(green, move, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    )
    pixels[..., 1] = green + weight * (moved - green)
    return to_image(pixels)


def color_quantization(image: Image, colors: float) -> Image:
    """Reduce the picture to `colors` colours of its own, rounded to a whole number, with error diffusion.

    The palette is Heckbert's median cut, the diffusion Floyd and Steinberg's. KADID-10k builds its palette by minimum
    variance; ours is several times as fast.
    """
    picture = PIL.Image.fromarray(image)
    palette = picture.quantize(round(colors), method=PIL.Image.Quantize.MEDIANCUT)
    return np.array(picture.quantize(palette=palette, dither=PIL.Image.Dither.FLOYDSTEINBERG).convert("RGB"))


def color_saturation_1(image: Image, factor: float) -> Image:
    """Multiply the saturation of HSV by `factor`; a negative factor shows the opposite hues.

    With hue and value kept, each channel is `value - saturation * k`, so scaling the saturation scales its distance
    from the value, and no conversion is needed.
    """
    pixels = to_unit(image)
    value = pixels.max(axis=2, keepdims=True)
    return to_image(value + factor * (pixels - value))


def color_saturation_2(image: Image, factor: float) -> Image:
    """Multiply a and b of CIE L*a*b* by `factor`."""
    lab = to_lab(image)
    lab[..., 1:] *= factor
    return from_lab(lab)
