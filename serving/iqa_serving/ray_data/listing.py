"""What a run on a cluster reads: image files, Parquet files or tar archives, on this file system or in a store."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from iqa_runtime import FileError, UsageError
from iqa_runtime.errors import one_line
from iqa_runtime.files.arrow_stores import ARROW_STORES
from iqa_runtime.files.inputs import absolute_path, expand_inputs
from iqa_runtime.files.uris import public_name, scheme_of
from iqa_runtime.images.formats import IMAGE_SUFFIXES, UNREAD_SUFFIXES


class Kind(Enum):
    """What files are, by their suffix."""

    IMAGES = "images"
    TABLES = ".parquet"
    ARCHIVES = ".tar"


@dataclass(frozen=True, slots=True)
class Place:
    """A file.

    Attributes
    ----------
    name
        What rows and messages call it: as it was given, and of an address what may be shown.
    address
        Where it is: an absolute path, or an address.
    """

    name: str
    address: str


def find_places(inputs: Sequence[str]) -> tuple[Kind, list[Place]]:
    """List the files that inputs name, each once.

    Parameters
    ----------
    inputs
        Of this file system as for ``iqa-run``; in ``s3://`` and ``gs://`` an object, a folder that ends in a slash, or
        a pattern, whose ``**`` crosses folders.

    Raises
    ------
    UsageError
        If there is nothing, or files of several kinds.
    FileError
        If a store cannot be asked.
    """
    places: list[Place] = []
    for given in inputs:
        if scheme_of(given) in ARROW_STORES:
            places += (Place(public_name(found), found) for found in _in_store(given))
        elif scheme_of(given) is not None:
            places.append(Place(public_name(given), given))
        else:
            paths = expand_inputs([given], sys.stdin.buffer)
            places += (Place(public_name(path), path if scheme_of(path) else absolute_path(path)) for path in paths)
    first: dict[str, Place] = {}
    for place in places:
        first.setdefault(place.address, place)
    kinds = {_kind_of(address) for address in first}
    if len(kinds) > 1:
        found = " and ".join(sorted(kind.value for kind in kinds))
        raise UsageError(f"{' '.join(inputs)}: {found} in one run; score each kind on its own")
    return kinds.pop(), list(first.values())


def open_system(address: str) -> tuple[Any, str]:
    """Return the file system of pyarrow that has an address, and the path there.

    Raises
    ------
    FileError
        If there is none.
    """
    import pyarrow as pa
    from pyarrow.fs import FileSystem, LocalFileSystem

    if scheme_of(address) is None:
        return LocalFileSystem(), absolute_path(address)
    try:
        system, path = FileSystem.from_uri(address)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FileError(
            f"{public_name(address)}: no such store ({one_line(error)}); give a path, s3:// or gs://"
        ) from error
    return system, path


def _kind_of(path: str) -> Kind:
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 - also of addresses
    return next((kind for kind in (Kind.TABLES, Kind.ARCHIVES) if kind.value == suffix), Kind.IMAGES)


def _in_store(given: str) -> list[str]:
    from fsspec.utils import glob_translate
    from pyarrow.fs import FileSelector, FileType

    is_pattern = glob.has_magic(given)
    if not is_pattern and not given.endswith("/"):
        return [given]
    # The folder above the first name with a wildcard: all below it is listed, and matched here.
    folder = re.split(r"[^/]*[*?\[]", given, maxsplit=1)[0]
    scheme = folder.partition("://")[0]
    system, path = open_system(folder.rstrip("/"))
    try:
        listed = system.get_file_info(FileSelector(path, recursive=True))
    except OSError as error:
        raise FileError(f"{public_name(given)}: cannot be listed ({one_line(error)}); check the address") from error
    files = sorted(f"{scheme}://{info.path}" for info in listed if info.type is FileType.File)
    if is_pattern:
        matches = re.compile(glob_translate(given)).match
        found = [file for file in files if matches(file)]
    else:
        found = [file for file in files if file.lower().endswith((*IMAGE_SUFFIXES, *UNREAD_SUFFIXES))]
    if not found:
        what = "the pattern matches nothing" if is_pattern else "no image in this folder"
        raise UsageError(f"{public_name(given)}: {what}; check the address")
    return found
