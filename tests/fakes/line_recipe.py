"""A training run that takes milliseconds: everything but the network is the real thing."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from iqa_training.configuration import LoopConfig
from iqa_training.crops import random_crop
from iqa_training.datasets.items import Item
from iqa_training.loop import fit
from iqa_training.recipes.base import Recipe
from iqa_training.run.state import Run
from labelled_pictures import Pictures

SIDE = 6
"""Of a crop, pixels."""


def shades(count: int) -> Pictures:
    """Make grey pictures, noisy, whose label is their grey."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(count) / count
    noise = rng.integers(0, 20, (count, 8, 8, 3))
    return Pictures(
        [
            Item((200 * label + grain).astype(np.uint8), None, float(label), str(index), None)
            for index, (label, grain) in enumerate(zip(labels, noise, strict=True))
        ]
    )


class Line(nn.Module):
    """Normalisation and dropout too, because they keep state and draw."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.last = nn.Linear(3, 1)

    def forward(self, image):
        features = nn.functional.dropout(self.norm(image).mean((2, 3)), 0.1, self.training)
        return self.last(features)[:, 0]


class LineRecipe(Recipe):
    name = "line"
    title = "a line"
    model = "dri"  # whose checkpoints have our own names
    variant = "grey"
    settings = msgspec.Struct
    smallest = SIDE

    def __init__(self) -> None:
        torch.manual_seed(5)
        self.network = Line()
        self.drawn = defaultdict(list)
        self.rates = []
        self.steps = None

    def example(self, source, index, rng):
        self.drawn[index].append(rng.random())
        return self._cut(source, index, rng)

    def validation_example(self, source, index):
        return self._cut(source, index, np.random.default_rng(index))

    def _cut(self, source, index, rng):
        item = source.item(index)
        return {"image": random_crop([item.distorted], self.smallest, rng)[0], "label": np.float32(item.label)}

    def optimizer(self, loop):
        self.steps = super().optimizer(loop)
        return self.steps

    def losses(self, batch):
        self.rates.append(self.steps.param_groups[0]["lr"])
        error = (self.network(batch["image"].float() / 255) - batch["label"]).square().mean()
        return {"total": error + 1, "squared_error": error}

    def predict(self, batch):
        return {"nr": self.network(batch["image"].float() / 255)}


def line_run(folder: Path, recipe: Recipe | None = None, count: int = 11, seed: int = 3, **loop) -> Run:
    settings = LoopConfig(**{"epochs": 4, "batch": 2, "learning_rate": 0.05, "freeze_normalisation": False} | loop)
    folder.mkdir(exist_ok=True)
    return Run(
        recipe=recipe or LineRecipe(),
        train=shades(count),
        validation=shades(7),
        loop=settings,
        seed=seed,
        folder=folder,
        metadata={"licence": "none"},
    )


def interrupt(run: Run, epochs: int) -> None:
    """Fit, and stop in the middle of the epoch after `epochs`."""
    seen = []

    def report(*step: object) -> None:
        seen.append(step)
        if len(seen) > epochs * step[1] + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(run, report)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def logged_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return steps and values by name, as TensorBoard reads them."""
    reader = EventAccumulator(str(folder)).Reload()
    return {name: [(event.step, event.value) for event in reader.Scalars(name)] for name in reader.Tags()["scalars"]}


def checkpoint(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return tensors and metadata."""
    with safetensors.safe_open(folder / "best.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118  # no mapping
