"""One photograph's part of the synthetic set: tiles cut, degraded by drawn distortions, measured, and stored.

A part depends on the photograph and the configuration alone, and is made in a process of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from iqa_runtime.errors import FileError
from iqa_runtime.images.loading import load_image
from iqa_training.distortions import DISTORTIONS, OWN_TYPES, Step, compose
from iqa_training.metrics.ensemble import TEACHERS, measure

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
class Shard:
    """The set's part that comes from one photograph, its pixels mapped from files."""

    content: str
    tiles: NDArray[np.uint8]
    degraded: NDArray[np.uint8]
    versions: tuple[Version, ...]


def make_shard(file: Path, sha256: str, config: SyntheticConfig, folder: Path) -> None:
    """Cut, degrade, measure and store one photograph; the last file to appear says that all are there.

    Raises
    ------
    FileError
        If the photograph cannot be read, or the folder not be written to.
    ImageError
        If it is no image.
    """
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
                    metrics=measure(tile, picture, measured(config), downsample=config.downsample),
                )
            )
    try:
        for kind, pictures in (("tiles", tiles), ("degraded", degraded)):
            np.save(folder / f"{sha256[:16]}.{kind}.npy", np.stack(pictures))
        temporary = shard_path(folder, sha256).with_suffix(".part")
        temporary.write_bytes(msgspec.json.encode({"file": file.name, "versions": versions}))
        temporary.replace(shard_path(folder, sha256))
    except OSError as error:
        # NumPy's own error of a full disk has no number.
        raise FileError(f"{folder}: cannot be written ({error.strerror or error}); check folder and disk") from error


def shard_path(folder: Path, sha256: str) -> Path:
    """Return the record of a photograph's part; where it is, the part is whole."""
    return folder / f"{sha256[:16]}.json"


class _Record(msgspec.Struct):
    file: str
    versions: tuple[Version, ...]


def read_shard(folder: Path, sha256: str) -> Shard:
    """Open the part of one photograph.

    Raises
    ------
    FileError
        If it is damaged.
    """
    path = shard_path(folder, sha256)
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Record)
        tiles, degraded = (
            np.load(folder / f"{sha256[:16]}.{kind}.npy", mmap_mode="r") for kind in ("tiles", "degraded")
        )
        if len(degraded) != len(record.versions) or len(tiles) <= max(version.tile for version in record.versions):
            raise ValueError(f"{len(degraded)} pictures of {len(tiles)} tiles, {len(record.versions)} recorded")
    except (OSError, EOFError, ValueError, msgspec.MsgspecError) as error:
        raise FileError(f"{path}: a damaged part of the cache ({error}); delete it and run again") from error
    return Shard(record.file, tiles, degraded, record.versions)


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
    weights = weights_of(config)
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


def measured(config: SyntheticConfig) -> list[str]:
    """Every metric that some label needs, once."""
    return list(dict.fromkeys([*config.metrics, *(name for names in config.metrics_of.values() for name in names)]))


def weights_of(config: SyntheticConfig) -> dict[str, float]:
    """Return how often each distortion type is drawn, as a multiple of the others."""
    return {name: config.emphasis.get(name, float(name not in OWN_TYPES)) for name in DISTORTIONS}
