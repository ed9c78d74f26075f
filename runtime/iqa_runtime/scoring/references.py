"""Reference images: decoded once, encoded once, and both forgotten again when others are in use."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.backends import Backend
from iqa_runtime.contract import ColorSpace, Resize
from iqa_runtime.forking import tell_after_fork
from iqa_runtime.images.header import Frame
from iqa_runtime.images.loading import Source
from iqa_runtime.images.named import NamedImage
from iqa_runtime.scoring.crops import CropInput
from iqa_runtime.scoring.resizing import load_judged, shrunk

DECODED_REFERENCES = 4
"""Decoded references kept: one serves a whole run, a few serve pairs that come grouped by reference."""

FEATURE_BYTES = 256 * 2**20
"""Encoded references kept, in bytes."""


class Reference:
    """A decoded reference image.

    Parameters
    ----------
    image
        H x W x 3 RGB, at the size it is judged at.
    height, width
        Of the picture in its file, in pixels.
    """

    def __init__(self, image: NDArray[np.uint8], height: int, width: int) -> None:
        self.image, self.height, self.width = image, height, width
        self._shrunk: NDArray[np.uint8] | None = None

    def shrunk(self, longest: int) -> NDArray[np.uint8]:
        """Return the picture as `iqa_runtime.scoring.resizing.shrunk` does; made once, for there is one size a run."""
        if self._shrunk is None:
            self._shrunk = shrunk(self.image, longest)
        return self._shrunk

    @cached_property
    def digest(self) -> bytes:
        """Digest of size and pixels; equal pictures have equal features, whatever file they come from."""
        digest = hashlib.blake2b(repr(self.image.shape).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self.image).data)
        return digest.digest()


class ReferenceStore:
    """Decoded references, the most recently used ones kept. Safe to use from several threads.

    Parameters
    ----------
    pixel_limit
        Most pixels an image may have.
    resize
        How references are resized; None if they stay as they are.
    color_space
        Of the artefact's inputs.
    frame
        Which image of several is meant.
    """

    def __init__(
        self,
        pixel_limit: int,
        resize: Resize | None,
        color_space: ColorSpace = "sRGB",
        frame: Frame | None = None,
    ) -> None:
        self._pixel_limit = pixel_limit
        self._frame: Frame | None = frame
        self._resize = resize
        self._color_space = color_space
        self._lock = Lock()
        self._entries: OrderedDict[Hashable, Future[Reference]] = OrderedDict()
        tell_after_fork(self)

    def after_fork(self) -> None:
        """Forget what threads of the parent were about to decode."""
        self._lock = Lock()
        self._entries = OrderedDict((key, future) for key, future in self._entries.items() if future.done())

    def get(self, source: Source) -> Reference:
        """Return a reference, decoding it if it is not at hand; threads that want the same one wait for the first.

        Raises
        ------
        FileError, ImageError, UsageError
            As `iqa_runtime.images.loading.load_image`.
        """
        key = _source_key(source)
        if key is None:
            return self._load(source)
        with self._lock:
            known = self._entries.get(key)
            future = known or self._entries.setdefault(key, Future())
            self._entries.move_to_end(key)
            if len(self._entries) > DECODED_REFERENCES:
                self._entries.popitem(last=False)
        if known is None:
            try:
                future.set_result(self._load(source))
            except BaseException as error:
                future.set_exception(error)
                with self._lock:
                    self._entries.pop(key, None)
        return future.result()

    def _load(self, source: Source) -> Reference:
        loaded = load_judged(
            source,
            self._resize,
            pixel_limit=self._pixel_limit,
            color_space=self._color_space,
            frame=self._frame,
        )
        return Reference(loaded.pixels, loaded.height, loaded.width)


def _source_key(source: Source) -> Hashable | None:
    """Return what identifies the content of a source cheaply; None for what is not worth keeping.

    Arrays need no decoding, and keeping one would tie the result to a buffer the caller may fill again.
    """
    if isinstance(source, NamedImage):
        return source.identity if source.file is None else _source_key(source.file)
    if isinstance(source, bytes):
        return hashlib.blake2b(source, digest_size=16).digest()
    if isinstance(source, (str, os.PathLike)):
        try:
            status = Path(source).stat()
        except (OSError, ValueError):
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return None


class FeatureStore:
    """Features of reference crops, computed when first wanted. Safe to use from several threads.

    Kept item by item, the most recently used ones up to a number of bytes: memory stays bounded for a grid of any
    number of crops, and a reference used again costs nothing as long as its items fit.

    Parameters
    ----------
    encoder
        Active backend of the graph ``reference`` -> ``reference_features``.
    crops
        How the reference is cropped.
    capacity
        Bytes of features to keep.
    """

    def __init__(self, encoder: Backend, crops: CropInput, capacity: int = FEATURE_BYTES) -> None:
        self._encoder = encoder
        self._crops = crops
        self._capacity = capacity
        self._lock = Lock()
        self._rows: OrderedDict[tuple[bytes, bytes], NDArray[np.float32]] = OrderedDict()
        self._bytes = 0
        tell_after_fork(self)

    def after_fork(self) -> None:
        """Begin anew: the parent may have been writing."""
        self._lock = Lock()
        self._rows, self._bytes = OrderedDict(), 0

    def fill(self, out: NDArray[Any], reference: Reference, positions: NDArray[np.int64]) -> None:
        """Write the features of one reference's crops into the items of `out`.

        Parameters
        ----------
        out
            Items of a buffer, shape (items, ...).
        reference
            The image to encode.
        positions
            Top left corners, shape (items, crops per item, 2).

        Raises
        ------
        BackendError
            If the encoder fails.
        """
        keys = [(reference.digest, item.tobytes()) for item in positions]
        missing = []
        with self._lock:
            for index, key in enumerate(keys):
                row = self._rows.get(key)
                if row is None:
                    missing.append(index)
                else:
                    out[index] = row
                    self._rows.move_to_end(key)
        if not missing:
            return
        crops = self._crops.buffer(len(missing))
        self._crops.fill(crops, reference.image, positions[missing])
        features = self._encoder.infer({"reference": crops}, ["reference_features"])["reference_features"]
        out[missing] = features
        with self._lock:
            for index, row in zip(missing, features, strict=True):
                self._keep(keys[index], row)

    def _keep(self, key: tuple[bytes, bytes], row: NDArray[np.float32]) -> None:
        if key not in self._rows and row.nbytes <= self._capacity:
            self._rows[key] = row.copy()
            self._bytes += row.nbytes
            while self._bytes > self._capacity:
                self._bytes -= self._rows.popitem(last=False)[1].nbytes
