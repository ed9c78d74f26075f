"""What training sees of a data set, whichever it is: pictures with references and labels, and crops of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import UsageError
from iqa_runtime.images.loading import load_image
from iqa_training.datasets.base import Dataset


@dataclass(frozen=True)
class Item:
    """One labelled picture.

    Attributes
    ----------
    distorted, reference
        uint8, H x W x 3, RGB, of equal size; reference None where there is none.
    label
        0 (worst) to 1 (best).
    content
        Equal for pictures of the same scene.
    distortion
        Name of the distortion; None where it is not known or there is none.
    """

    distorted: NDArray[np.uint8]
    reference: NDArray[np.uint8] | None
    label: float
    content: str
    distortion: str | None


class Source(Protocol):
    """Labelled pictures, by index."""

    def __len__(self) -> int: ...

    def item(self, index: int) -> Item:
        """Return picture `index`."""


class DatasetSource:
    """The pictures of a data set on disk, decoded as the runtime decodes them."""

    def __init__(self, dataset: Dataset) -> None:
        self._samples = dataset.samples

    def __len__(self) -> int:
        return len(self._samples)

    def item(self, index: int) -> Item:
        """Return picture `index`.

        Raises
        ------
        FileError, ImageError
            If a file cannot be decoded.
        UsageError
            If picture and reference differ in size.
        """
        sample = self._samples[index]
        distorted = load_image(sample.distorted)
        reference = None if sample.reference is None else load_image(sample.reference)
        if reference is not None and reference.shape != distorted.shape:
            raise UsageError(
                f"{sample.distorted}: {distorted.shape[:2]} pixels, {sample.reference} {reference.shape[:2]}"
            )
        return Item(distorted, reference, sample.mos, sample.content, sample.distortion)
