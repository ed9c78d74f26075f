"""Images that are called by another name than a path to read: a row of a table, a file of another host."""

from __future__ import annotations

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
