"""The synthetic labelled set: pristine photographs, degraded by drawn distortions, labelled by full-reference metrics.

The idea is that of KADIS-700k and DeepFL-IQA (Lin et al., arXiv 2001.08113): nobody has to judge the pictures, because
the pristine original is at hand and metrics that agree well with people can compare. Labels are the mean of the
metrics' quantile ranks (`iqa_training.metrics.ensemble`): spread over [0, 1], 1 for the original.

Work is cached photograph by photograph in a folder named by the digest of photographs and configuration, so that an
interrupted run goes on where it was, and the next one with the same set costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from iqa_runtime.contract import FileDigest
from iqa_runtime.errors import FileError, UsageError
from iqa_runtime.images.formats import IMAGE_SUFFIXES
from iqa_training.datasets.items import Entry, Item, picture_size, refuse_smaller
from iqa_training.datasets.synthetic_shards import (
    Shard,
    SyntheticConfig,
    make_shard,
    measured,
    read_shard,
    shard_path,
    weights_of,
)
from iqa_training.distortions import DISTORTIONS, Step
from iqa_training.metrics import METRICS
from iqa_training.metrics.ensemble import QuantileScale, label


class SyntheticSet:
    """Labelled pictures of some photographs, read from the cache as they are asked for.

    Attributes
    ----------
    digest
        Of the whole set that these are a part of, as `set_digest` makes it.
    """

    def __init__(self, shards: Sequence[Shard], labels: NDArray[np.float64], digest: str) -> None:
        self.digest = digest
        self._shards = shards
        self._where = [(shard, index) for shard in shards for index in range(len(shard.versions))]
        self._labels = labels

    def __len__(self) -> int:
        return len(self._where)

    @property
    def labels(self) -> NDArray[np.float64]:
        """Label of every picture, (N,), 0 to 1."""
        return self._labels

    @cached_property
    def entries(self) -> Sequence[Entry]:
        """What is known of every picture, in order."""
        entries = []
        for (shard, position), rank in zip(self._where, self._labels.tolist(), strict=True):
            tile = shard.versions[position].tile
            content = f"{shard.content}:{tile}"
            entries.append(Entry(f"{content}, version {position}", content, rank, content, *shard.tiles.shape[1:3]))
        return entries

    def item(self, index: int) -> Item:
        """Return one picture with its pristine tile and label."""
        shard, position = self._where[index]
        version = shard.versions[position]
        return Item(
            distorted=shard.degraded[position],
            reference=shard.tiles[version.tile],
            label=float(self._labels[index]),
            content=f"{shard.content}:{version.tile}",
            distortion=version.distortion,
            steps=tuple(Step(name, severity) for name, severity in version.steps),
        )


def build_synthetic(
    photographs: Path,
    config: SyntheticConfig,
    cache: Path,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[SyntheticSet, SyntheticSet]:
    """Return the training and the validation set of a folder of pristine photographs, making what is not cached.

    Parameters
    ----------
    photographs
        Folder, searched with all below it.
    config
        What to make.
    cache
        Folder for the pictures; about ``photographs * tiles * (versions + 1)`` tiles of ``3 * tile ** 2`` bytes.
    workers
        Processes.
    progress
        Called with photographs done and photographs in all.

    Returns
    -------
    tuple of SyntheticSet
        Of other photographs each. Ranks become labels by the training set's scale in both.

    Raises
    ------
    FileError
        If there are fewer than two photographs, one cannot be read, the cache cannot be written, or a process was
        ended from outside.
    ImageError
        If a file is no image.
    UsageError
        If the configuration names unknown distortions or ranges that are none, or a photograph is smaller than a tile.
    """
    _check(config)
    # A photograph that is there twice counts once.
    found = {FileDigest.of_file(file).sha256: file for file in find_photographs(photographs, config.tile)}
    digests, files = list(found), list(found.values())
    if len(files) < 2:
        raise FileError(f"{photographs}: one photograph, however often; training and validation need one each at least")
    digest = set_digest(digests, config)
    folder = cache / f"synthetic-{digest[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: cannot be made ({error.strerror}); choose another cache folder") from error
    missing = [(file, sha) for file, sha in zip(files, digests, strict=True) if not shard_path(folder, sha).is_file()]
    report = progress or _silent
    report(len(files) - len(missing), len(files))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(make_shard, file, sha, config, folder) for file, sha in missing]
        for done, task in enumerate(as_completed(tasks), start=len(files) - len(missing) + 1):
            try:
                task.result()
            except BrokenProcessPool as error:
                raise FileError(
                    f"{folder}: a process that degrades photographs was ended, as a host short of memory does; "
                    "use fewer threads, and run again to go on"
                ) from error
            report(done, len(files))
    shards = [read_shard(folder, sha) for sha in digests]
    validating = held_back(digests, config)
    parts = [
        [shard for sha, shard in zip(digests, shards, strict=True) if (sha in validating) == validation]
        for validation in (False, True)
    ]
    tables = [{name: _column(part, name) for name in measured(config)} for part in parts]
    # Fitted on degraded pictures alone: the many pristine ones, equal in every metric, then lie at the very top.
    degraded = np.array([bool(version.steps) for shard in parts[0] for version in shard.versions])
    scales = {
        name: QuantileScale.fit(values[degraded], METRICS[name].higher_is_better) for name, values in tables[0].items()
    }
    train, validation = (
        SyntheticSet(part, _labels(part, table, scales, config), digest)
        for part, table in zip(parts, tables, strict=True)
    )
    return train, validation


def find_photographs(folder: Path, side: int) -> list[Path]:
    """Return the image files of a folder and all below it, sorted; at least two, one for each part of the set.

    Parameters
    ----------
    folder
        Where to search.
    side
        Of what is cut from a photograph, pixels.

    Raises
    ------
    FileError
        If there are fewer, or one cannot be read.
    ImageError, UsageError
        If one is no image, or smaller.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if len(files) < 2:
        raise FileError(f"{folder}: {len(files)} photographs there; training and validation need one each at least")
    refuse_smaller([(str(file), *picture_size(file)) for file in files], side, f"{folder}: photographs")
    return files


def held_back(photographs: Sequence[str], config: SyntheticConfig) -> set[str]:
    """Return which photographs validate, of the SHA-256 of all: by digest and not by name, so that renaming moves none.

    Parameters
    ----------
    photographs
        Two at least, in any order.
    config
        Its `validation` and `seed` decide, and nothing else.
    """
    order = np.random.default_rng(config.seed).permutation(sorted(photographs)).tolist()
    return set(order[: min(max(1, round(config.validation * len(order))), len(order) - 1)])


def set_digest(photographs: Sequence[str], config: SyntheticConfig) -> str:
    """Return the SHA-256 that names a set: of the photographs' digests, in any order, and the configuration."""
    text = "\n".join(sorted(photographs)) + msgspec.json.encode(config, order="sorted").decode()
    return hashlib.sha256(text.encode()).hexdigest()


def _silent(done: int, total: int) -> None:
    """Take a progress report and do nothing."""
    del done, total


def _check(config: SyntheticConfig) -> None:
    unmeasured = sorted(set(measured(config)) - set(METRICS))
    if unmeasured or not all([config.metrics, *config.metrics_of.values()]):
        raise UsageError(f"metrics: {', '.join(unmeasured) or 'none'}; there is {', '.join(METRICS)}")
    for field, named in (("emphasis", config.emphasis), ("metrics_of", config.metrics_of)):
        unknown = sorted(set(named) - set(DISTORTIONS))
        if unknown:
            raise UsageError(f"{field}: no distortion {', '.join(unknown)}; there is {', '.join(DISTORTIONS)}")
    if not all(np.isfinite(weight) and weight >= 0 for weight in config.emphasis.values()):
        raise UsageError("emphasis: weights are numbers from 0 on")
    if not any(weights_of(config).values()):
        raise UsageError("emphasis: every distortion has the weight 0; leave one some weight")
    if config.shortest[0] > config.shortest[1] or config.shortest[0] < config.tile:
        raise UsageError(f"shortest: {config.shortest}; give two sides from {config.tile} (the tile) on, smaller first")
    if not 0 < config.severity[0] <= config.severity[1] <= 5:
        raise UsageError(f"severity: {config.severity}; give two numbers above 0, up to 5, smaller first")


def _labels(
    shards: Sequence[Shard],
    table: dict[str, NDArray[np.float64]],
    scales: dict[str, QuantileScale],
    config: SyntheticConfig,
) -> NDArray[np.float64]:
    """Label each picture by the teachers of its type."""
    labels = label({name: table[name] for name in config.metrics}, scales)
    distortions = np.array([str(version.distortion) for shard in shards for version in shard.versions])
    for distortion, names in config.metrics_of.items():
        labels = np.where(distortions == distortion, label({name: table[name] for name in names}, scales), labels)
    return labels


def _column(shards: Sequence[Shard], name: str) -> NDArray[np.float64]:
    return np.array([version.metrics[name] for shard in shards for version in shard.versions])
