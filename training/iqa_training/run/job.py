"""One training run: configuration and data to a folder with the best checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from iqa_runtime import __version__
from iqa_runtime.contract import FileDigest
from iqa_runtime.errors import FileError, UsageError
from iqa_runtime.files.overwriting import write_at_once
from iqa_training.configuration import SYNTHETIC, RunConfig, read_config
from iqa_training.datasets import read_dataset, select, split
from iqa_training.datasets.items import DatasetSource, Source
from iqa_training.datasets.synthetic import build_synthetic
from iqa_training.loop import fit
from iqa_training.recipes import build_recipe
from iqa_training.recipes.base import Recipe
from iqa_training.run.state import Run

Progress = Callable[[str, int, int | None], None]
"""Called with the name of the stage, what of it is done, and of how much; None where that is not known. What follows a
colon in the name may change."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The outcome of a run.

    Attributes
    ----------
    best
        The best validation: SRCC, or minus the loss of recipes that train no score; minus infinity if there was none.
    checkpoint
        The network that had it.
    next_command
        What takes the checkpoint, as a command line.
    """

    best: float
    checkpoint: Path
    next_command: str


def train(
    name: str,
    *,
    config: Path,
    data: Path,
    out: Path,
    weights: Mapping[str, Path],
    cache: Path | None = None,
    licence: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    progress: Progress = lambda *_: None,
) -> Trained:
    """Train, or go on where a run that is there has stopped.

    Parameters
    ----------
    name
        A recipe.
    config, data, out, weights, cache, licence, device, threads
        As the options of ``iqa-train``.
    progress
        Is told of each photograph that is prepared and each step.

    Returns
    -------
    Trained
        With the best checkpoint, which lies in `out`.

    Raises
    ------
    UsageError
        If name, configuration, data and device don't fit each other.
    FileError, ImageError, CheckpointError
        If a file cannot be used.
    """
    settings = read_config(config)
    chosen = _device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)  # the weights that start at random
    recipe = build_recipe(name, settings.recipe, dict(weights))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{out}: cannot be made ({error.strerror}); choose another ``out``") from error
    sources, trained_on = _read(settings, data, cache or out / "cache", threads or torch.get_num_threads(), progress)

    def report(done: int, total: int, losses: dict[str, float]) -> None:
        progress(f"training: loss {losses['total']:.4f}", done, total)

    started_from = {role: FileDigest.of_file(file) for role, file in weights.items()}
    run = Run(
        recipe=recipe,
        train=sources[0],
        validation=sources[1],
        loop=settings.loop,
        seed=settings.seed,
        folder=out,
        settings={
            "data": settings.dataset,
            "synthetic": msgspec.to_builtins(settings.synthetic),
            "part": [settings.part, settings.part_seed],
            "validation": settings.validation,
            "settings": settings.recipe,
            "trained_on": trained_on,
            "weights": {role: digest.sha256 for role, digest in started_from.items()},
        },
        metadata={
            "licence": licence or "not stated",
            "trained_on": trained_on,
            "started_from": ", ".join(f"{role} {digest.file}" for role, digest in started_from.items()),
            "config_sha256": hashlib.sha256(config.read_bytes()).hexdigest(),
            "exporter": f"iqa-deploy {__version__}, torch {torch.__version__}",
        },
        device=chosen,
    )
    if not (out / "last.pt").exists():  # a run that is there keeps the configuration it was started with
        write_at_once(out / "config.yaml", msgspec.yaml.encode(settings))
    best = fit(run, report).best
    checkpoint = out / "best.safetensors"
    return Trained(best, checkpoint, _next_command(recipe, checkpoint))


def _next_command(recipe: Recipe, best: Path) -> str:
    if recipe.leads_to is not None:
        return f"iqa-train {recipe.leads_to}={best}"
    variant = f" --variant {recipe.variant}" if recipe.variant else ""
    return f"iqa-export --model {recipe.model}{variant}{recipe.export_options} --weights {best}"


def _device(asked: str | None) -> str:
    if asked is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if asked not in ("cpu", "cuda"):
        raise UsageError(f"``device={asked}``: there is cpu and cuda")
    if asked == "cuda" and not torch.cuda.is_available():
        raise UsageError("``device=cuda``: PyTorch finds no GPU; leave it out, or install a CUDA build of PyTorch")
    return asked


def _read(
    settings: RunConfig, data: Path, cache: Path, workers: int, progress: Progress
) -> tuple[tuple[Source, Source | None], str]:
    """Return training and validation set, None where there is none, and a phrase for the model card."""
    if settings.dataset == SYNTHETIC:

        def report(done: int, total: int) -> None:
            progress("photographs", done, total)

        sets = build_synthetic(data, settings.synthetic, cache, workers=workers, progress=report)
        return sets, f"synthetic set {sets[0].digest[:16]}, {len(sets[0])} pictures labelled by full-reference metrics"
    dataset = select(read_dataset(settings.dataset, data), settings.part, seed=settings.part_seed)
    trained, validation = dataset, None
    if settings.validation > 0:
        shares = {"train": 1 - settings.validation, "validation": settings.validation}
        parts = split(dataset, shares, settings.seed)
        trained, validation = parts["train"], DatasetSource(parts["validation"])
    described = f"{dataset.title}, {len(trained.samples)} pictures of part {settings.part}"
    return (DatasetSource(trained), validation), described
