"""Refuse to write over what a run reads: before the first byte is written, not after."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from iqa_runtime.errors import FileError, UsageError

Named = tuple[str, str | os.PathLike[str]]
"""What a file is to the run, in words, and its path."""


def write_at_once(path: Path, content: bytes) -> None:
    """Replace a file by one of other content: no reader, and no crash, ever meets half of it.

    Raises
    ------
    FileError
        If it cannot be written; what was there is there still.
    """
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as folder:
            written = Path(folder, path.name)
            written.write_bytes(content)
            written.replace(path)
    except OSError as error:
        raise FileError(f"{path}: cannot write there ({error.strerror or error}); check folder and disk") from error


def check_targets(targets: Iterable[Named], sources: Iterable[Named]) -> None:
    """Check that no target is a source under whatever name: another spelling, a link, a hard link.

    A target that does not exist yet is no source either.

    Parameters
    ----------
    targets
        Files to be written, by the option that asks for them.
    sources
        Files that are only read.

    Raises
    ------
    UsageError
        If writing one would destroy another; the message names both.
    """
    existing: dict[tuple[int, int], Named] = {}
    for option, path in targets:
        identity = _identity(path)
        if identity is not None:
            existing[identity] = option, path
    if not existing:
        return
    for what, path in sources:
        identity = _identity(path)
        if identity in existing:
            option, target = existing[identity]
            raise UsageError(
                f"{option}: {os.fspath(target)} would overwrite {what} ({os.fspath(path)}); choose another"
            )


def _identity(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Return what tells a file from every other one on this host; None if there is none to lose."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
