"""The training loop on a recipe that fits a line: everything but the network is the real thing."""

import csv
import math
from collections import defaultdict
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors
import torch
from torch import nn

from iqa_runtime.errors import FileError, UsageError
from iqa_training.configuration import LoopConfig
from iqa_training.crops import random_crop
from iqa_training.datasets.items import Item
from iqa_training.loop import fit, validate
from iqa_training.recipes.base import Recipe
from iqa_training.run.state import Run

ROUNDING = 1e-6
"""The table holds six digits."""


class Shades:
    """Grey pictures, noisy, whose label is their grey."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(0)
        labels = rng.permutation(count) / count
        noise = rng.integers(0, 20, (count, 8, 8, 3))
        self._items = [
            Item((200 * label + grain).astype(np.uint8), None, float(label), str(index), None)
            for index, (label, grain) in enumerate(zip(labels, noise, strict=True))
        ]

    def __len__(self) -> int:
        return len(self._items)

    def item(self, index: int) -> Item:
        return self._items[index]


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
        return {"image": random_crop([item.distorted], 6, rng)[0], "label": np.float32(item.label)}

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
        train=Shades(count),
        validation=Shades(7),
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


def checkpoint(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return tensors and metadata."""
    with safetensors.safe_open(folder / "best.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118  # no mapping


def test_it_learns(tmp_path):
    progress = fit(line_run(tmp_path, epochs=20))
    table = rows(tmp_path)
    assert float(table[-1]["loss_squared_error"]) < 0.5 * float(table[0]["loss_squared_error"])
    assert progress.epoch == 20
    assert progress.best > 0.9


@pytest.mark.parametrize("clip", [0.0, 0.1])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, clip):
    whole = line_run(tmp_path / "whole", clip=clip)
    fit(whole)
    interrupt(line_run(tmp_path / "parts", clip=clip), 2)
    assert len(rows(tmp_path / "parts")) == 2
    torch.manual_seed(99)  # another process has drawn something else
    parts = line_run(tmp_path / "parts", clip=clip)
    progress = fit(parts)
    state = parts.recipe.network.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in whole.recipe.network.state_dict().items())
    best, other = (checkpoint(tmp_path / name) for name in ("whole", "parts"))
    assert best[1] == other[1]
    assert all(torch.equal(other[0][name], tensor) for name, tensor in best[0].items())
    tables = [[row | {"seconds": ""} for row in rows(tmp_path / name)] for name in ("whole", "parts")]
    assert tables[0] == tables[1]
    assert progress.epoch == 4


def test_a_run_that_is_done_does_nothing_more(tmp_path):
    first = fit(line_run(tmp_path))
    files = {file: file.read_bytes() for file in (tmp_path / "best.safetensors", tmp_path / "last.pt")}
    assert fit(line_run(tmp_path)) == first
    assert all(file.read_bytes() == content for file, content in files.items())
    assert len(rows(tmp_path)) == 4


def test_another_seed_is_another_run(tmp_path):
    runs = [line_run(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    for run in runs:
        fit(run)
    assert not torch.equal(*(run.recipe.network.last.weight for run in runs))


@pytest.mark.parametrize("changed", [{"seed": 4}, {"epochs": 6}, {"learning_rate": 0.01}, {"batch": 3}, {"count": 10}])
def test_a_resumed_run_keeps_its_settings(tmp_path, changed):
    interrupt(line_run(tmp_path), 1)
    before = (tmp_path / "last.pt").read_bytes()
    name = {"count": "pictures"}.get(*changed, *changed)
    with pytest.raises(UsageError, match=f"a run of other settings is there.*{name} was .*another --out"):
        fit(line_run(tmp_path, **changed))
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_resumed_run_may_take_other_workers(tmp_path):
    interrupt(line_run(tmp_path), 1)
    assert fit(line_run(tmp_path, workers=1, validate_every=2)).epoch == 4


def test_a_resumed_run_keeps_settings_of_recipe_and_data(tmp_path):
    first, second = line_run(tmp_path), line_run(tmp_path)
    first.settings["synthetic"], second.settings["synthetic"] = {"tile": 256}, {"tile": 128}
    interrupt(first, 1)
    with pytest.raises(UsageError, match=r"synthetic was \{'tile': 256\}, is \{'tile': 128\}"):
        fit(second)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_damaged_state(tmp_path, content):
    interrupt(line_run(tmp_path), 1)
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(FileError, match=r"last.pt: not the last state of such a run"):
        fit(line_run(tmp_path))


def test_a_state_of_another_network(tmp_path):
    interrupt(line_run(tmp_path), 1)
    recipe = LineRecipe()
    recipe.network.extra = nn.Linear(2, 2)
    with pytest.raises(FileError, match=r"last.pt: not the last state of such a run"):
        fit(line_run(tmp_path, recipe))


def test_fewer_pictures_than_a_batch(tmp_path):
    with pytest.raises(UsageError, match="3 training pictures are fewer than a batch of 4"):
        fit(line_run(tmp_path, count=3, batch=4))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number(tmp_path, value):
    class Broken(LineRecipe):
        def losses(self, batch):
            losses = super().losses(batch)
            bad = len(self.rates) == 8
            return losses | {"total": losses["total"] * (value if bad else 1)}

    with pytest.raises(UsageError, match=rf"the loss became {value} in epoch 2; lower learning_rate or set clip"):
        fit(line_run(tmp_path, Broken()))
    # What the last whole epoch left is still good.
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert state["epoch"] == 1
    assert all(torch.isfinite(tensor).all() for tensor in state["network"].values())


def test_the_table_and_the_events(tmp_path):
    fit(line_run(tmp_path, epochs=3, validate_every=2))
    table = rows(tmp_path)
    assert [row["epoch"] for row in table] == ["1", "2", "3"]
    assert set(table[0]) == {
        *("epoch", "learning_rate", "loss_total", "loss_squared_error", "srcc_nr", "selection", "seconds"),
    }
    assert [row["srcc_nr"] != "" for row in table] == [False, True, True]
    for row in table:
        assert float(row["loss_total"]) == pytest.approx(1 + float(row["loss_squared_error"]), rel=1e-5)
    events = list(tmp_path.glob("events.out.tfevents.*"))
    assert len(events) == 1
    content = events[0].read_bytes()
    assert all(name.encode() in content for name in table[0] if name != "epoch")


class Rehearsed(LineRecipe):
    """Its rank correlation with the labels is given, epoch by epoch."""

    ranks = ()

    def __init__(self) -> None:
        super().__init__()
        self.epochs = []

    def predict(self, batch):
        if not self.epochs or self.epochs[-1][1] >= 7:
            self.epochs.append([{n: t.clone() for n, t in self.network.state_dict().items()}, 0])
        self.epochs[-1][1] += len(batch["label"])
        return {task: factor * batch["label"] for task, factor in self.ranks[len(self.epochs) - 1].items()}


@pytest.mark.parametrize(
    ("ranks", "best", "selection"),
    [
        ([{"nr": -1}, {"nr": 1}, {"nr": -1}], 2, 1),
        ([{"nr": 1}, {"nr": -1}, {"nr": 1}], 1, 1),  # the earlier of equals
        ([{"nr": 1, "fr": -1}, {"nr": 1, "fr": 1}, {"nr": -1, "fr": -1}], 2, 1),
        ([{"nr": math.nan}, {"nr": 0}, {"nr": -1}], 1, -1),  # broken and constant scores have no rank correlation
    ],
)
def test_the_best_checkpoint_is_that_of_the_best_validation(tmp_path, ranks, best, selection):
    recipe = Rehearsed()
    recipe.ranks = ranks
    progress = fit(line_run(tmp_path, recipe, epochs=3))
    assert progress.best == pytest.approx(selection)
    kept, metadata = checkpoint(tmp_path)
    assert metadata["epoch"] == str(best)
    assert float(metadata["selection"]) == pytest.approx(selection, abs=ROUNDING)
    assert [metadata[name] for name in ("model", "variant", "recipe", "licence")] == ["dri", "grey", "line", "none"]
    expected = recipe.epochs[best - 1][0]
    assert kept.keys() == expected.keys()
    assert all(torch.equal(kept[name], tensor) for name, tensor in expected.items())


class Scoreless(LineRecipe):
    def predict(self, batch):
        return {}


def test_without_a_score_the_smallest_loss_is_best(tmp_path):
    run = line_run(tmp_path, Scoreless(), epochs=8)
    progress = fit(run)
    losses = [float(row["validation_total"]) for row in rows(tmp_path)]
    assert -progress.best == pytest.approx(min(losses), rel=1e-5)
    assert losses[-1] < losses[0]
    assert set(validate(run)) == {"validation_total", "validation_squared_error", "selection"}


def test_validation_always_sees_the_same(tmp_path):
    run = line_run(tmp_path, Scoreless())
    fit(run)
    assert validate(run) == validate(run)


def test_validating_more_often_trains_the_same(tmp_path):
    runs = [line_run(tmp_path / str(every), validate_every=every) for every in (1, 4)]
    for run in runs:
        fit(run)
    assert torch.equal(*(run.recipe.network.last.weight for run in runs))


def test_draws_depend_on_seed_epoch_and_picture_alone(tmp_path):
    """Not on the other pictures, which change the order."""
    recipes = [LineRecipe() for _ in range(3)]
    for recipe, count, seed in zip(recipes, (11, 17, 11), (3, 3, 4), strict=True):
        fit(line_run(tmp_path / f"{count}-{seed}", recipe, count=count, seed=seed, batch=1))
    first, longer, other = (recipe.drawn for recipe in recipes)
    assert all(len(set(draws)) == 4 for draws in first.values())
    assert all(longer[index] == draws for index, draws in first.items())
    assert all(set(other[index]).isdisjoint(draws) for index, draws in first.items())
    assert len({draw for draws in longer.values() for draw in draws}) == 4 * 17


def test_each_epoch_has_an_order_of_its_own(tmp_path):
    order = []

    class Ordered(Scoreless):
        def losses(self, batch):
            if self.network.training:
                order.append(round(batch["label"].item() * 11))
            return super().losses(batch)

    fit(line_run(tmp_path, Ordered(), batch=1))
    epochs = [tuple(order[start : start + 11]) for start in range(0, 44, 11)]
    assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
    assert len(set(epochs)) == 4


def test_workers_change_nothing(tmp_path):
    runs = [line_run(tmp_path / str(workers), workers=workers) for workers in (0, 2)]
    for run in runs:
        fit(run)
    assert torch.equal(*(run.recipe.network.last.weight for run in runs))


def test_the_rate_rises_linearly_and_falls_as_a_cosine(tmp_path):
    recipe = LineRecipe()
    fit(line_run(tmp_path, recipe, count=10, epochs=2, learning_rate=0.4, warmup=0.2))
    cosine = [0.2 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert recipe.rates == pytest.approx([0.2, 0.4, *cosine])
    table = rows(tmp_path)
    assert float(table[0]["learning_rate"]) == pytest.approx(cosine[3], rel=1e-5)
    assert float(table[1]["learning_rate"]) == pytest.approx(0, abs=ROUNDING)


def test_an_encoder_learns_at_its_own_rate():
    recipe = LineRecipe()
    recipe.network.encoder = nn.Linear(2, 2)
    recipe.network.last.bias.requires_grad_(False)
    optimizer = recipe.optimizer(LoopConfig(learning_rate=0.1, encoder_learning_rate=0.01, weight_decay=0.5))
    groups = {group["lr"]: [tuple(tensor.shape) for tensor in group["params"]] for group in optimizer.param_groups}
    assert groups == {0.01: [(2, 2), (2,)], 0.1: [(3,), (3,), (1, 3)]}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.5}


def test_statistics_stay_if_frozen(tmp_path):
    for freeze in (True, False):
        recipe = LineRecipe()
        fit(line_run(tmp_path / str(freeze), recipe, freeze_normalisation=freeze))
        assert (recipe.network.norm.num_batches_tracked == 0) == freeze
        assert bool((recipe.network.norm.running_mean == 0).all()) == freeze


def test_a_layer_that_is_not_trained_keeps_its_statistics(tmp_path):
    recipe = LineRecipe()
    recipe.network.norm.requires_grad_(False)
    fit(line_run(tmp_path, recipe, freeze_normalisation=False))
    assert recipe.network.norm.num_batches_tracked == 0


def test_lower_precision_keeps_parameters_in_float32(tmp_path):
    runs = [line_run(tmp_path / precision, precision=precision) for precision in ("float32", "bfloat16")]
    for run in runs:
        fit(run)
    weights = [run.recipe.network.last.weight for run in runs]
    assert weights[1].dtype == torch.float32
    assert not torch.equal(*weights)
