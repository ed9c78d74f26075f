"""What is looked at before the first step: whether a recipe can use every picture, and can be validated."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from iqa_runtime.errors import UsageError
from iqa_training.datasets.base import some
from iqa_training.datasets.items import Entry, Source, refuse_smaller
from iqa_training.recipes.base import Recipe


def check_sources(recipe: Recipe, train: Source, validation: Source | None) -> None:
    """Refuse what would stop a run in the middle, or leave it without a validation.

    Parameters
    ----------
    recipe
        What will be trained.
    train, validation
        The two parts of the data set, or one and None.

    Raises
    ------
    UsageError
        If a picture is smaller than the recipe's crop or lacks a reference, contents are too few, or the rank
        correlation of validation is not defined: fewer than two pictures, or equal labels.
    FileError, ImageError
        If a picture cannot be read.
    """
    _check_pictures(recipe, "training", train.entries)
    if validation is None:
        return
    _check_pictures(recipe, "validation", validation.entries)
    labels = {np.float32(entry.label) for entry in validation.entries}
    if recipe.trains_score and len(labels) < 2:
        raise UsageError(
            f"validation pictures: {len(validation)}, of {len(labels)} labels; a rank correlation needs two at least: "
            "give validation a larger share, or add pictures"
        )


def _check_pictures(recipe: Recipe, part: str, entries: Sequence[Entry]) -> None:
    contents = {entry.content for entry in entries}
    if len(contents) < recipe.contents:
        raise UsageError(
            f"{part} pictures: {len(entries)}, of {len(contents)} contents; recipe {recipe.name} needs "
            f"{recipe.contents} contents: add pictures"
        )
    refuse_smaller([(entry.name, entry.height, entry.width) for entry in entries], recipe.smallest, f"{part} pictures")
    alone = [entry.name for entry in entries if entry.reference is None]
    if recipe.needs_reference and alone:
        raise UsageError(
            f"recipe {recipe.name} compares with references; {len(alone)} of {len(entries)} {part} pictures have none: "
            f"{some(alone)}"
        )


def describe_pictures(source: Source) -> str:
    """Return a phrase that changes with pictures, references, labels and their order, but not with the root's name."""
    entries = source.entries
    names = _below_shared_folder([name for entry in entries for name in (entry.name, entry.reference or "")])
    rows = [
        (*pair, entry.label, entry.height, entry.width)
        for pair, entry in zip(zip(names[::2], names[1::2], strict=True), entries, strict=True)
    ]
    return f"{len(rows)} pictures, digest {_digest(rows)}"


def describe_photographs(files: Sequence[Path]) -> str:
    """Return a phrase that changes with the names and the sizes in bytes of some photographs."""
    names = _below_shared_folder([str(file) for file in files])
    rows = [(name, file.stat().st_size) for name, file in zip(names, files, strict=True)]
    return f"{len(rows)} photographs, digest {_digest(rows)}"


def _digest(rows: Sequence[object]) -> str:
    return hashlib.sha256(msgspec.json.encode(rows)).hexdigest()[:16]


def _below_shared_folder(names: Sequence[str]) -> list[str]:
    """Leave out the folder that all names share, for a data set may move; an empty name stays empty."""
    paths = [name and os.path.abspath(name) for name in names]  # noqa: PTH100 - an empty Path is the folder one is in
    shared = os.path.commonpath([path for path in paths if path])
    return [path and os.path.relpath(path, shared) for path in paths]
