"""What a gate scores: held-back photographs with a ladder of every degradation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from iqa_calibration.graphs.runner import Feed
from iqa_calibration.images.degradations import KINDS, LEVELS, degrade
from iqa_calibration.images.distinct import distinct_pictures
from iqa_calibration.images.items import Cropper, check_references, check_seed, reference_of
from iqa_runtime.contract import Contract
from iqa_runtime.images.loading import Source


@dataclass(frozen=True, slots=True)
class Rendition:
    """An image of a gate set: the index of a photograph, the kind of degradation and its level; 0 is the photograph."""

    photograph: int
    kind: str
    level: int


@dataclass(frozen=True, kw_only=True)
class GateSet:
    """Held-back photographs with a ladder of every degradation.

    Attributes
    ----------
    contract
        Tells crops and normalisation.
    photographs
        The photographs.
    digests
        The `pixel_digest` of each.
    seed
        Of the noise.
    """

    contract: Contract
    photographs: tuple[Source, ...]
    digests: frozenset[bytes]
    seed: int = 0

    @classmethod
    def build(cls, contract: Contract, photographs: Sequence[Source], *, seed: int = 0) -> Self:
        """Take photographs that took no part in calibration; a picture that comes again counts once.

        Raises
        ------
        UsageError
            If there is none (for ``nar`` fewer than two), the artefact takes cached features of a reference, or the
            seed is out of range.
        FileError, ImageError
            If one cannot be read.
        """
        check_seed(seed)
        Cropper(contract)
        pictures = distinct_pictures(photographs)
        chosen = tuple(pictures.values())
        check_references(contract, chosen)
        return cls(contract=contract, photographs=chosen, digests=frozenset(pictures), seed=seed)

    @property
    def renditions(self) -> list[Rendition]:
        """The images in order: each photograph, then its ladders from mild to severe."""
        return [
            rendition
            for index in range(len(self.photographs))
            for rendition in (
                Rendition(index, "none", 0),
                *(Rendition(index, kind, level) for kind in KINDS for level in range(1, LEVELS + 1)),
            )
        ]

    @property
    def ladders(self) -> list[list[int]]:
        """Indices of the images of each ladder, the photograph first."""
        places = {rendition: place for place, rendition in enumerate(self.renditions)}
        return [
            [places[Rendition(index, "none", 0)]]
            + [places[Rendition(index, kind, level)] for level in range(1, LEVELS + 1)]
            for index in range(len(self.photographs))
            for kind in KINDS
        ]

    def images(self) -> Iterator[Iterator[Feed]]:
        """Yield, for each image in order, its items.

        Raises
        ------
        FileError, ImageError, UsageError
            As scoring would.
        """
        cropper = Cropper(self.contract)
        for rendition in self.renditions:
            if rendition.level == 0:
                pixels = cropper.photograph(self.photographs[rendition.photograph])
            degraded = degrade(pixels, rendition.kind, rendition.level, seed=self.seed) if rendition.level else pixels
            subject = cropper.subject(degraded, reference_of(self.contract, self.photographs, rendition.photograph))
            yield (cropper.item(subject, item) for item in range(len(subject.positions)))

    def describe(self, rendition: int) -> str:
        """Say in words which image that is."""
        where = self.renditions[rendition]
        source = self.photographs[where.photograph]
        name = f"photograph {where.photograph + 1}" if isinstance(source, (bytes, np.ndarray)) else str(source)
        return name if where.level == 0 else f"{name}, {where.kind} {where.level}"
