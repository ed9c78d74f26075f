"""A lock on a file to be written: of two runs that would write it, the second ends before it has done anything."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from iqa_runtime.errors import UsageError


@contextmanager
def locked(path: Path, parameter: str = "output") -> Iterator[None]:
    """Keep other runs from writing a file while the block lasts.

    The lock is on ``.<name>.lock`` beside the file and, so that hard links and mounts of it count too, on the file
    itself if there is one. The system drops both with the process, so that a killed run locks nothing; the empty file
    it may leave is taken over, and removed, by the next one. Where no lock can be had (a folder that is read-only, a
    file system without locks) there is none. A device or a pipe has none either.

    Parameters
    ----------
    path
        File to be written; it may be missing. What it links to is locked.
    parameter
        What messages call it.

    Raises
    ------
    UsageError
        If another run has it.
    """
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{target.name}.lock")
    with ExitStack() as held:
        if not path.exists() or target.is_file():
            try:
                _take(held, beside, os.O_CREAT)
                # Windows would keep ourselves from writing the file.
                if target.is_file() and sys.platform != "win32":
                    _take(held, target, 0)
            except BlockingIOError:
                raise UsageError(
                    f"``{parameter}={path}``: another run is writing it; wait for it, or choose another"
                ) from None
        yield


def _take(held: ExitStack, path: Path, flags: int) -> None:
    """Lock a file; raises BlockingIOError if somebody else has, and does nothing where there can be no lock."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY | flags | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError:
            return
        with ExitStack() as opened:
            opened.callback(os.close, descriptor)
            try:
                _lock(descriptor)
            except BlockingIOError:
                raise
            except OSError:
                return
            # Whoever had the lock may have removed the file meanwhile: what is locked is then another's no more.
            if not _is_still(path, descriptor):
                continue
            if flags:
                opened.callback(_remove, path)
            held.push(opened.pop_all())
            return


def _remove(path: Path) -> None:
    with suppress(OSError):  # Windows removes no file that is open
        path.unlink()


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError from error
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
