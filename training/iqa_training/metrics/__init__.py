"""Classical full-reference metrics, from the formulas and constants of their papers, in NumPy and OpenCV.

Each takes a reference and a distorted image, uint8 RGB of one shape H x W x 3, and returns a float. They agree with the
authors' code but for rounding of colours (planes stay float32) and, at odd sizes, for the outermost row and column.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from iqa_training.metrics.deviation import gmsd, mdsi
from iqa_training.metrics.haar import haarpsi
from iqa_training.metrics.phase_congruency import fsim
from iqa_training.metrics.saliency import vsi
from iqa_training.metrics.structural import ms_ssim, psnr, ssim, vif

__all__ = ["METRICS", "Metric", "fsim", "gmsd", "haarpsi", "mdsi", "ms_ssim", "psnr", "ssim", "vif", "vsi"]


@dataclass(frozen=True)
class Metric:
    """A full-reference metric and how to read its values.

    Attributes
    ----------
    function
        Called with the reference and the distorted image.
    higher_is_better
        Whether larger values mean better quality.
    identical
        The value for two identical images.
    source
        Where it was published.
    takes_downsample
        Whether `function` has the keyword `downsample`; the others reduce by a factor of their own, or not at all.
    """

    function: Callable[..., float]
    higher_is_better: bool
    identical: float
    source: str
    takes_downsample: bool = False


METRICS: dict[str, Metric] = {
    "psnr": Metric(psnr, True, math.inf, "10 log10(255^2 / mean squared error), BT.601 luma"),
    "ssim": Metric(ssim, True, 1.0, "Wang et al., IEEE TIP 13(4), 2004", takes_downsample=True),
    "ms_ssim": Metric(ms_ssim, True, 1.0, "Wang et al., Asilomar Conference, 2003"),
    "gmsd": Metric(gmsd, False, 0.0, "Xue et al., IEEE TIP 23(2), 2014"),
    "vif": Metric(vif, True, 1.0, "Sheikh and Bovik, IEEE TIP 15(2), 2006, pixel domain"),
    "fsim": Metric(fsim, True, 1.0, "Zhang et al., IEEE TIP 20(8), 2011, FSIMc", takes_downsample=True),
    "vsi": Metric(vsi, True, 1.0, "Zhang et al., IEEE TIP 23(10), 2014", takes_downsample=True),
    "mdsi": Metric(mdsi, False, 0.0, "Nafchi et al., IEEE Access 4, 2016", takes_downsample=True),
    "haarpsi": Metric(haarpsi, True, 1.0, "Reisenhofer et al., Signal Processing: Image Communication 61, 2018"),
}
"""Every metric by name."""
