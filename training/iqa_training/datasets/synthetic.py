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
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import cv2
import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from iqa_runtime.contract import FileDigest
from iqa_runtime.errors import FileError, UsageError
from iqa_runtime.images.formats import IMAGE_SUFFIXES
from iqa_runtime.images.loading import load_image
from iqa_training.datasets.items import Entry, Item, picture_size, refuse_smaller
from iqa_training.distortions import DISTORTIONS, OWN_TYPES, Step, compose
from iqa_training.metrics import METRICS
from iqa_training.metrics.ensemble import TEACHERS, QuantileScale, label, measure

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]


class SyntheticConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the set is made of.

    Attributes
    ----------
    tile
        Side of the square pictures, pixels.
    tiles, versions
        Tiles cut from each photograph, and degraded versions of each tile. The tile itself is in the set too, with the
        label 1, once for every `versions` degraded ones.
    shortest
        Before a tile is cut, the photograph is scaled down so that its shorter side is this long, drawn between the
        two: test sets and screens show whole pictures at such sizes, and scaling hides the original's own noise.
    composed
        Share of the versions with two, three or four distortions one after the other; the others have one.
    severity
        Severities are drawn evenly between the two.
    emphasis
        How often a distortion type is drawn as a multiple of the others; where it is not named, 1 for the types of
        KADID-10k and 0 for those beyond it.
    metrics, downsample
        The teachers, and the factor by which they shrink the tile before they compare.
    metrics_of
        Other teachers for the pictures with a single distortion of a type, for types that the common ones misjudge.
    validation
        Share of the photographs set apart for validation.
    seed
        Of every draw. Equal photographs, seeds and settings give equal sets.
    """

    tile: Annotated[int, Meta(ge=64)] = 256
    tiles: Count = 20
    versions: Count = 8
    shortest: tuple[Count, Count] = (400, 1000)
    composed: Share = 0.2
    severity: tuple[float, float] = (0.2, 5.0)
    emphasis: dict[str, float] = {}
    metrics: tuple[str, ...] = TEACHERS
    metrics_of: dict[str, tuple[str, ...]] = {}
    downsample: Count = 2
    validation: Share = 0.1
    seed: int = 0


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One picture of the set: which tile, what was done to it, what the metrics say."""

    tile: int
    steps: tuple[tuple[str, float], ...]
    metrics: dict[str, float]

    @property
    def distortion(self) -> str | None:
        """Name of its distortion; ``composed`` for several; None for the pristine tile."""
        if not self.steps:
            return None
        return self.steps[0][0] if len(self.steps) == 1 else "composed"


@dataclass(frozen=True)
class _Shard:
    """The set's part that comes from one photograph, its pixels mapped from files."""

    content: str
    tiles: NDArray[np.uint8]
    degraded: NDArray[np.uint8]
    versions: tuple[Version, ...]


class SyntheticSet:
    """Labelled pictures of some photographs, read from the cache as they are asked for.

    Attributes
    ----------
    digest
        Of the whole set that these are a part of, as `set_digest` makes it.
    """

    def __init__(self, shards: Sequence[_Shard], labels: NDArray[np.float64], digest: str) -> None:
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
    missing = [(file, sha) for file, sha in zip(files, digests, strict=True) if not _path(folder, sha).is_file()]
    report = progress or _silent
    report(len(files) - len(missing), len(files))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(_make_shard, file, sha, config, folder) for file, sha in missing]
        for done, task in enumerate(as_completed(tasks), start=len(files) - len(missing) + 1):
            try:
                task.result()
            except BrokenProcessPool as error:
                raise FileError(
                    f"{folder}: a process that degrades photographs was ended, as a host short of memory does; "
                    "use fewer threads, and run again to go on"
                ) from error
            report(done, len(files))
    shards = [_read_shard(folder, sha) for sha in digests]
    # By digest and not by name, so that renaming a file moves no photograph from one part to the other.
    order = np.random.default_rng(config.seed).permutation(sorted(digests)).tolist()
    held_back = set(order[: min(max(1, round(config.validation * len(order))), len(order) - 1)])
    parts = [
        [shard for sha, shard in zip(digests, shards, strict=True) if (sha in held_back) == validation]
        for validation in (False, True)
    ]
    tables = [{name: _column(part, name) for name in _measured(config)} for part in parts]
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


def set_digest(photographs: Sequence[str], config: SyntheticConfig) -> str:
    """Return the SHA-256 that names a set: of the photographs' digests, in any order, and the configuration."""
    text = "\n".join(sorted(photographs)) + msgspec.json.encode(config, order="sorted").decode()
    return hashlib.sha256(text.encode()).hexdigest()


def _silent(done: int, total: int) -> None:
    """Take a progress report and do nothing."""
    del done, total


def _check(config: SyntheticConfig) -> None:
    unmeasured = sorted(set(_measured(config)) - set(METRICS))
    if unmeasured or not all([config.metrics, *config.metrics_of.values()]):
        raise UsageError(f"metrics: {', '.join(unmeasured) or 'none'}; there is {', '.join(METRICS)}")
    for field, named in (("emphasis", config.emphasis), ("metrics_of", config.metrics_of)):
        unknown = sorted(set(named) - set(DISTORTIONS))
        if unknown:
            raise UsageError(f"{field}: no distortion {', '.join(unknown)}; there is {', '.join(DISTORTIONS)}")
    if not all(np.isfinite(weight) and weight >= 0 for weight in config.emphasis.values()):
        raise UsageError("emphasis: weights are numbers from 0 on")
    if not any(_weights(config).values()):
        raise UsageError("emphasis: every distortion has the weight 0; leave one some weight")
    if config.shortest[0] > config.shortest[1] or config.shortest[0] < config.tile:
        raise UsageError(f"shortest: {config.shortest}; give two sides from {config.tile} (the tile) on, smaller first")
    if not 0 < config.severity[0] <= config.severity[1] <= 5:
        raise UsageError(f"severity: {config.severity}; give two numbers above 0, up to 5, smaller first")


def _measured(config: SyntheticConfig) -> list[str]:
    """Every metric that some label needs, once."""
    return list(dict.fromkeys([*config.metrics, *(name for names in config.metrics_of.values() for name in names)]))


def _weights(config: SyntheticConfig) -> dict[str, float]:
    return {name: config.emphasis.get(name, float(name not in OWN_TYPES)) for name in DISTORTIONS}


def _labels(
    shards: Sequence[_Shard],
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


def _column(shards: Sequence[_Shard], name: str) -> NDArray[np.float64]:
    return np.array([version.metrics[name] for shard in shards for version in shard.versions])


def _make_shard(file: Path, sha256: str, config: SyntheticConfig, folder: Path) -> None:
    """Cut, degrade, measure and store one photograph; the last file to appear says that all are there."""
    cv2.setNumThreads(1)  # one process a core already
    pixels = load_image(file)
    tiles, degraded, versions = [], [], []
    for index in range(config.tiles):
        rng = np.random.default_rng([config.seed, int(sha256[:12], 16), index])
        tile = _cut(pixels, config, rng)
        tiles.append(tile)
        plans = [(), *(_draw_steps(config, rng) for _ in range(config.versions))]
        for steps in plans:
            picture = compose(tile, steps, rng) if steps else tile
            degraded.append(picture)
            versions.append(
                Version(
                    tile=index,
                    steps=tuple((step.name, step.severity) for step in steps),
                    metrics=measure(tile, picture, _measured(config), downsample=config.downsample),
                )
            )
    try:
        for kind, pictures in (("tiles", tiles), ("degraded", degraded)):
            np.save(folder / f"{sha256[:16]}.{kind}.npy", np.stack(pictures))
        temporary = _path(folder, sha256).with_suffix(".part")
        temporary.write_bytes(msgspec.json.encode({"file": file.name, "versions": versions}))
        temporary.replace(_path(folder, sha256))
    except OSError as error:
        # NumPy's own error of a full disk has no number.
        raise FileError(f"{folder}: cannot be written ({error.strerror or error}); check folder and disk") from error


def _path(folder: Path, sha256: str) -> Path:
    return folder / f"{sha256[:16]}.json"


class _Record(msgspec.Struct):
    file: str
    versions: tuple[Version, ...]


def _read_shard(folder: Path, sha256: str) -> _Shard:
    path = _path(folder, sha256)
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Record)
        tiles, degraded = (
            np.load(folder / f"{sha256[:16]}.{kind}.npy", mmap_mode="r") for kind in ("tiles", "degraded")
        )
        if len(degraded) != len(record.versions) or len(tiles) <= max(version.tile for version in record.versions):
            raise ValueError(f"{len(degraded)} pictures of {len(tiles)} tiles, {len(record.versions)} recorded")
    except (OSError, EOFError, ValueError, msgspec.MsgspecError) as error:
        raise FileError(f"{path}: a damaged part of the cache ({error}); delete it and run again") from error
    return _Shard(record.file, tiles, degraded, record.versions)


def _cut(pixels: NDArray[np.uint8], config: SyntheticConfig, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Scale the photograph down and cut a tile."""
    height, width = pixels.shape[:2]
    longest_short_side = min(config.shortest[1], height, width)
    scale = rng.uniform(min(config.shortest[0], longest_short_side), longest_short_side) / min(height, width)
    size = (max(config.tile, round(width * scale)), max(config.tile, round(height * scale)))
    smaller = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    top = rng.integers(smaller.shape[0] - config.tile, endpoint=True)
    left = rng.integers(smaller.shape[1] - config.tile, endpoint=True)
    return np.ascontiguousarray(smaller[top : top + config.tile, left : left + config.tile], dtype=np.uint8)


def _draw_steps(config: SyntheticConfig, rng: np.random.Generator) -> tuple[Step, ...]:
    """Draw one distortion or, for the composed share, two to four of different groups."""
    count = int(rng.integers(2, 4, endpoint=True)) if rng.random() < config.composed else 1
    weights = _weights(config)
    steps = []
    for _ in range(count):
        names = list(weights)
        shares = np.array([weights[name] for name in names])
        if shares.sum() == 0:
            break
        name = names[rng.choice(len(names), p=shares / shares.sum())]
        steps.append(Step(name, float(rng.uniform(*config.severity))))
        group = DISTORTIONS[name].group
        weights = {other: weight for other, weight in weights.items() if DISTORTIONS[other].group != group}
    return tuple(steps)
