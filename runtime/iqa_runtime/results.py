"""The result of scoring one image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.contract import Range, range_in_words
from iqa_runtime.errors import IqaError
from iqa_runtime.measuring import Measures

REASON = 0.5
"""Probability from which on something is a reason for a score: it is more likely than not that it was done."""
UNTOUCHED = "none"
"""The name of nothing done; no reason where there is another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The score of one image with everything needed to read it, or the error that left it without one.

    Attributes
    ----------
    path
        The file as the caller named it; None for encoded bytes and arrays.
    value
        Score of the image: those of its crops, pooled as the contract says, mostly to their mean; None on an error.
    percentile
        Share of the population named in the contract (``contract.score.quantiles``) that is worse, 0 to 100; None on an
        error, and where the artefact has no quantiles.
    range
        Nominal (low, high): the range of the labels the network was trained on; None where it has no end.
    higher_is_better
        Direction.
    trained
        False if the weights are random: the value then only shows that the pipeline runs.
    artefact
        What decided the score beside the pictures: the first twelve digits of the SHA-256 of the artefact's file, the
        patch plan, the size if it is not the artefact's own, and ``bfloat16`` if that was computed in, such as
        ``3f2a9c01d47e:five``.
    backend
        What ran it: the backend and what that ran on, such as ``openvino CPU (float32)``.
    width, height
        Of the decoded image, upright, in pixels; None if it could not be decoded.
    color
        What its colours were taken for, and what was done about it: ``sRGB``, ``untagged`` (taken for sRGB),
        ``<space> -> sRGB``, such as ``Display P3 -> sRGB``, ``profile damaged`` (ignored), ``<space> not applied``
        (littleCMS is missing) or ``stored``, where the artefact asks for colours as they are. None if the image could
        not be decoded.
    patches
        Number of crops the value was pooled from; 0 if there is an error.
    patch_scores
        What the network said, in the order of the patch plan: one number a crop, or one for every P crops if the
        network takes P at once.
    milliseconds
        Work done for this image: decoding (of a reference that was not at hand, too), cropping, and its runs of the
        model. The work of several images overlaps, so sums may exceed the time on the clock.
    map
        Quality over the image at the size it was judged at, float32, height x width, NaN where no crop lies; None
        unless asked for.
    restored
        The image as the network would restore it, at that size, uint8, H x W x 3, RGB; None unless asked for.
    preview, reference_preview
        The image, and what it was compared with, shrunk to show them: uint8, h x w x 3, RGB; None unless asked for, and
        where there is none.
    distortions
        Probability, 0 to 1, that each of these was done to the image, by name, in the order of the contract: the mean
        over the crops. They don't add up to one, for several may have been. None where the artefact names none.
    measures
        What was measured in the picture, whatever the artefact; None unless asked for, and if it could not be decoded.
    error
        Why there is no value; None if there is one.
    """

    path: str | None
    value: float | None
    range: Range
    higher_is_better: bool
    trained: bool
    artefact: str = ""
    backend: str = field(default="", compare=False)
    width: int | None = None
    height: int | None = None
    color: str | None = None
    patches: int = 0
    patch_scores: tuple[float, ...] = ()
    milliseconds: float = field(default=0.0, compare=False)
    map: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    restored: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)
    preview: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)
    reference_preview: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)
    percentile: float | None = None
    distortions: dict[str, float] | None = field(default=None, hash=False)
    measures: Measures | None = None
    error: IqaError | None = field(default=None, compare=False)

    @property
    def direction(self) -> Literal["higher", "lower"]:
        """Which values are the better ones."""
        return "higher" if self.higher_is_better else "lower"

    @property
    def reasons(self) -> tuple[str, ...] | None:
        """What of `distortions` has a probability of `REASON` at least, the likeliest first, then those of `measures`.

        A word that both have is there once. None without either.
        """
        if self.distortions is None and self.measures is None:
            return None
        likely = [(value, name) for name, value in (self.distortions or {}).items() if value >= REASON]
        named = [name for _, name in sorted(likely, key=lambda pair: -pair[0])]
        found = dict.fromkeys([*named, *(self.measures.reasons if self.measures else ())])
        return tuple(name for name in found if name != UNTOUCHED or len(found) == 1)

    def row(self) -> dict[str, Any]:
        """Return the result as plain values for JSON or CSV.

        Returns
        -------
        dict
            Keys ``path score percentile verdict reasons measures group rank range direction width height color
            patches milliseconds artefact error``, in this order; ``verdict``, ``group`` and ``rank`` are null, for it
            takes a threshold to judge, and other results to rank; ``reasons`` is a list of names or null, ``measures``
            an object or null, ``range`` a list of two numbers or nulls, ``error`` the message.
        """
        return {
            "path": self.path,
            "score": self.value,
            "percentile": self.percentile,
            "verdict": None,
            "reasons": None if self.reasons is None else list(self.reasons),
            "measures": None if self.measures is None else self.measures.row(),
            "group": None,
            "rank": None,
            "range": list(self.range),
            "direction": self.direction,
            "width": self.width,
            "height": self.height,
            "color": self.color,
            "patches": self.patches,
            "milliseconds": round(self.milliseconds, 3),
            "artefact": self.artefact,
            "error": None if self.error is None else str(self.error),
        }

    def __str__(self) -> str:
        name = "image" if self.path is None else self.path
        if self.value is None:
            return f"{name}: no score: {self.error}"
        note = "" if self.trained else " (untrained: random weights, the value means nothing)"
        low, high = self.range
        ends = range_in_words(self.range) if low is None or high is None else f"in [{low:g}, {high:g}]"
        return f"{name}: {self.value:.4f} {ends}, {self.direction} is better{note}"
