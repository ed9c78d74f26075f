"""Quality maps as pictures: colour over the image, with a legend that says which value a colour stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.contract import Range

NARROWEST_SCALE = 0.05
"""Least span of the colour scale, as a part of the score's nominal range: a map that hardly varies stays nearly one
colour instead of being blown up to the whole scale."""

_OPACITY = 0.6
_LEGEND_HEIGHT = 40
_LEGEND_MIN_WIDTH = 280


def colour_scale(values: NDArray[np.float32], nominal: Range) -> tuple[float, float]:
    """Choose the values at the two ends of the colours.

    The map's own range, because a heat map is to show where in *this* image quality is lost, and the nominal range
    would leave little contrast for that; but never narrower than `NARROWEST_SCALE` of the nominal range.

    Parameters
    ----------
    values
        Quality map; NaN is left out.
    nominal
        Low and high end of the score's nominal range; None where it has none.

    Returns
    -------
    tuple of float
        Low and high end of the scale.
    """
    finite = values[np.isfinite(values)]
    least, most = nominal
    # A score without ends has no width to take a share of; its own unit then.
    width = 1.0 if least is None or most is None else most - least
    start = least if least is not None else 0.0
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (start, start + width)
    missing = NARROWEST_SCALE * width - (high - low)
    if missing > 0:
        low, high = low - missing / 2, high + missing / 2
    return low, high


def coloured(values: NDArray[np.float32], worst: float, best: float) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the colours of a quality map, and where it has values.

    Parameters
    ----------
    values
        H x W, in units of the score, NaN where no crop lies.
    worst, best
        Values at the dark and at the light end of the colours.

    Returns
    -------
    tuple
        Colours, H x W x 3, BGR; H x W, whether there is a value.
    """
    import cv2

    known = np.isfinite(values)
    position = (np.where(known, values, worst) - worst) / (best - worst)
    colours: Any = cv2.applyColorMap(np.rint(position.clip(0, 1) * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    return colours, known


def render_heatmap(
    image: NDArray[np.uint8], values: NDArray[np.float32], nominal: Range, *, higher_is_better: bool
) -> NDArray[np.uint8]:
    """Draw a quality map over its image.

    Viridis, whose lightness rises evenly, so that it survives colour blindness and grey printing; the light end is
    always the better quality, whichever way the score points. Where there is no value the grey image shows.

    Parameters
    ----------
    image
        H x W x 3, RGB.
    values
        H x W, in units of the score, NaN where no crop lies.
    nominal
        Low and high end of the score's nominal range; None where it has none.
    higher_is_better
        Direction of the score.

    Returns
    -------
    NDArray[np.uint8]
        H' x W' x 3, RGB: the picture above a strip with the colours from worse to better and their
        values; narrow images are widened with black to make room for it.
    """
    import cv2

    low, high = colour_scale(values, nominal)
    worst, best = (low, high) if higher_is_better else (high, low)
    colours, known = coloured(values, worst, best)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2BGR)
    picture = np.where(known[..., None], cv2.addWeighted(colours, _OPACITY, grey, 1 - _OPACITY, 0), grey)

    width = max(picture.shape[1], _LEGEND_MIN_WIDTH)
    canvas = np.zeros((picture.shape[0] + _LEGEND_HEIGHT, width, 3), np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    canvas[-_LEGEND_HEIGHT:] = _legend(width, f"worse {worst:.4g}", f"{best:.4g} better")
    return np.ascontiguousarray(canvas[..., ::-1])


def _legend(width: int, left: str, right: str) -> NDArray[np.uint8]:
    import cv2

    ramp = np.linspace(0, 255, width).round().astype(np.uint8)[None]
    strip: Any = np.zeros((_LEGEND_HEIGHT, width, 3), np.uint8)
    strip[: _LEGEND_HEIGHT // 2] = cv2.applyColorMap(ramp, cv2.COLORMAP_VIRIDIS)
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    (right_width, _), _ = cv2.getTextSize(right, font, size, 1)
    for text, x in ((left, 4), (right, width - right_width - 4)):
        cv2.putText(strip, text, (x, _LEGEND_HEIGHT - 6), font, size, (255, 255, 255), 1, cv2.LINE_AA)
    legend: NDArray[np.uint8] = strip
    return legend
