"""From command-line arguments to image paths, and from image paths to their references."""

from __future__ import annotations

import codecs
import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from iqa_runtime.errors import FileError, UsageError
from iqa_runtime.files.patterns import expand_pattern
from iqa_runtime.files.uris import public_name, scheme_of


def expand_inputs(arguments: Sequence[str], stdin: BinaryIO, *, null: bool = False, videos: bool = False) -> list[str]:
    """List the images that the arguments name, in a fixed order, each once.

    Parameters
    ----------
    arguments
        Each is ``-`` (a list on `stdin`), an address such as ``https://host/a.jpg``, an existing folder, an existing
        file, a glob pattern (``**`` crosses folders), or anything else, which is taken for a file that is missing. A
        folder stands for every file below it
        with the suffix of an image, be it one that cannot be read here, and every folder below it that cannot be
        listed; links to folders are not followed, so that a loop cannot hang. What a pattern matches counts as named
        one by one, as if a shell had expanded it. An existing path is never read as a pattern, so ``a[1].jpg`` needs no
        quoting.
    stdin
        Read to its end when ``-`` is among the arguments; its lines are paths, never patterns. A byte order mark of
        UTF-8 is none of the first.
    null
        Whether that list is separated by NUL instead of newlines.
    videos
        Whether a folder stands for its videos, too.

    Returns
    -------
    list of str
        Arguments in the order given; within a folder or pattern, sorted by path. A file reached twice stays at its
        first place. Paths are spelled as they were given, so that rows can be joined with whatever listed them.

    Raises
    ------
    UsageError
        If an argument is empty, a folder holds no image, a pattern matches nothing, or the list is empty.
    FileError
        If the folder that the process is in has been removed.
    """
    paths: list[str] = []
    for argument in arguments:
        if argument == "-":
            listed = _listed(stdin.read(), null=null)
            if not listed:
                raise UsageError("-: the list on standard input is empty; write one path a line")
            paths += _expand_paths(listed, videos=videos)
        elif scheme_of(argument) is None and glob.has_magic(argument) and not os.path.lexists(argument):
            matches = sorted(expand_pattern(argument), key=Path)
            if not matches:
                raise UsageError(f"{argument}: the pattern matches nothing; check it, and the folder you are in")
            paths += _expand_paths(matches, videos=videos)
        else:
            paths += _expand_paths([argument], videos=videos)
    first: dict[str, str] = {}
    for path in paths:
        first.setdefault(absolute_path(path) if scheme_of(path) is None else public_name(path), path)
    return list(first.values())


def absolute_path(path: str) -> str:
    """Make a path absolute and free of ``..``, links as they are: two links to one file are two images."""
    try:
        return os.path.abspath(path)  # noqa: PTH100 - Path.resolve() follows links, Path.absolute() keeps ``..``
    except FileNotFoundError as error:
        raise FileError(
            f"{path}: the folder you are in has been removed; change to another one, or give absolute paths"
        ) from error


def _expand_paths(paths: Iterable[str], *, videos: bool) -> list[str]:
    files: list[str] = []
    for path in paths:
        if not path:
            raise UsageError('an input is empty (""); give a path, or . for the folder you are in')
        is_folder = scheme_of(path) is None and Path(path).is_dir()
        files += _images_below(path, videos=videos) if is_folder else [path]
    return files


def _listed(content: bytes, *, null: bool) -> list[str]:
    content = content.removeprefix(codecs.BOM_UTF8)
    if null:
        return [os.fsdecode(path) for path in content.split(b"\0") if path]
    lines = [os.fsdecode(line.rstrip(b"\r")) for line in content.split(b"\n")]
    return [line for line in lines if line.strip()]


def _images_below(folder: str, *, videos: bool) -> list[str]:
    from iqa_runtime.images.formats import IMAGE_SUFFIXES, UNREAD_SUFFIXES
    from iqa_runtime.video.containers import UNREAD_VIDEO_SUFFIXES, VIDEO_SUFFIXES

    read = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) if videos else IMAGE_SUFFIXES
    listed = (*read, *UNREAD_SUFFIXES, *(UNREAD_VIDEO_SUFFIXES if videos else ()))
    unlisted: list[str] = []
    found = [
        os.path.join(parent, name)  # noqa: PTH118 - Path would drop a leading ./
        for parent, _, names in os.walk(folder, onerror=lambda error: unlisted.append(os.fsdecode(error.filename)))
        for name in names
        # What macOS keeps beside a file has the file's suffix.
        if name.lower().endswith(listed) and not name.startswith("._")
    ]
    if not found and not unlisted:
        raise UsageError(f"{folder}: no image in this folder; files ending in {', '.join(read)} are looked for")
    return sorted([*found, *unlisted], key=Path)


def pair_references(images: Sequence[str], reference: str) -> str | list[str]:
    """Choose the reference of every image.

    Parameters
    ----------
    images
        Paths of the images.
    reference
        A file or an address is the reference of all. A folder pairs by literal file name: ``shots/kite.jpg`` belongs to
        ``<reference>/kite.jpg``, whether that exists or not; a missing one becomes an error when it is read.

    Raises
    ------
    UsageError
        If `reference` is empty.
    FileError
        If it does not exist.
    """
    if not reference:
        raise UsageError('the reference is empty (""); give a path, or . for the folder you are in')
    if scheme_of(reference) is not None:
        return reference
    folder = Path(reference)
    if not folder.exists():
        raise FileError(
            f"{reference}: no such reference; give an image, or a folder with one per image by the same name"
        )
    if folder.is_dir():
        return [str(folder / Path(image).name) for image in images]
    return reference
