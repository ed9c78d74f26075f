"""Images that are called by another name than a path to read: a row of a table, a file of another host."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Hashable


class NamedImage(ABC):
    """An encoded image under a name of its own; it is read when it is decoded.

    Parameters
    ----------
    name
        What results and messages call it.
    """

    file: str | None = None
    """Path of the file that it is; None if it is none of this host."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def identity(self) -> Hashable | None:
        """What tells its content from others without reading it, while the process lasts; None if nothing does."""
        return None

    @abstractmethod
    def read(self) -> bytes:
        """Return the encoded image.

        Raises
        ------
        IqaError
            If it cannot be had; the message begins with its name or path.
        """


class StoredImage(NamedImage):
    """An image whose bytes are there already: from a table, or from a client.

    Parameters
    ----------
    name
        What results and messages call it.
    data
        The encoded image.
    """

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(name)
        self._data = data

    @property
    def identity(self) -> Hashable:
        """Digest of its bytes, so that a reference which is given again is known."""
        return hashlib.blake2b(self._data, digest_size=16).digest()

    def read(self) -> bytes:
        """Return the bytes."""
        return self._data
