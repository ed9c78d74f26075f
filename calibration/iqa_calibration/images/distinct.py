"""Which pictures are one and the same, by whatever name or in whatever file: one that calibrates must not judge."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from hashlib import file_digest, sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.images.loading import Source, load_image
from iqa_runtime.images.named import NamedImage


def distinct(images: Sequence[Source]) -> list[Source]:
    """Leave out images that come again: links, hard links, other spellings of a path, copies, equal arrays.

    Nothing is decoded, and files are read only where others have their length, so that a large folder takes no longer.
    What cannot be read stays, for whoever reads it to say so.

    Returns
    -------
    list
        The first of each, in the order given.
    """
    lengths = Counter(map(_length, images))
    seen: set[Hashable] = set()
    first = []
    for image in images:
        keys = set(_keys(image, is_read=lengths[_length(image)] > 1))
        if seen.isdisjoint(keys):
            first.append(image)
        seen |= keys
    return first


def distinct_pictures(images: Sequence[Source]) -> dict[bytes, Source]:
    """Leave out images whose pixels come again, also out of another file; the first of each stays.

    Returns
    -------
    dict
        Images in the order given, by their `pixel_digest`.

    Raises
    ------
    FileError, ImageError, UsageError
        If one cannot be read.
    """
    first: dict[bytes, Source] = {}
    for image in images:
        first.setdefault(pixel_digest(load_image(image)), image)
    return first


def pixel_digest(pixels: NDArray[np.uint8]) -> bytes:
    """Return what two pictures have in common only if all their pixels are equal."""
    digest = sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def _length(image: Source) -> int | None:
    """Return the length of an encoded image; None for pixels and for what cannot be read."""
    if isinstance(image, bytes):
        return len(image)
    if isinstance(image, (np.ndarray, NamedImage)):
        return None
    try:
        status = Path(image).stat()
    except (OSError, ValueError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _keys(image: Source, *, is_read: bool) -> Iterator[Hashable]:
    """Yield what an image has in common with every other one that is the same."""
    if isinstance(image, np.ndarray):
        yield "pixels", image.dtype.str, pixel_digest(image)
    elif isinstance(image, bytes):
        yield "content", sha256(image).digest()
    elif isinstance(image, NamedImage):
        yield "name", image.name
    else:
        yield "path", os.path.realpath(image)
        if is_read and _length(image) is not None:
            try:
                with Path(image).open("rb") as file:
                    yield "content", file_digest(file, "sha256").digest()
            except OSError:
                return
