"""The plain table of one's own: `distorted,reference,mos`."""

from __future__ import annotations

import os
from pathlib import Path

from iqa_runtime.errors import FileError
from iqa_training.datasets.base import LabelScale
from iqa_training.datasets.reading import Label, PublishedDataset, observed_scale, read_table, to_number

DEFAULT_NAME = "mos.csv"
"""The table that is read where the root is a folder."""


def _plain(root: Path) -> tuple[LabelScale, list[Label]]:
    """Read a table; higher labels are better.

    Labels that all lie within 0 to 1 are taken as they are. Others are spread from the lowest to the highest observed,
    our choice: nothing in the file tells a range.
    """
    path = root / DEFAULT_NAME if root.is_dir() else root
    if path.suffix.lower() != ".csv":
        raise FileError(f"{path} is no CSV file; give a *.csv, or a folder with {DEFAULT_NAME}")
    labels = []
    rows = read_table(path, ("distorted", "reference", "mos"), optional=("type",))
    for number, row in enumerate(rows, start=1):
        if not row["distorted"]:
            raise FileError(f"{path}: row {number} after the header names no distorted image")
        # One spelling for one file, so that an image and its reference cannot come apart in a split.
        distorted = Path(os.path.normpath(row["distorted"]))
        reference = Path(os.path.normpath(row["reference"])) if row["reference"] else None
        labels.append(
            Label(
                path.parent / distorted,
                None if reference is None else path.parent / reference,
                to_number(row["mos"], path, row["distorted"]),
                (distorted if reference is None else reference).as_posix(),
                row["type"] or None,
            )
        )
    if labels and all(0.0 <= label.raw <= 1.0 for label in labels):
        return LabelScale("MOS", 0.0, 1.0), labels
    return observed_scale(labels, path), labels


CSV = PublishedDataset(
    name="csv",
    title="A table of one's own",
    url="",
    paper="",
    terms="your own",
    layout="mos.csv, with the header distorted,reference,mos and, if wanted, type; the reference may be empty; "
    "paths are relative to the table's folder; a higher mos is better",
    labels=_plain,
)
