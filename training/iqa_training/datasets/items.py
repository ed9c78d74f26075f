"""What training sees of a data set, whichever it is: pictures with references and labels, and crops of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import FileError, ImageError, UsageError
from iqa_runtime.images.formats import inspect_header
from iqa_runtime.images.loading import load_image
from iqa_training.datasets.base import Dataset, Sample, some
from iqa_training.distortions import Step


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
    steps
        What was done, in order; empty for a pristine picture, None where it is not known.
    """

    distorted: NDArray[np.uint8]
    reference: NDArray[np.uint8] | None
    label: float
    content: str
    distortion: str | None
    steps: tuple[Step, ...] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a labelled picture before it is decoded.

    Attributes
    ----------
    name, reference
        What a message calls the picture and its reference, such as their paths; None where there is no reference.
    label, content
        As in `Item`.
    height, width
        Of both, upright, in pixels.
    """

    name: str
    reference: str | None
    label: float
    content: str
    height: int
    width: int


class Source(Protocol):
    """Labelled pictures, by index."""

    def __len__(self) -> int: ...

    @property
    def entries(self) -> Sequence[Entry]:
        """What is known of every picture, in order."""

    def item(self, index: int) -> Item:
        """Return picture `index`."""


class DatasetSource:
    """The pictures of a data set on disk, decoded as the runtime decodes them."""

    def __init__(self, dataset: Dataset) -> None:
        self._samples = dataset.samples

    def __len__(self) -> int:
        return len(self._samples)

    @cached_property
    def entries(self) -> Sequence[Entry]:
        """What is known of every picture, in order; every file is read once, and none decoded.

        Raises
        ------
        FileError, ImageError
            If a file cannot be read, or its header is none.
        UsageError
            If picture and reference differ in size.
        """
        size_of = cache(picture_size)  # many pictures share a reference
        entries = []
        for sample in self._samples:
            size = picture_size(sample.distorted)
            if sample.reference is not None and size_of(sample.reference) != size:
                raise _of_other_sizes(sample, size, size_of(sample.reference))
            reference = None if sample.reference is None else str(sample.reference)
            entries.append(Entry(str(sample.distorted), reference, sample.mos, sample.content, *size))
        return entries

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
            raise _of_other_sizes(sample, distorted.shape[:2], reference.shape[:2])
        return Item(distorted, reference, sample.mos, sample.content, sample.distortion)


def picture_size(path: Path) -> tuple[int, int]:
    """Return height and width of a picture, upright, in pixels, without decoding it.

    Raises
    ------
    FileError
        If the file cannot be read.
    ImageError
        If it is no image that can be decoded, as far as its header tells.
    """
    try:
        header = inspect_header(path.read_bytes())
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror}); check the data set") from error
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    # Orientations from 5 on lie on their side.
    return (header.width, header.height) if header.orientation >= 5 else (header.height, header.width)


def refuse_smaller(pictures: Sequence[tuple[str, int, int]], side: int, what: str) -> None:
    """Refuse pictures that a crop does not fit in.

    Parameters
    ----------
    pictures
        Name, height and width of each.
    side
        Of the crop, pixels.
    what
        What they are, for the message.

    Raises
    ------
    UsageError
        If a picture is smaller; the message names the first few.
    """
    small = [f"{name} ({width} x {height})" for name, height, width in pictures if min(height, width) < side]
    if small:
        raise UsageError(f"{what} smaller than the crop of {side} pixels: {some(small)}; leave them out")


def _of_other_sizes(sample: Sample, picture: tuple[int, ...], reference: tuple[int, ...]) -> UsageError:
    (height, width), (other_height, other_width) = picture, reference
    return UsageError(
        f"{sample.distorted}: {width} x {height} pixels, and its reference {sample.reference} "
        f"{other_width} x {other_height}; leave it out"
    )
