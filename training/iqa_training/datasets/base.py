"""What a data set is once it has been read: images, references, and labels on one scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from iqa_runtime.errors import UsageError

_NAMED = 3
"""How many offending pictures or rows an error names; it counts the rest."""


@dataclass(frozen=True)
class LabelScale:
    """The scale the labels were published on, and its map onto 0 (worst) to 1 (best).

    Attributes
    ----------
    kind
        ``MOS``: higher is better. ``DMOS``: lower is better.
    low, high
        The labels that become the two ends of 0 to 1.
    """

    kind: Literal["MOS", "DMOS"]
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.kind not in ("MOS", "DMOS"):
            raise UsageError(
                f"a label scale of kind {self.kind!r}; give MOS (higher is better) or DMOS (lower is better)"
            )
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise UsageError(
                f"a label scale from {self.low} to {self.high}; give two finite numbers, the lower one first"
            )

    def normalise(self, raw: float) -> float:
        """Map a published label to 0 (worst) to 1 (best), without clipping: one beyond the scale stays beyond it."""
        share = (raw - self.low) / (self.high - self.low)
        return share if self.kind == "MOS" else 1.0 - share

    def denormalise(self, mos: float) -> float:
        """Map back: the published label of a value on 0 (worst) to 1 (best)."""
        share = mos if self.kind == "MOS" else 1.0 - mos
        return self.low + share * (self.high - self.low)


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes
    ----------
    distorted
        The image that was rated.
    reference
        The pristine image of the same content; None where there is none.
    mos
        The label on 0 (worst) to 1 (best).
    raw
        The label as published, on the data set's `LabelScale`.
    content
        What a split must not tear apart: the name of the reference image, or the image's own where there is none.
    distortion
        Name of the distortion type; None where distortions are authentic or not told.
    part
        The part of the official split it belongs to, such as ``test``; None where none was published.
    """

    distorted: Path
    reference: Path | None
    mos: float
    raw: float
    content: str
    distortion: str | None = None
    part: str | None = None


@dataclass(frozen=True)
class Dataset:
    """Labelled images of one data set, or of a part of it.

    Attributes
    ----------
    name, title
        Such as ``tid2013`` and ``TID2013``.
    samples
        In the order of the published label file.
    scale
        What the labels meant before they were normalised.
    has_references
        Whether every sample has a reference.
    source
        Where it is published.
    terms
        On what terms its owners let it be used, in short; theirs bind.
    """

    name: str
    title: str
    samples: tuple[Sample, ...]
    scale: LabelScale
    has_references: bool
    source: str
    terms: str

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.samples)


def some(names: Sequence[str]) -> str:
    """Name the first few, and count the rest."""
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
