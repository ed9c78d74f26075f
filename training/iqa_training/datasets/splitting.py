"""Splits by content: no pristine photograph has copies in two parts."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import accumulate

import numpy as np

from iqa_runtime.errors import UsageError
from iqa_training.datasets.base import Dataset

FRACTIONS: Mapping[str, float] = {"train": 0.8, "test": 0.2}
"""80 % for training, 20 % for testing: what the field reports most."""

OFFICIAL = "official:"
"""Prefix that asks `select` for a part of the split published with the data set."""

_SUM_TOLERANCE = 1e-9
"""Fractions such as 0.6, 0.2, 0.2 miss 1 by rounding, not by more."""


def split(dataset: Dataset, fractions: Mapping[str, float] = FRACTIONS, seed: int = 0) -> dict[str, Dataset]:
    """Split a data set into parts of distinct contents.

    Parameters
    ----------
    dataset
        What to split.
    fractions
        For each part its share of the contents (not of the samples), greater than 0; they add up to 1.
    seed
        The same seed, contents and fractions make the same parts, whatever the order of the samples.

    Returns
    -------
    dict
        For each name in `fractions` its part, samples in the order of `dataset`.

    Raises
    ------
    UsageError
        Fractions do not add up to 1, the seed is not in 0 to 2³²-1, or a part would be empty.
    """
    if not fractions or min(fractions.values()) <= 0 or abs(math.fsum(fractions.values()) - 1) > _SUM_TOLERANCE:
        raise UsageError(f"fractions {dict(fractions)} of a split; give numbers above 0 that add up to 1")
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed {seed} of a split; give a number from 0 to {2**32 - 1}")
    contents = sorted({sample.content for sample in dataset.samples})
    # RandomState, because NumPy guarantees its numbers across releases.
    order = [contents[place] for place in np.random.RandomState(seed).permutation(len(contents))]
    ends = [round(share * len(order)) for share in accumulate(fractions.values())]
    parts = {}
    for name, start, end in zip(fractions, [0, *ends], ends, strict=False):
        if start == end:
            raise UsageError(
                f"the part {name!r} of {dataset.title} would be empty: {fractions[name]:g} of {len(order)} contents; "
                "give it a larger fraction"
            )
        parts[name] = _keep(dataset, set(order[start:end]))
    return parts


def official_parts(dataset: Dataset) -> tuple[str, ...]:
    """List the parts of the split published with the data set, sorted; empty where there is none."""
    return tuple(sorted({sample.part for sample in dataset.samples if sample.part is not None}))


def select(dataset: Dataset, name: str, fractions: Mapping[str, float] = FRACTIONS, seed: int = 0) -> Dataset:
    """Select a part of a data set by name.

    Parameters
    ----------
    dataset
        What to select from.
    name
        ``all``; a name in `fractions`, for a part made by `split`; or ``official:`` and a name of `official_parts`.
    fractions, seed
        As in `split`.

    Returns
    -------
    Dataset
        The part, samples in the order of `dataset`.

    Raises
    ------
    UsageError
        There is no such part, or as in `split`.
    """
    if name == "all":
        return dataset
    if name in fractions:
        return split(dataset, fractions, seed)[name]
    official = official_parts(dataset)
    part = name.removeprefix(OFFICIAL)
    if name.startswith(OFFICIAL) and part in official:
        return replace(dataset, samples=tuple(sample for sample in dataset.samples if sample.part == part))
    known = ["all", *fractions, *(OFFICIAL + part for part in official)]
    raise UsageError(f"{dataset.title} has no part {name!r}; give one of {', '.join(known)}")


def _keep(dataset: Dataset, contents: Collection[str]) -> Dataset:
    """Keep the samples of some contents."""
    return replace(dataset, samples=tuple(sample for sample in dataset.samples if sample.content in contents))
