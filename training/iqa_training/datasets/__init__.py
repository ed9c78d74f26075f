"""Readers of image-quality data sets in their published layouts, on one scale of labels, split by content."""

from __future__ import annotations

from pathlib import Path

from iqa_runtime.errors import UsageError
from iqa_training.datasets.authentic import KONIQ10K, LIVE_CHALLENGE, LIVE_FB, SPAQ
from iqa_training.datasets.base import Dataset, LabelScale, Sample
from iqa_training.datasets.plain import CSV
from iqa_training.datasets.reading import PublishedDataset
from iqa_training.datasets.referenced import CSIQ, KADID10K, LIVE, PIPAL, TID2013
from iqa_training.datasets.splitting import FRACTIONS, official_parts, select, split

__all__ = [
    "DATASETS",
    "FRACTIONS",
    "Dataset",
    "LabelScale",
    "PublishedDataset",
    "Sample",
    "official_parts",
    "read_dataset",
    "select",
    "split",
]

DATASETS: dict[str, PublishedDataset] = {
    dataset.name: dataset
    for dataset in (LIVE, CSIQ, TID2013, KADID10K, KONIQ10K, LIVE_CHALLENGE, LIVE_FB, PIPAL, SPAQ, CSV)
}
"""Every data set that can be read, by name."""


def read_dataset(name: str, root: str | Path) -> Dataset:
    """Read a data set from the folder it was unpacked to.

    Parameters
    ----------
    name
        A name in `DATASETS`.
    root
        The folder, laid out as published; for ``csv`` also the table itself.

    Returns
    -------
    Dataset
        Samples in the order of the label file. All images exist; none was decoded.

    Raises
    ------
    UsageError
        There is no such data set.
    FileError
        See `PublishedDataset.read`.
    """
    if name not in DATASETS:
        raise UsageError(f"``dataset={name}``: no such data set; give one of {', '.join(DATASETS)}")
    return DATASETS[name].read(Path(root))
