"""The exceptions of iqa-deploy: one small tree, each also the built-in that fits.

Every message says what went wrong, where, and what to do about it, so that a caller can show it as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class IqaError(Exception):
    """Base of every error that iqa-deploy raises on purpose."""


class UsageError(IqaError, ValueError):
    """The caller's arguments don't fit each other or the artefact."""


class ArtefactError(IqaError, ValueError):
    """A file is not an artefact, or its contract is missing, invalid or of another schema version."""


class FileError(IqaError, OSError):
    """A file or folder cannot be found, read or written."""


class ImageError(IqaError, ValueError):
    """An image cannot be scored: unknown format, truncated, corrupt, or over the pixel limit."""


class ResourceError(UsageError, ImageError):
    """Memory or threads are short, whatever the image: at another time, or with more of them, it may be scored."""


class BackendError(IqaError, RuntimeError):
    """A backend cannot load or run an artefact, or returned something that is no score."""


class DependencyError(IqaError, ImportError):
    """An optional package is needed and not installed; the message names the extra that brings it."""


def one_line(error: BaseException) -> str:
    """Return what another library's exception says, for a message of ours: on one line, its type where it is silent."""
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: BaseException) -> str:
    """Return the type of another library's exception and the first line of what it says, for a message of ours."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


@contextmanager
def starting_threads() -> Iterator[None]:
    """Say what it means that a thread cannot be started.

    Raises
    ------
    ResourceError
        In the place of that `RuntimeError`.
    """
    try:
        yield
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
        raise ResourceError(
            "no further thread can be started; give fewer ``threads``, or let the process have more of them and more "
            "memory"
        ) from error


@contextmanager
def needing(what: str, *, extras: str) -> Iterator[None]:
    """Say of imports that fail within which extras bring `what`.

    Raises
    ------
    DependencyError
        In the place of an `ImportError`.
    """
    try:
        yield
    except ImportError as error:
        raise DependencyError(f'{error}; install {what}: pip install "iqa-deploy[{extras}]"') from error
