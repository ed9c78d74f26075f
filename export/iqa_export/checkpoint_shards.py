"""Checkpoints in several files: an index names the file of each entry, as the Hugging Face libraries write it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from iqa_export.checkpoint_files import CheckpointError, read_content
from iqa_runtime.contract import FileDigest
from iqa_runtime.errors import FileError

_WHITESPACE = b"\xef\xbb\xbf \t\r\n"
_BLOCK = 2**20
_MOST_BYTES = 2**26
"""Of an index: a million entries."""
_MOST_LISTED = 5
_ONE_CHECKPOINT = "give the index and the files of one checkpoint"


def read_weights(path: Path) -> tuple[Any, dict[str, str], FileDigest]:
    """Read a file of weights, or all the files that an index names.

    Parameters
    ----------
    path
        A file as `iqa_export.checkpoint_files.read_content` takes it; or an index, such as
        ``model.safetensors.index.json``, whose files lie in its folder.

    Returns
    -------
    tuple
        The content; what safetensors files say of themselves; name and SHA-256 of the file. That of an index is taken
        over its bytes followed by those of its files, in the order of their names (``cat INDEX FILES | sha256sum``).

    Raises
    ------
    FileError
        If a file is not there or cannot be read.
    CheckpointError
        If one is something else or damaged, or holds other entries than the index says.
    """
    files = _files_of(path)
    if files is None:
        content, metadata = read_content(path)
        return content, metadata, FileDigest.of_file(path)
    absent = sorted({name for name in files.values() if not path.with_name(name).is_file()})
    if absent:
        raise FileError(
            f"{path}: {len(absent)} of its {len(set(files.values()))} files are not beside it ({_listed(absent)}); "
            "download them into its folder"
        )
    entries: dict[str, Any] = {}
    metadata = {}
    digest = _updated(sha256(), path)
    for name in sorted(set(files.values())):
        part = path.with_name(name)
        held, stated = read_content(part)
        if not isinstance(held, Mapping):
            raise CheckpointError(f"{part}: holds no entries by name; {_ONE_CHECKPOINT}")
        expected = {key for key, file in files.items() if file == name}
        # Other names of a tensor that is one in the network need no place in the index.
        known = {id(held[key]) for key in expected if key in held}
        beside = [key for key in held if key not in expected and id(held[key]) not in known]
        wrong = {"lacks": sorted(key for key in expected if key not in held), "has beside them": beside}
        if any(wrong.values()):
            said = " and ".join(f"{verb} {_listed(keys)}" for verb, keys in wrong.items() if keys)
            raise CheckpointError(f"{part}: not the entries that {path.name} says: it {said}; {_ONE_CHECKPOINT}")
        entries |= held
        metadata |= stated
        _updated(digest, part)
    return entries, metadata, FileDigest(file=path.name, sha256=digest.hexdigest())


def _files_of(path: Path) -> dict[str, str] | None:
    """Return the file of each entry of an index; None if the file is none, or cannot be read."""
    try:
        with path.open("rb") as file:
            if not file.read(64).lstrip(_WHITESPACE).startswith(b"{") or path.stat().st_size > _MOST_BYTES:
                return None
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None  # told by whoever reads it as a checkpoint
    try:
        index = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return None
    files = index.get("weight_map") if isinstance(index, _Pairs) else None
    if files is None:
        return None
    if not isinstance(files, _Pairs) or not files or not all(isinstance(name, str) for name in files.values()):
        raise CheckpointError(f"{path}: its weight_map does not name a file for each entry; download it again")
    if files.repeated:
        raise CheckpointError(
            f"{path}: its weight_map has {_listed(files.repeated)} more than once; download it again, or write it anew"
        )
    outside = sorted({name for name in files.values() if not _is_plain(name)})
    if outside:
        raise CheckpointError(
            f"{path}: its weight_map names {_listed(outside)}; the files of a checkpoint lie in the folder of its "
            "index and are named without one"
        )
    return dict(files)


class _Pairs(dict[str, Any]):
    """A JSON object that knows which of its names were there more than once."""

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        super().__init__()
        self.repeated: list[str] = []
        for key, value in pairs:
            if key in self:
                self.repeated.append(key)
            self[key] = value


def _is_plain(name: str) -> bool:
    names = PurePosixPath(name).name, PureWindowsPath(name).name
    return names == (name, name) and name not in ("", ".", "..") and name.isprintable()


def _listed(names: Iterable[object]) -> str:
    first, *others = map(repr, names)
    more = f" and {len(others) + 1 - _MOST_LISTED} more" if len(others) >= _MOST_LISTED else ""
    return ", ".join([first, *others[: _MOST_LISTED - 1]]) + more


def _updated(digest: Any, path: Path) -> Any:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest
