"""Glob patterns, expanded as by a shell, but into every folder once, however many links lead to it."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator

_SEPARATORS = re.escape(os.sep + (os.altsep or ""))
_DEEP = re.compile(rf"(?:\A|(?<=[{_SEPARATORS}]))\*\*(?:[{_SEPARATORS}]+|\Z)")
"""``**`` where it crosses folders, with the separators behind it."""


def expand_pattern(pattern: str) -> list[str]:
    """List what a pattern matches, sorted only within each folder.

    Parameters
    ----------
    pattern
        ``*``, ``?`` and ``[...]`` stand for parts of a name, ``**`` for any number of folders, none included; names
        that begin with a dot must be written so. A real folder is gone into once, by the shortest way: where links lead
        round in circles, ways through them have no end, or more of them than anybody could follow.

    Returns
    -------
    list of str
        Paths, spelled as the pattern is. A folder that ``**`` cannot list matches, so that it is not passed over in
        silence.
    """
    if _DEEP.search(pattern) is None:
        return list(_matches(pattern))
    first: dict[str, str] = {}
    for path in sorted(_matches(pattern), key=lambda path: (path.count(os.sep), path)):
        folder, name = os.path.split(path)
        place = os.path.join(os.path.realpath(folder), name)  # noqa: PTH118 - texts
        # A link to what it lies in would be gone into as a folder that was named.
        if not (_is_folder(path) and place.startswith(os.path.join(os.path.realpath(path), ""))):  # noqa: PTH118
            first.setdefault(place, path)
    return list(first.values())


def _matches(pattern: str) -> Iterator[str]:
    deep = _DEEP.search(pattern)
    if deep is None:
        yield from glob.iglob(pattern)  # noqa: PTH207 - takes absolute patterns
        return
    start, rest = pattern[: deep.start()], pattern[deep.end() :]
    for root in glob.glob(start) if start else [""]:  # noqa: PTH207
        for folder, names in _folders_below(root):
            if names is None:
                yield _named(folder)
            elif rest:
                yield from _matches(glob.escape(folder) + rest)
            else:
                if folder:
                    yield _named(folder)
                if deep.group() == "**":
                    yield from (folder + name for name in names if not _is_folder(folder + name))


def _folders_below(root: str) -> Iterator[tuple[str, list[str] | None]]:
    """Yield a folder and those below it, the nearest first, each with the names in it; None if it cannot be listed."""
    seen: set[str] = set()
    level = [root] if _is_folder(root or os.curdir) else []
    while level:
        below: list[str] = []
        for folder in level:
            real = os.path.realpath(folder or os.curdir)
            if real in seen:
                continue
            seen.add(real)
            try:
                names = sorted(name for name in os.listdir(folder or os.curdir) if name[0] != ".")  # noqa: PTH208
            except OSError:
                yield folder, None
                continue
            yield folder, names
            below += [folder + name + os.sep for name in names if _is_folder(folder + name)]
        level = below


def _named(folder: str) -> str:
    return folder.rstrip(os.sep) or folder or os.curdir


def _is_folder(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - texts, and no error of a link to itself
