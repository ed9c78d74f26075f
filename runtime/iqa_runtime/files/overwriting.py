"""Write without losing anything: never over what a run reads, and a file whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from iqa_runtime.errors import FileError, IqaError, UsageError

Named = tuple[str, str | os.PathLike[str]]
"""What a file is to the run, in words, and its path."""

_MOST_LINKS = 40
"""Links that Linux follows from one path."""


def check_output(path: Path, suffix: str = "") -> None:
    """Refuse a path that nothing can be written to, before any work.

    Parameters
    ----------
    path
        Of the file to be written.
    suffix
        What its name must end in.

    Raises
    ------
    UsageError
        If its name ends otherwise.
    FileError
        If there is no folder for it.
    """
    if not path.name.endswith(suffix):
        raise UsageError(f"``output={path}``: the name must end in {suffix}")
    if not path.parent.is_dir():
        raise FileError(f"{path.parent}: no such folder; create it or choose another ``output``")


def check_page(path: Path) -> None:
    """Refuse a path that no page can be written to, before any work.

    Raises
    ------
    UsageError, FileError
        If it is no name of a page, or there is no folder for it; the message speaks of ``report``.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"``report={path}``: it is a page; give a name that ends in .html")
    if is_stream(path):
        raise UsageError(f"``report={path}``: no file that a page could be written to; give another name")
    if not path.parent.is_dir():
        raise FileError(f"{path.parent}: no such folder; create it or choose another ``report``")


@contextmanager
def replaced_at_once(targets: Sequence[Path]) -> Iterator[Path]:
    """Give files their new content all at once: no reader, and no crash, ever meets half of one.

    Parameters
    ----------
    targets
        Files of different names in one folder. When the block ends, each is replaced, in this order, by the file of its
        name in the folder that is yielded; one without such a file is removed. If that fails half-way, what was there
        before is put back.

    Yields
    ------
    Path
        An empty folder beside the targets to write to. If the block raises, nothing has changed.

    Raises
    ------
    FileError
        If something cannot be written, in the block or after it.
    """
    last = targets[-1]
    try:
        with tempfile.TemporaryDirectory(dir=last.parent, prefix=f".{last.stem}.") as folder:
            new, old = Path(folder, "new"), Path(folder, "old")
            new.mkdir()
            old.mkdir()
            yield new
            _exchange(targets, new, old)
    except FileError:
        raise
    except OSError as error:
        raise _unwritable(last, error) from error


def write_at_once(path: Path, content: bytes) -> None:
    """Write one file as `rewritten` does, and straight into a device or a pipe.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    try:
        straight = open_straight(path)
        if straight is not None:
            with straight:
                straight.write(content)
            return
        with rewritten(path) as new:
            new.write_bytes(content)
    except FileError:
        raise
    except OSError as error:
        raise _unwritable(path, error) from error


def open_straight(path: Path) -> BinaryIO | None:
    """Open what is no file to be replaced: a device, a pipe, or a stream of this process.

    Parameters
    ----------
    path
        ``/dev/stdout``, ``/dev/fd/63`` and the like mean what this process has open, be it a file of which only the
        rest is to be written.

    Returns
    -------
    BinaryIO or None
        None for a file, and for what does not exist.

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    descriptor = _descriptor(path)
    if descriptor is not None:
        return os.fdopen(os.dup(descriptor), "wb")
    return path.open("wb") if is_stream(path) else None


def is_stream(path: Path) -> bool:
    """Tell a device, a pipe or a stream of this process from a file and from what does not exist."""
    return _descriptor(path) is not None or (path.exists() and not path.is_file())


def _descriptor(path: Path) -> int | None:
    """Return the number of the stream of this process that a path stands for."""
    streams = {os.path.realpath(folder) for folder in ("/dev/fd", "/proc/self/fd")}
    for _ in range(_MOST_LINKS):
        if path.name.isdecimal() and os.path.realpath(path.parent) in streams:
            return int(path.name)
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    return None


@contextmanager
def rewritten(path: Path, *, keep: bool = False) -> Iterator[Path]:
    """Give one file its new content at once, where a link points to.

    A file that cannot be replaced, because it is mounted by itself or its folder is read-only, is written in place.

    Parameters
    ----------
    path
        File to be written; it may be missing.
    keep
        Whether what was written stays where the disk fails it, because it exists nowhere else.

    Yields
    ------
    Path
        Where to write the new content: a file in a folder of its own that nobody else can foresee. If the block raises,
        nothing has changed.

    Raises
    ------
    FileError
        If it cannot be written; the message says where the new content is, if any is.
    """
    target = Path(os.path.realpath(path))
    try:
        folder = _folder_beside(target)
    except OSError as error:
        raise _unwritable(path, error) from error
    new = folder / target.name
    try:
        yield new
        _put(new, target)
    except OSError as error:
        if not keep or isinstance(error, IqaError) or not (new.exists() and new.stat().st_size):
            shutil.rmtree(folder, ignore_errors=True)
            raise
        raise FileError(f"{_unwritable(path, error)}; what was to be written is in {new}") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _folder_beside(target: Path) -> Path:
    prefix = f".{target.name}."
    try:
        return Path(tempfile.mkdtemp(dir=target.parent, prefix=prefix))
    except OSError:
        if not target.is_file():
            raise
        return Path(tempfile.mkdtemp(prefix=prefix))


def _put(new: Path, target: Path) -> None:
    try:
        new.replace(target)
    except OSError:
        if not target.is_file():
            raise
        with new.open("rb") as content, target.open("r+b") as place:
            shutil.copyfileobj(content, place)
            place.truncate()


def _exchange(targets: Sequence[Path], new: Path, old: Path) -> None:
    with ExitStack() as undoing:
        for target in targets:
            replacement = new / target.name
            # Nothing can fail behind the last one: it needs no way back, and is never missing for a moment.
            if target.is_file() and not (target == targets[-1] and replacement.exists()):
                target.replace(old / target.name)
                undoing.callback((old / target.name).replace, target)
            if replacement.exists():
                replacement.replace(target)
                undoing.callback(target.unlink)
        undoing.pop_all()


def _unwritable(path: Path, error: OSError) -> FileError:
    return FileError(f"{path}: cannot write there ({error.strerror or error}); check folder and disk")


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
