"""Labels without observers: the mean of several metrics after each is spread evenly over 0 to 1.

The idea of KADIS-700k and DeepFL-IQA (H. Lin, V. Hosu and D. Saupe, "DeepFL-IQA: Weak supervision for deep IQA feature
learning", arXiv:2001.08113): metrics of other units and distributions become comparable by histogram equalisation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import UsageError
from iqa_training.metrics import METRICS

TEACHERS = ("fsim", "vsi", "mdsi", "haarpsi")
"""Our choice: the four metrics here that rank most as observers do. SRCC on TID2013 / KADID-10k, as tabulated by the
documentation of PIQ 0.8.0: VSI 0.90 / 0.88, MDSI 0.89 / 0.89, HaarPSI 0.87 / 0.89, FSIMc 0.85 / 0.85, against
GMSD 0.80 / 0.85, MS-SSIM 0.80 / 0.80, SSIM 0.72 / 0.72, PSNR 0.69 / 0.68 and VIF (pixel domain) 0.61 / 0.65."""

_KNOTS = 512


class QuantileScale(msgspec.Struct, frozen=True):
    """A monotone map from a metric's values to quantile ranks: 0 for the worst of the fitted sample, 1 for the best.

    Attributes
    ----------
    knots
        Values of the metric, increasing.
    ranks
        The rank at each knot: increasing if higher values are better, else decreasing.

    Raises
    ------
    UsageError
        If there are fewer than two knots, not as many ranks, or either is not strictly monotone.
    """

    knots: tuple[float, ...]
    ranks: tuple[float, ...]

    def __post_init__(self) -> None:
        steps, rank_steps = np.diff(self.knots), np.diff(self.ranks)
        if len(self.knots) < 2 or len(self.knots) != len(self.ranks) or not np.isfinite(self.knots).all():
            raise UsageError(
                f"a quantile scale of {len(self.knots)} knots and {len(self.ranks)} ranks: it needs as many ranks as "
                "knots, two or more, all finite; fit it again"
            )
        if not (steps > 0).all() or not ((rank_steps > 0).all() or (rank_steps < 0).all()):
            raise UsageError("a quantile scale whose knots or ranks are not in order; fit it again")

    @classmethod
    def fit(cls, values: NDArray[Any], higher_is_better: bool, knots: int = _KNOTS) -> QuantileScale:
        """Fit the scale to a sample, so that its values spread evenly over 0 to 1.

        Parameters
        ----------
        values
            The metric on a sample of image pairs, (N,), finite, at least two different ones.
        higher_is_better
            The direction of the metric.
        knots
            Number of quantiles kept, at least 2, at most one a value; between them ranks are interpolated linearly.

        Raises
        ------
        UsageError
            If the values are not such a sample, or `knots` is below 2.
        """
        sample = np.asarray(values, dtype=np.float64)
        if knots < 2:
            raise UsageError(f"knots={knots}: give at least 2")
        if sample.ndim != 1 or not np.isfinite(sample).all() or np.unique(sample).size < 2:
            raise UsageError(
                f"values: an array of shape {sample.shape}; give a flat one of finite numbers that are not all "
                "the same (leave out pairs of identical images where the metric is infinite for them)"
            )
        probabilities = np.linspace(0, 1, min(knots, sample.size))
        # Several quantiles in one value are ties: the value gets the middle of their ranks.
        places, inverse = np.unique(np.quantile(sample, probabilities), return_inverse=True)
        ranks = np.bincount(inverse, weights=probabilities) / np.bincount(inverse)
        return cls(tuple(places.tolist()), tuple((ranks if higher_is_better else 1 - ranks).tolist()))

    def transform(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the ranks of values, float64 of their shape, 0 to 1, 1 the best; beyond the outer knots as at them.

        Raises
        ------
        UsageError
            If a value is NaN.
        """
        sample = np.asarray(values, dtype=np.float64)
        if np.isnan(sample).any():
            raise UsageError("values: one is NaN, which has no rank; leave its image pair out")
        return np.asarray(np.interp(sample, self.knots, self.ranks), dtype=np.float64)

    def to_dict(self) -> dict[str, list[float]]:
        """Return the scale as lists under ``knots`` and ``ranks``, fit for JSON."""
        return {"knots": list(self.knots), "ranks": list(self.ranks)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> QuantileScale:
        """Return the scale that `to_dict` described.

        Raises
        ------
        UsageError
            If a field is missing or of the wrong type, or the numbers are not in order.
        """
        try:
            return msgspec.convert(dict(fields), cls)
        except msgspec.ValidationError as error:
            raise UsageError(f"not a quantile scale: {error}") from error


def measure(
    reference: NDArray[np.uint8],
    distorted: NDArray[np.uint8],
    names: Sequence[str] = TEACHERS,
    downsample: int | None = 2,
) -> dict[str, float]:
    """Compute several metrics on one pair.

    Parameters
    ----------
    reference, distorted
        uint8 RGB, H x W x 3, at least 32 pixels a side.
    names
        Keys of `METRICS`.
    downsample
        For the metrics that take it. The default of 2 is what their authors' rule gives for the 384 x 512 pictures of
        TID2013 and KADID-10k, so that crops of such pictures are judged at the scale of the whole. None: the rule.

    Returns
    -------
    dict
        Metric name to value, in the order of `names`.

    Raises
    ------
    UsageError
        If a name is unknown or the images cannot be compared.
    """
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise UsageError(f"metric {', '.join(unknown)}: there is {', '.join(METRICS)}")
    values = {}
    for name in names:
        metric = METRICS[name]
        options = {"downsample": downsample} if metric.takes_downsample else {}
        values[name] = metric.function(reference, distorted, **options)
    return values


def label(table: Mapping[str, NDArray[Any]], scales: Mapping[str, QuantileScale]) -> NDArray[np.float64]:
    """Average the quantile ranks of several metrics.

    Parameters
    ----------
    table
        Metric name to values, each (N,).
    scales
        The scale of each metric of the table; fit it on the training set alone.

    Returns
    -------
    numpy.ndarray
        float64, (N,), 0 to 1, higher is better.

    Raises
    ------
    UsageError
        If the table is empty, a metric has no scale, or the columns differ in length.
    """
    if not table:
        raise UsageError("table: no metric in it; give the values of at least one")
    missing = [name for name in table if name not in scales]
    if missing:
        raise UsageError(f"scales: none for {', '.join(missing)}; fit one for each metric of the table")
    lengths = {name: np.shape(values) for name, values in table.items()}
    if len(set(lengths.values())) > 1:
        raise UsageError(f"table: the metrics differ in shape ({lengths}); give each one value an image pair")
    ranks = [scales[name].transform(values) for name, values in table.items()]
    return np.asarray(np.mean(ranks, axis=0), dtype=np.float64)
