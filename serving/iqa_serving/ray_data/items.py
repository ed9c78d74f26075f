"""Images as a batch has them: plain values, which become scores."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import tee
from typing import Any, NamedTuple

import numpy as np

from iqa_runtime import ImageError, Score, Scorer, UsageError
from iqa_runtime.files.remote import Fetcher, fetched_ahead
from iqa_runtime.files.table_inputs import MissingImage, image_of
from iqa_runtime.images.named import NamedImage

_SIDE = 512
"""Of a picture to try a model with, in pixels."""


class Item(NamedTuple):
    """An image of a batch.

    Attributes
    ----------
    name
        What messages call it.
    image, reference
        A path, an address, the bytes of a file, or a structure of ``bytes`` and ``path``.
    error
        Why there is no image; None where that is not known before.
    """

    name: str
    image: Any
    reference: Any = None
    error: str | None = None


class ItemScorer:
    """Scores items with one artefact.

    Parameters
    ----------
    artefact
        As for `iqa_runtime.Scorer`.
    folder
        Where relative paths begin.
    compared
        Whether items have references.
    fetch_bytes, fetch_timeout
        As for `iqa_runtime.files.remote.Fetcher`.
    **scoring
        Further arguments of `iqa_runtime.Scorer`.
    """

    def __init__(
        self,
        artefact: str | os.PathLike[str],
        *,
        folder: str,
        compared: bool,
        fetch_bytes: int,
        fetch_timeout: float,
        **scoring: Any,
    ) -> None:
        self._scorer = Scorer(artefact, **scoring)
        self._fetcher = Fetcher(fetch_bytes, fetch_timeout)
        self._folder, self._compared = folder, compared

    def score(self, items: Iterable[Item]) -> Iterator[Score]:
        """Score items in order; what is wrong with one is the error of its score.

        Raises
        ------
        UsageError
            If the artefact compares and there are no references, or the other way round.
        """
        images, others = tee(fetched_ahead((self._image(item), self._reference(item)) for item in items))
        references = (reference for _, reference in others) if self._compared else None
        return self._scorer.score_many((image for image, _ in images), references)

    def check_model(self) -> None:
        """Score a picture that no model should fail for.

        Raises
        ------
        BackendError
            If this one does.
        """
        noise = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
        with suppress(ImageError, UsageError):  # too small, for instance: then nothing is known
            self._scorer.score(noise, noise if self._compared else None)

    def _image(self, item: Item) -> NamedImage:
        if item.error is not None:
            return MissingImage(item.name, item.error)
        return image_of(item.name, item.image, self._folder, self._fetcher)

    def _reference(self, item: Item) -> NamedImage | None:
        if not self._compared:
            return None
        return image_of(f"the reference of {item.name}", item.reference, self._folder, self._fetcher)
