"""Calibration sets: photographs and graded degradations of them, cut exactly as at run time, item by item."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from iqa_calibration.graphs.runner import Feed
from iqa_calibration.images.degradations import KINDS, LEVELS, degrade
from iqa_calibration.images.distinct import distinct, pixel_digest
from iqa_calibration.images.extremes import extreme_shape
from iqa_calibration.images.items import Cropper, check_references, check_seed, reference_of
from iqa_runtime.contract import Contract
from iqa_runtime.errors import FileError, UsageError
from iqa_runtime.files.inputs import expand_inputs
from iqa_runtime.images.formats import IMAGE_SUFFIXES
from iqa_runtime.images.loading import Source

DEFAULT_COUNT = 64
"""Photographs of a calibration set, at most."""

FEW_PHOTOGRAPHS = 32
"""Below this a warning says that the set is small; ten were seen to be enough for min-max."""

HELD_BACK = 8
"""Photographs that judge, at most; each makes a ladder of every kind."""

_HELD_BACK_SHARE = 4
_RENDITIONS = 3
"""Of each photograph: itself and two degradations of different kinds."""

_ITEMS = 4
"""Items of each rendition, at most: neighbouring crops of one image teach little about ranges."""

_SHOWN = 200
"""Characters of a path that is none, in a message: what is taken for a list may be one long line."""

Progress = Callable[[int, int], None]
"""Called with the number of photographs read so far, and of all."""


def find_photographs(sources: Source | Sequence[Source]) -> list[Source]:
    """List the photographs that are named, each path once.

    Parameters
    ----------
    sources
        Folders, lists, images, patterns; bytes and arrays are images themselves. One or several.

    Raises
    ------
    UsageError
        If there is none, or a pattern, a folder or a list names none.
    FileError
        If a folder or a list cannot be read.
    """
    named: Sequence[Any] = (
        sources if isinstance(sources, Sequence) and not isinstance(sources, (str, bytes)) else [sources]
    )
    photographs: dict[Any, Source] = {}
    for source in named:
        if not isinstance(source, (str, os.PathLike, bytes, np.ndarray)):
            raise UsageError(
                f"``images``: one of type {type(source).__name__}; give paths, bytes of image files, or arrays"
            )
        if isinstance(source, (bytes, np.ndarray)):
            found: Sequence[Source] = [source]
        elif glob.has_magic(str(source)) and not Path(source).exists():
            found = [Path(path) for path in expand_inputs([str(source)], BytesIO())]
        else:
            found = read_images(Path(source))
        for each in found:
            photographs.setdefault(each if isinstance(each, Path) else id(each), each)
    if not photographs:
        raise UsageError("``images``: there is none; give photographs, or leave it out for those of the package")
    return list(photographs.values())


def read_images(source: Path) -> list[Path]:
    """List the photographs of a folder, a list or a single file.

    Parameters
    ----------
    source
        A folder stands for every image below it. A file with an image suffix is that image. Any other file is a list
        of paths, one a line, relative to the folder it lies in; empty lines don't count. A file that is reached twice,
        also by links, is listed once.

    Raises
    ------
    FileError
        If `source` cannot be read, or a path of the list is not there.
    UsageError
        If no image is there.
    """
    if source.is_dir() or source.suffix.lower() in IMAGE_SUFFIXES:
        if not source.exists():
            raise FileError(f"{source}: no such image; check the path")
        return _files([str(source)])
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise FileError(f"{source}: cannot read the list of images ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{source}: neither an image nor a list of images in UTF-8; write one path a line") from error
    listed = [str(source.parent / line.strip()) for line in lines if line.strip()]
    if not listed:
        raise UsageError(f"{source}: the list of images is empty; write one path a line")
    for path in listed:
        if not (os.path.lexists(path) or glob.has_magic(path)):
            raise FileError(
                f"{path[:_SHOWN]}: not there, in {source}, which is read as a list of paths, one a line, for it is no "
                "image by its name; give images, folders, patterns, or such a list"
            )
    return _files(listed)


def _files(arguments: Sequence[str]) -> list[Path]:
    first: dict[str, Path] = {}
    for path in expand_inputs(arguments, BytesIO()):
        first.setdefault(os.path.realpath(path), Path(path))
    return list(first.values())


def split(images: Sequence[Source], seed: int, *, held_back: int = HELD_BACK) -> tuple[list[Source], list[Source]]:
    """Divide photographs at random into those that calibrate and those that judge the result.

    Parameters
    ----------
    images
        At least two distinct ones; a link or a copy of one is none.
    seed
        Of the choice.
    held_back
        Most photographs that judge: a quarter of all up to this, and two if there are four.

    Returns
    -------
    calibration, held back
        Each in the order given.

    Raises
    ------
    UsageError
        If there are fewer than two.

    Warns
    -----
    UserWarning
        If images came again.
    """
    images = _once(images)
    if len(images) < 2:
        raise UsageError(
            f"{len(images)} distinct calibration image: some calibrate, others judge the result; give at least 2, "
            f"better {FEW_PHOTOGRAPHS}"
        )
    share = min(held_back, max(len(images) // _HELD_BACK_SHARE, min(2, len(images) // 2)))
    judging = set(np.random.RandomState(seed).permutation(len(images))[:share].tolist())
    kept = [image for index, image in enumerate(images) if index not in judging]
    return kept, [image for index, image in enumerate(images) if index in judging]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRecord:
    """A calibration set in a contract.

    Attributes
    ----------
    photographs
        How many distinct ones.
    renditions
        Of each: itself and degradations.
    items_per_rendition
        At most.
    seed, digest
        As in `CalibrationSet`.
    """

    photographs: int
    renditions: int
    items_per_rendition: int
    seed: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class CalibrationSet:
    """What ranges are observed on: each photograph, and two degradations of it.

    With an aligned reference (task ``fr``) the photograph is the reference of all three; with a non-aligned one
    (``nar``) the next photograph is.

    Attributes
    ----------
    contract
        Tells crops and normalisation.
    photographs
        The photographs.
    seed
        Of everything that is drawn: photographs, levels, noise, crops.
    digest
        SHA-256, in hexadecimal, of all that decides what the items are: pixels, seed, crops and normalisation.
    """

    contract: Contract
    photographs: tuple[Source, ...]
    seed: int
    digest: str

    @classmethod
    def build(
        cls,
        contract: Contract,
        images: Sequence[Source],
        *,
        count: int = DEFAULT_COUNT,
        seed: int = 0,
        apart_from: Collection[bytes] = (),
        progress: Progress | None = None,
    ) -> Self:
        """Choose photographs and read each once, so that a bad one is found before hours of work.

        A picture that comes again, under whatever name or in whatever file, counts once.

        Parameters
        ----------
        contract
            Of the artefact to calibrate.
        images
            Photographs: paths, bytes, or uint8 arrays H x W x 3, RGB.
        count
            Most photographs to use; fewer are drawn at random.
        seed
            From 0 to 2^32 - 1.
        apart_from
            The `pixel_digest` of each photograph that judges: none of these pictures is used.
        progress
            Is told of each photograph.

        Raises
        ------
        UsageError
            If there is no photograph (for ``nar`` fewer than two), count or seed is out of range, or the artefact
            cannot be calibrated.
        FileError, ImageError
            If one cannot be read.

        Warns
        -----
        UserWarning
            With fewer than `FEW_PHOTOGRAPHS`, and if pictures came again.
        """
        check_seed(seed)
        if count < 1:
            raise UsageError(f"count is {count}; it must be at least 1 photograph")
        cropper = Cropper(contract)
        images = _once(images)
        pictures: dict[int, bytes] = {}
        repeated = 0
        for index in np.random.RandomState(seed).permutation(len(images)).tolist():
            if len(pictures) == count:
                break
            picture = pixel_digest(cropper.subject(images[index], images[index]).image)
            if picture in apart_from or picture in pictures.values():
                repeated += 1
                continue
            pictures[index] = picture
            if progress is not None:
                progress(len(pictures), min(count, len(images)))
        if repeated:
            _warn_of_repeated(repeated, len(images))
        if repeated and not pictures:
            raise UsageError("every image that would calibrate is one that judges; give at least 2 distinct ones")
        chosen = tuple(images[index] for index in sorted(pictures))
        check_references(contract, chosen)
        if contract.task == "nar":
            # The number of crops of neighbours may differ.
            for index, photograph in enumerate(chosen):
                cropper.subject(photograph, reference_of(contract, chosen, index))
        if len(chosen) < FEW_PHOTOGRAPHS:
            warnings.warn(f"{len(chosen)} calibration images: ranges are surer from {FEW_PHOTOGRAPHS} on", stacklevel=2)
        digest = sha256(repr((seed, contract.patch_plan, contract.inputs, contract.task)).encode())
        for index in sorted(pictures):
            digest.update(pictures[index])
        return cls(contract=contract, photographs=chosen, seed=seed, digest=digest.hexdigest())

    @property
    def size(self) -> int:
        """Number of photographs."""
        return len(self.photographs)

    @property
    def record(self) -> SetRecord:
        """What the contract of an artefact says about its calibration set."""
        return SetRecord(
            photographs=self.size,
            renditions=_RENDITIONS,
            items_per_rendition=_ITEMS,
            seed=self.seed,
            digest=self.digest,
        )

    def feeds(self) -> Iterator[Feed]:
        """Yield the items one by one: every input of the graph, float32, batch axis of one; the same each time."""
        cropper = Cropper(self.contract)
        random = np.random.RandomState(self.seed)
        for index, photograph in enumerate(self.photographs):
            pixels = cropper.photograph(photograph)
            reference = reference_of(self.contract, self.photographs, index)
            for rendition in range(_RENDITIONS):
                # Kinds take turns; two neighbours of the cycle differ, so each photograph meets two of them.
                kind = KINDS[(index + rendition) % len(KINDS)]
                level = int(random.randint(1, LEVELS + 1)) if rendition else 0
                degraded = degrade(pixels, kind, level, seed=int(random.randint(2**31)))
                subject = cropper.subject(degraded, reference)
                items = len(subject.positions)
                for item in sorted(random.permutation(items)[:_ITEMS].tolist()):
                    yield cropper.item(subject, item)

    def feeds_and_extremes(self) -> Iterator[Feed]:
        """Yield the items, then those of images at the limits: black, white, white noise and saturated colours."""
        yield from self.feeds()
        cropper = Cropper(self.contract)
        for image in _extremes(self.contract, self.seed):
            yield cropper.item(cropper.subject(image, image), 0)


def _extremes(contract: Contract, seed: int) -> list[NDArray[np.uint8]]:
    shape = extreme_shape(contract)
    random = np.random.RandomState(seed)
    noise = random.randint(0, 256, shape).astype(np.uint8)
    saturated = 255 * random.randint(0, 2, shape).astype(np.uint8)
    return [np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8), noise, saturated]


def _once(images: Sequence[Source]) -> list[Source]:
    """Leave out images that come again, and say so."""
    first = distinct(images)
    if len(first) < len(images):
        _warn_of_repeated(len(images) - len(first), len(images))
    return first


def _warn_of_repeated(repeated: int, given: int) -> None:
    warnings.warn(
        f"{repeated} of {given} calibration images show what others show, as links, copies or the same pixels; each "
        "picture counts once",
        stacklevel=3,
    )
