"""From label files to samples: tables, MATLAB files, folders without regard to case, and the checks of every reader."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from iqa_runtime.errors import FileError
from iqa_training.datasets.base import Dataset, LabelScale, Sample, some


@dataclass(frozen=True)
class Label:
    """One row of a label file, its paths worked out; fields as in `Sample`."""

    distorted: Path
    reference: Path | None
    raw: float
    content: str
    distortion: str | None = None
    part: str | None = None


@dataclass(frozen=True)
class PublishedDataset:
    """A data set whose published layout can be read.

    Attributes
    ----------
    name, title
        Such as ``tid2013`` and ``TID2013``.
    url, paper
        Where it is published and described; empty for a table of one's own.
    terms
        On what terms its owners let it be used, in short.
    layout
        The files that are read, as they lie below the root.
    labels
        Reads the label files below a root: the scale of the labels, and the labels.
    """

    name: str
    title: str
    url: str
    paper: str
    terms: str
    layout: str
    labels: Callable[[Path], tuple[LabelScale, list[Label]]]

    def read(self, root: Path) -> Dataset:
        """Read labels and check them, without decoding an image.

        Parameters
        ----------
        root
            The folder the data set was unpacked to.

        Returns
        -------
        Dataset
            Samples in the order of the label file.

        Raises
        ------
        FileError
            A label file or an image is missing, an image is listed twice, or a label is no number or outside the scale.
            The message ends in the address of the data set and its layout.
        """
        try:
            if not root.exists():
                raise FileError(f"{root} does not exist")
            scale, labels = self.labels(root)
            _check(root, scale, labels)
        except FileError as error:
            published = f" (published at {self.url})" if self.url else ""
            raise FileError(f"{error}; {self.title}{published} is read from such files: {self.layout}") from error
        samples = tuple(
            Sample(
                label.distorted,
                label.reference,
                scale.normalise(label.raw),
                label.raw,
                label.content,
                label.distortion,
                label.part,
            )
            for label in labels
        )
        has_references = all(sample.reference is not None for sample in samples)
        source = f"{self.paper}; {self.url}" if self.url else str(root)
        return Dataset(self.name, self.title, samples, scale, has_references, source, self.terms)


class Folder:
    """Finds files by name; where no name fits exactly, one that differs in upper and lower case alone.

    Data sets made on Windows list ``I01_01_1.bmp`` and hold ``i01_01_1.bmp``.

    Parameters
    ----------
    paths
        Folders that hold the files, the first one first; those that don't exist hold none.
    """

    def __init__(self, *paths: Path) -> None:
        self._default = paths[0]
        self._exact: dict[str, Path] = {}
        self._folded: dict[str, Path] = {}
        for folder in paths:
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                self._exact.setdefault(path.name, path)
                self._folded.setdefault(path.name.casefold(), path)

    def find(self, name: str) -> Path:
        """Find a file; where there is none, the path at which it was expected."""
        return self._exact.get(name) or self._folded.get(name.casefold()) or self._default / name


def read_table(
    path: Path, columns: Sequence[str], *, optional: Sequence[str] = (), sheet: str | int = 0
) -> list[dict[str, str]]:
    """Read columns of a CSV file or of an Excel sheet as text; rows that are wholly empty are left out.

    Parameters
    ----------
    path
        ``*.csv``, UTF-8 with or without a byte-order mark; or ``*.xlsx``.
    columns
        The columns wanted. The header is the first row that has them all: CSIQ's is the fourth.
    optional
        Columns that may lack; their cells are empty then.
    sheet
        Name or index of the sheet of an Excel file.

    Returns
    -------
    list of dict
        For each row the text of each column, stripped; an empty cell is an empty string.

    Raises
    ------
    FileError
        The file is missing, unreadable, or has no such columns.
    """
    require_file(path)
    excel = path.suffix.lower() == ".xlsx"
    try:
        if excel:
            frame = pd.read_excel(path, sheet_name=sheet, header=None, dtype=str, keep_default_na=False)
        else:
            frame = pd.read_csv(path, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, KeyError, OSError, BadZipFile) as error:
        raise FileError(f"{path} cannot be read as a table: {error}") from error
    # Cells that a short row lacks come as NaN, whatever the options.
    rows = [[cell.strip() if isinstance(cell, str) else "" for cell in row] for row in frame.to_numpy().tolist()]
    for index, header in enumerate(rows):
        if set(columns) <= set(header):
            places = {column: header.index(column) for column in (*columns, *optional) if column in header}
            # A sheet may hold further tables to the right; in a CSV file the same name twice is ambiguous.
            twice = [column for column in places if header.count(column) > 1]
            if twice and not excel:
                raise FileError(f"{path} has the column {twice[0]!r} twice; one must go")
            blank = dict.fromkeys(optional, "")
            table = [blank | {column: row[place] for column, place in places.items()} for row in rows[index + 1 :]]
            return [row for row in table if any(row.values())]
    raise FileError(f"{path} has no header with the columns {', '.join(columns)}")


def read_mat_numbers(path: Path, variable: str) -> NDArray[np.float64]:
    """Read a variable of a MATLAB file as a vector of numbers.

    Raises
    ------
    FileError
        The file is missing, not of a MATLAB version before 7.3, or has no such numbers.
    """
    try:
        return _read_mat(path, variable).astype(np.float64)
    except (ValueError, TypeError) as error:
        raise FileError(f"{path}: the variable {variable!r} does not hold numbers") from error


def read_mat_texts(path: Path, variable: str) -> list[str]:
    """Read a cell array of texts of a MATLAB file; raises as `read_mat_numbers`."""
    texts = _read_mat(path, variable).tolist()
    if not all(isinstance(text, str) for text in texts):
        raise FileError(f"{path}: the variable {variable!r} does not hold texts")
    return [text.strip() for text in texts]


def require_file(path: Path) -> None:
    """Raise a `FileError` where there is no file."""
    if not path.is_file():
        raise FileError(f"the label file {path} does not exist")


def to_number(text: str, path: Path, name: str) -> float:
    """Turn the label of a file into a finite number, or raise a `FileError` that names both files."""
    try:
        number = float(text)
    except ValueError as error:
        raise FileError(f"{path}: the label of {name} is {text!r}, no number") from error
    if not math.isfinite(number):
        raise FileError(f"{path}: the label of {name} is {text!r}, not finite")
    return number


def observed_scale(labels: Sequence[Label], where: Path) -> LabelScale:
    """Make the MOS scale of labels whose range nobody published: from their lowest to their highest."""
    raws = [label.raw for label in labels]
    if not raws or min(raws) == max(raws):
        raise FileError(f"{where}: a range cannot be told from labels that are none or all alike")
    return LabelScale("MOS", min(raws), max(raws))


def _read_mat(path: Path, variable: str) -> NDArray[Any]:
    """Read a variable of a MATLAB file as a vector; a cell array of texts becomes one of str."""
    require_file(path)
    try:
        values = loadmat(path, squeeze_me=True)[variable]
    except KeyError as error:
        raise FileError(f"{path} has no variable {variable!r}") from error
    except (ValueError, TypeError, NotImplementedError, OSError, MatReadError) as error:
        raise FileError(f"{path} cannot be read as a MATLAB file: {error}") from error
    return np.atleast_1d(np.asarray(values)).ravel()


def _check(root: Path, scale: LabelScale, labels: Sequence[Label]) -> None:
    """Raise a `FileError` on anything that could pair an image with a wrong label, or lacks an image."""
    if not labels:
        raise FileError(f"{root}: the label files list no image")
    for label in labels:
        if not math.isfinite(label.raw) or not scale.low <= label.raw <= scale.high:
            raise FileError(
                f"{root}: the label of {label.distorted} is {label.raw:g}, outside {scale.low:g} to {scale.high:g}"
            )
    counts = Counter(label.distorted for label in labels)
    twice = [str(path) for path, count in counts.items() if count > 1]
    if twice:
        raise FileError(f"{root}: listed more than once: {some(twice)}; each image must have one label")
    paths = dict.fromkeys(path for label in labels for path in (label.distorted, label.reference) if path is not None)
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise FileError(f"{root}: {len(missing)} of {len(paths)} listed images are missing: {some(missing)}")
