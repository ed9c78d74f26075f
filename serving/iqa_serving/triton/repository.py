"""Writing models into a repository: all of them or none, and over nothing but what was written so before."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from iqa_runtime.errors import FileError, UsageError
from iqa_serving.triton.config import to_text
from iqa_serving.triton.models import CROPS_SUFFIX, REFERENCE_SUFFIX, Model

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CONFIG, _VERSION = "config.pbtxt", "1"
_HEADER = "# Written by iqa-triton for {name}. --overwrite replaces these files, and refuses where there are others:\n"
_LISTED = "#   "


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a folder and stand in an address.

    Raises
    ------
    UsageError
        If it cannot.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"``name={name}``: a model's name is of letters of ASCII, digits, '.', '_' and '-'; give another"
        )


def write_models(repository: Path, name: str, models: Sequence[Model], *, overwrite: bool) -> list[Path]:
    """Write the models made from an artefact.

    They are written beside their places and then moved there, so that no server meets half of one. Until then a folder
    ``.iqa-triton.*`` is in the repository.

    Parameters
    ----------
    repository
        Folder; it is made if only itself is missing.
    name
        Of the model that takes images. Former models of it that are not among `models` go, too.
    models
        What to write.
    overwrite
        Whether models of these names may be replaced.

    Returns
    -------
    list of Path
        The folders of the models.

    Raises
    ------
    UsageError
        If there is something that may not be replaced.
    FileError
        If something cannot be written; nothing has changed then.
    """
    new = {model.name: model for model in models}
    try:
        repository.mkdir(exist_ok=True)
        former = [
            each
            for each in (name, name + CROPS_SUFFIX, name + REFERENCE_SUFFIX)
            if _is_there(repository / each, name, is_wanted=each in new, overwrite=overwrite)
        ]
        with TemporaryDirectory(dir=repository, prefix=".iqa-triton.") as folder, ExitStack() as undoing:
            aside = Path(folder, "former")
            aside.mkdir()
            for model in models:
                _write(Path(folder, model.name), name, model)
            for each in former:
                (repository / each).rename(aside / each)
                undoing.callback((aside / each).rename, repository / each)
            for each in new:
                Path(folder, each).rename(repository / each)
                undoing.callback((repository / each).rename, Path(folder, each))
            undoing.pop_all()
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(
            f"{repository}: cannot write there ({error.strerror or error}); check folder and disk"
        ) from error
    return [repository / each for each in new]


def _is_there(folder: Path, name: str, *, is_wanted: bool, overwrite: bool) -> bool:
    """Tell whether a model that is to be replaced or removed is there; refuse where there is anything else."""
    if not (folder.exists() or folder.is_symlink()):
        return False
    listed = _listed(folder, name)
    if not is_wanted and not listed:  # somebody's, and not in the way
        return False
    if not overwrite:
        raise UsageError(f"{folder}: it is there already; add ``overwrite=True``, or give another ``name``")
    others = sorted(_found(folder) - listed)
    if others or not listed:
        what = f"{others[0]} in it was" if listed else "it was"
        raise UsageError(
            f"{folder}: {what} not written by iqa-triton for {name}; move it away, or give another ``name``"
        )
    return True


def _listed(folder: Path, name: str) -> set[str]:
    """Return the files of a model that was written for one of that name; none if it was not."""
    try:
        header, *lines = (folder / _CONFIG).read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, ValueError):
        return set()
    if header != _HEADER.format(name=name):
        return set()
    return {line.removeprefix(_LISTED).rstrip("\n") for line in lines if line.startswith(_LISTED)}


def _found(folder: Path) -> set[str]:
    """Return the files in a folder, and folders that are no version of ours; Python's caches don't count."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if "__pycache__" not in path.parts]
    return {path.as_posix() for path in paths} - {_VERSION}


def _write(folder: Path, name: str, model: Model) -> None:
    version = folder / _VERSION
    version.mkdir(parents=True)
    for file, content in model.files.items():
        (version / file).write_bytes(content)
    written = [_CONFIG, *(f"{_VERSION}/{file}" for file in model.files)]
    header = _HEADER.format(name=name) + "".join(f"{_LISTED}{path}\n" for path in written)
    (folder / _CONFIG).write_text(header + to_text(model.config), encoding="utf-8", newline="\n")
