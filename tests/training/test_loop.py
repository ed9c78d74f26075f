"""The training loop on a recipe that fits a line."""

import math
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import nn

from descent import check_descent
from iqa_runtime.errors import FileError, ImageError, UsageError
from iqa_training.configuration import LoopConfig
from iqa_training.loop import fit, validate
from line_recipe import LineRecipe, checkpoint, interrupt, line_run, rows, shades

ROUNDING = 1e-6
"""The table holds six digits."""

FLOAT32_STEPS = 1e-5
"""Relative: twenty steps in float32, each of a few operations that round to 6e-8."""


class PlainRecipe(LineRecipe):
    """Gradient descent on one weight and one bias."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(1, 1)
        nn.init.zeros_(self.network.weight)
        nn.init.zeros_(self.network.bias)

    def _cut(self, source, index, rng):
        item = source.item(index)
        return {"image": np.float32([item.distorted.mean() / 255]), "label": np.float32(item.label)}

    def optimizer(self, loop):
        self.steps = torch.optim.SGD(self.network.parameters(), lr=loop.learning_rate)
        return self.steps

    def losses(self, batch):
        error = (self.network(batch["image"])[:, 0] - batch["label"]).square().mean()
        return {"total": error}

    def predict(self, batch):
        return {"nr": self.network(batch["image"])[:, 0]}


def test_it_learns_what_gradient_descent_by_hand_learns(tmp_path):
    recipe, count, epochs, rate = PlainRecipe(), 11, 20, 0.5
    # A batch takes all pictures, so that their order is of no matter.
    progress = fit(line_run(tmp_path, recipe, count=count, epochs=epochs, batch=count, learning_rate=rate))
    items = shades(count).items
    shade, label = (
        np.array(values) for values in zip(*((i.distorted.mean() / 255, i.label) for i in items), strict=True)
    )
    weight, bias, losses = 0.0, 0.0, []
    for epoch in range(epochs):
        error = weight * shade + bias - label
        losses.append((error**2).mean())
        step = rate * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        weight -= step * 2 * (error * shade).mean()
        bias -= step * 2 * error.mean()
    assert recipe.network.weight.item() == pytest.approx(weight, rel=FLOAT32_STEPS)
    assert recipe.network.bias.item() == pytest.approx(bias, rel=FLOAT32_STEPS)
    assert [float(row["loss_total"]) for row in rows(tmp_path)] == pytest.approx(losses, rel=ROUNDING + FLOAT32_STEPS)
    assert (progress.epoch, progress.best) == (epochs, 1.0)  # shades in the order of their labels


@pytest.mark.parametrize(
    "loop",
    [
        {"clip": 0.0},
        {"clip": 0.1},
        {"renew_optimizer": True},
        {"renew_optimizer": True, "drop_every": 1, "compound_drops": True},
        {"cosine_epochs": 2},
        {"drop_after": (1, 3)},
    ],
    ids=str,
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, loop):
    whole = line_run(tmp_path / "whole", **loop)
    fit(whole)
    interrupt(line_run(tmp_path / "parts", **loop), 2)
    assert len(rows(tmp_path / "parts")) == 2
    torch.manual_seed(99)  # another process has drawn something else
    parts = line_run(tmp_path / "parts", **loop)
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
    name = {"count": "training_pictures"}.get(*changed, *changed)
    with pytest.raises(UsageError, match=f"a run of other settings is there.*{name} was .*another ``out``"):
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
        ([{"nr": 0}, {"nr": -1}, {"nr": 0}], 2, -1),  # constant scores have no rank correlation
        ([{"nr": 1, "fr": 0}, {"nr": -1, "fr": -1}, {"nr": 1, "fr": 0}], 2, -1),
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


def test_without_any_rank_correlation_the_last_epoch_is_kept_with_a_warning(tmp_path):
    recipe = Rehearsed()
    recipe.ranks = [{"nr": 0}] * 3
    with pytest.warns(UserWarning, match=r"no epoch has a rank correlation.*; best.safetensors is the last epoch"):
        progress = fit(line_run(tmp_path, recipe, epochs=3))
    assert progress.best == -math.inf
    kept, metadata = checkpoint(tmp_path)
    assert (metadata["epoch"], metadata["selection"]) == ("3", "undefined")
    assert all(torch.equal(kept[name], tensor) for name, tensor in recipe.epochs[2][0].items())
    assert [row["srcc_nr"] for row in rows(tmp_path)] == ["nan"] * 3


def test_scores_that_differ_by_rounding_alone_have_no_rank_correlation(tmp_path):
    class Rounded(LineRecipe):
        def predict(self, batch):
            return {"nr": 0.5 + 1e-7 * batch["label"]}

    assert math.isnan(validate(line_run(tmp_path, Rounded()))["selection"])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_validation_scores_that_are_no_numbers(tmp_path, value):
    recipe = Rehearsed()
    recipe.ranks = [{"nr": 1}, {"nr": value}]
    with pytest.raises(UsageError, match=r"a score of validation became \S+; lower learning_rate or set clip"):
        fit(line_run(tmp_path, recipe))
    assert checkpoint(tmp_path)[1]["epoch"] == "1"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("part", ["example", "validation_example"])
def test_a_damaged_picture_is_one_line_from_a_worker_too(tmp_path, monkeypatch, workers, part):
    monkeypatch.setattr(LineRecipe, part, Mock(side_effect=ImageError("a.png: corrupt")))
    with pytest.raises(ImageError, match=r"^a\.png: corrupt\Z"):
        fit(line_run(tmp_path, workers=workers))


class Scoreless(LineRecipe):
    trains_score = False


def test_without_a_score_the_smallest_loss_is_best(tmp_path):
    run = line_run(tmp_path, Scoreless(), epochs=8)
    progress = fit(run)
    losses = [float(row["validation_total"]) for row in rows(tmp_path)]
    assert -progress.best == pytest.approx(min(losses), rel=10 * ROUNDING)
    assert checkpoint(tmp_path)[1]["epoch"] == str(1 + losses.index(min(losses)))
    assert losses.count(min(losses)) == 1
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


def rates_of_epochs(folder, **loop) -> list[float]:
    """Return the rate of each epoch's two steps, which is one, over the first."""
    recipe = LineRecipe()
    fit(line_run(folder, recipe, count=4, learning_rate=1e-3, validate_every=1000, **loop))
    steps = recipe.rates
    assert steps[::2] == steps[1::2]
    return [rate / steps[0] for rate in steps[::2]]


def test_rates_drop_after_chosen_epochs(tmp_path):
    assert rates_of_epochs(tmp_path, epochs=6, drop_after=(2, 5)) == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.01])


def test_rates_drop_every_so_many_epochs(tmp_path):
    assert rates_of_epochs(tmp_path, epochs=5, drop_every=2) == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_compounding_drops_divide_what_was_divided(tmp_path):
    """As by `rate /= 10 ** (t // 2)` after each epoch t: nothing at first, then 10 twice, then 100 twice..."""
    rates = rates_of_epochs(tmp_path, epochs=8, drop_every=2, compound_drops=True)
    assert rates == pytest.approx([1, 1, 1, 1e-1, 1e-2, 1e-4, 1e-6, 1e-9])


def test_a_cosine_of_so_many_epochs_comes_back_up(tmp_path):
    rates = rates_of_epochs(tmp_path, epochs=9, cosine_epochs=4)
    half = 2**0.5 / 4
    down = [1, 0.5 + half, 0.5, 0.5 - half, 0]
    assert rates == pytest.approx([*down, *down[-2::-1]], abs=1e-12)


@pytest.mark.parametrize("renewed", [False, True])
@pytest.mark.parametrize("schedule", [{"drop_after": (2,)}, {"cosine_epochs": 2}, {"drop_every": 1}])
def test_every_step_is_that_of_the_optimiser_by_hand(tmp_path, schedule, renewed):
    loop = {"learning_rate": 0.01, "weight_decay": 0.1, "renew_optimizer": renewed, **schedule}
    check_descent(line_run(tmp_path, **loop), "adamw", {"": 0.01})


def test_without_a_validation_set_the_last_epoch_is_kept(tmp_path):
    run = replace(line_run(tmp_path), validation=None)
    progress = fit(run)
    kept, metadata = checkpoint(tmp_path)
    assert (progress.best, metadata["epoch"], metadata["selection"]) == (-math.inf, "4", "undefined")
    state = run.recipe.network.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in state.items())
    trained = line_run(tmp_path / "validated")
    fit(trained)
    assert all(torch.equal(state[name], tensor) for name, tensor in trained.recipe.network.state_dict().items())


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
