"""YOTO's recipe at edge size on photographs that lie in memory."""

import math
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from descent import check_descent
from iqa_export.checkpoints import load_into, read_checkpoint
from iqa_export.models.mobilenet import MobileNetV2
from iqa_export.models.stochastic_depth import StochasticDepth
from iqa_export.models.swin import SwinT
from iqa_export.systems.yoto import YotoSystem
from iqa_runtime.errors import UsageError
from iqa_training.configuration import LoopConfig, read_config
from iqa_training.datasets.items import Item
from iqa_training.loop import fit, rate_factor
from iqa_training.losses.regression import decorrelation
from iqa_training.recipes import build_recipe
from iqa_training.recipes.base import Batch, Recipe
from iqa_training.recipes.yoto import YotoRecipe, YotoSettings, blurred
from iqa_training.run.state import Run
from labelled_pictures import Pictures, degraded_photographs

CONFIGS = Path(__file__).parents[3] / "training" / "configs"
SIDE = 240
ALONE = {
    f"cross_scale.{pair}.attention.{layer}.{kind}"
    for pair in ("13", "23")
    for layer in ("query", "key")
    for kind in ("weight", "bias")
}
"""The coarsest map has one token a window: a softmax over one is 1, whatever asks and is asked."""
INERT = "attention.key.bias", "whole.key.bias", "quadrant.key.bias"
"""A number added to every key changes no softmax over the keys, so nothing but rounding moves these."""


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return degraded_photographs(SIDE, labels=(0.1, 0.9), noise=1)


@pytest.fixture
def encoder(tmp_path) -> Path:
    """An encoder as torchvision publishes it, untrained."""
    file = tmp_path / "mobilenet_v2.pth"
    torch.save(MobileNetV2().state_dict() | {"classifier.1.bias": torch.zeros(1000)}, file)
    return file


def batch_of(recipe: Recipe, source: Pictures, indices=(0, 3)) -> Batch:
    examples = [recipe.validation_example(source, index) for index in indices]
    return {name: torch.from_numpy(np.stack([example[name] for example in examples])) for name in examples[0]}


def run_of(recipe: Recipe, source: Pictures, folder: Path, epochs: int) -> Run:
    loop = LoopConfig(epochs=epochs, batch=2, learning_rate=1e-3, weight_decay=0.1, clip=1.0, validate_every=epochs)
    return Run(recipe=recipe, train=source, validation=source, loop=loop, seed=0, folder=folder)


@pytest.mark.slow
def test_both_tasks_learn_in_one_network(pictures, tmp_path):
    recipe = YotoRecipe(YotoSettings(variant="edge", mode="mix"), {})
    losses, untaught = check_descent(run_of(recipe, pictures, tmp_path, 2), "adamw", {"encoder.": 1e-5, "": 1e-3})
    assert {frozenset(parts) for parts in losses} == {
        frozenset({"total", f"squared_error_{task}"}) for task in ("nr", "fr")
    }
    parameters = {name for name, _ in recipe.network.named_parameters() if not name.endswith(INERT)}
    # The last features of an encoder that starts at random are so near zero that comparing them teaches nothing.
    parameters -= {name for name in parameters if name.startswith("comparison.2.")}
    assert untaught & parameters == ALONE & parameters
    system = YotoSystem()
    exported = system.build("edge")
    load_into(exported, read_checkpoint(tmp_path / "best.safetensors"), system.key_map("edge"))
    state = exported.state_dict()
    for name, tensor in recipe.network.named_parameters():
        assert torch.equal(state[name], tensor)


@pytest.mark.slow
def test_goes_on_from_a_network_and_ranks_blur(pictures, tmp_path):
    started = YotoRecipe(YotoSettings(variant="edge", mode="both"), {})
    fit(run_of(started, pictures, tmp_path / "first", 1))
    best = tmp_path / "first" / "best.safetensors"
    recipe = YotoRecipe(YotoSettings(variant="edge", mode="both", ranking=10.0), {"network": best})
    trained = read_checkpoint(best).entries
    for name, tensor in recipe.exported().items():
        assert torch.equal(tensor, trained[name])
    run = run_of(recipe, pictures, tmp_path / "second", 1)
    losses, _ = check_descent(run, "adamw", {"encoder.": 1e-5, "": 1e-3})
    for parts in losses:
        assert list(parts) == ["total", "squared_error_nr", "ranking_nr", "squared_error_fr"]
        assert parts["ranking_nr"] > 0
        assert 2 * parts["total"] == pytest.approx(sum(parts.values()))


def test_each_blur_is_to_lower_the_score_by_two_hundredths(pictures, monkeypatch):
    """A stand-in that darkens for the blur; of five pictures a quarter, rounded up, is two."""
    monkeypatch.setattr("iqa_training.recipes.yoto.blurred", lambda picture: picture.float() / 2)
    recipe = YotoRecipe(YotoSettings(variant="edge", mode="nr", ranking=10.0), {})
    recipe.network.eval()
    batch = batch_of(recipe, pictures, range(5))
    with torch.no_grad():
        plain, once, twice = (
            recipe.predict({"image": batch["image"][:2] / share})["nr"].numpy() for share in (1.0, 2.0, 4.0)
        )
        losses = recipe.losses(batch)
    falls = np.concatenate([plain - once, once - twice])
    assert losses["ranking_nr"].item() == pytest.approx(10 * np.maximum(0, 0.02 - falls).mean(), abs=1e-6)
    torch.testing.assert_close(losses["total"], losses["ranking_nr"] + losses["squared_error_nr"])


def test_blurring(pictures):
    """Means over boxes: flat stays flat, edges of the picture too, and detail goes."""
    flat = torch.full((1, 3, 32, 32), 93, dtype=torch.uint8)
    torch.testing.assert_close(blurred(flat), flat.float())
    picture = torch.from_numpy(pictures.item(1).distorted).permute(2, 0, 1)[None]
    assert blurred(picture).shape == picture.shape
    assert blurred(picture).diff().abs().mean() < picture.float().diff().abs().mean() / 2


@pytest.mark.slow
def test_without_references(encoder, tmp_path):
    recipe = YotoRecipe(YotoSettings(variant="edge", mode="nr", frozen_layers=3), {"encoder": encoder})
    source = degraded_photographs(SIDE, references=False)
    layers = tuple(f"encoder.features.{layer}." for layer in range(3))
    statistics = {name: tensor.clone() for name, tensor in recipe.network.encoder.features[:3].named_buffers()}
    rates = {**dict.fromkeys(("comparison.", *layers), 0), "encoder.": 1e-5, "": 1e-3}
    _, untaught = check_descent(run_of(recipe, source, tmp_path, 1), "adamw", rates)
    parameters = {name for name, _ in recipe.network.named_parameters() if not name.endswith(INERT)}
    frozen = {name for name in parameters if name.startswith(("comparison.", *layers))}
    assert untaught & parameters == (ALONE & parameters) | frozen
    buffers = dict(recipe.network.encoder.features[:3].named_buffers())
    assert all(torch.equal(buffers[name], tensor) for name, tensor in statistics.items())


@pytest.mark.parametrize("mode", ["nr", "fr", "mix", "both"])
def test_modes(pictures, mode):
    recipe = YotoRecipe(YotoSettings(variant="edge", mode=mode), {})
    recipe.network.eval()
    assert recipe.needs_reference == (mode != "nr")
    batch = batch_of(recipe, pictures)
    assert ("reference" in batch) == (mode != "nr")
    with torch.no_grad():
        scores = recipe.predict(batch)
        losses = {recipe.losses(batch)["total"].item() for _ in range(20 if mode == "mix" else 1)}
    assert list(scores) == {"nr": ["nr"], "fr": ["fr"]}.get(mode, ["nr", "fr"])
    each = [(score - batch["label"]).square().mean().item() for score in scores.values()]
    # In turn, each about half of the time; together, their sum.
    expected = [sum(each)] if mode == "both" else each
    assert sorted(losses) == pytest.approx(sorted(expected))


@pytest.mark.parametrize("mode", ["fr", "mix", "both"])
def test_the_reference_side_has_its_segment_as_the_exported_edge_variant(pictures, mode):
    """The exporter knows the edge variant as joint alone, so that is what every mode trains."""
    recipe = YotoRecipe(YotoSettings(variant="edge", mode=mode), {})
    recipe.network.eval()
    batch = batch_of(recipe, pictures)
    with torch.no_grad():
        before = recipe.predict(batch)
        for segment in recipe.network.segment:
            segment.weight[1] += 1
        after = recipe.predict(batch)
    changed = {task: not torch.equal(before[task], after[task]) for task in before}
    assert changed == {task: task == "fr" for task in before}


def test_decorrelation_is_added(pictures):
    plain, weighted = (
        YotoRecipe(YotoSettings(variant="edge", mode="nr", decorrelation=weight), {}) for weight in (0.0, 0.5)
    )
    weighted.network.load_state_dict(plain.network.state_dict())
    batch = batch_of(plain, pictures)
    for recipe in (plain, weighted):
        recipe.network.eval()
    with torch.no_grad():
        score = plain.predict(batch)["nr"]
        difference = weighted.losses(batch)["total"] - plain.losses(batch)["total"]
    assert difference.item() == pytest.approx(0.5 * decorrelation(score, batch["label"]).item(), abs=1e-6)


def test_weight_decay_joins_the_gradient_or_not():
    kinds = {
        kind: type(YotoRecipe(YotoSettings(variant="edge", optimizer=kind), {}).optimizer(LoopConfig()))
        for kind in ("adam", "adamw")
    }
    assert kinds == {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@pytest.mark.slow
def test_the_authors_optimiser_and_schedule(pictures, tmp_path):
    recipe = YotoRecipe(YotoSettings(variant="edge", mode="nr", optimizer="adam", attention_dropout=0.1), {})
    run = run_of(recipe, pictures, tmp_path, 2)
    loop = msgspec.structs.replace(run.loop, cosine_epochs=3)
    rates = {"comparison.": 0, "encoder.": 1e-5, "": 1e-3}
    check_descent(replace(run, loop=loop), "adam", rates)


@pytest.mark.parametrize("mode", ["nr", "mix"])
def test_scores_of_validation_are_means_over_crops(pictures, mode):
    recipe = YotoRecipe(YotoSettings(variant="edge", mode=mode, validation_crops=3), {})
    recipe.network.eval()
    batch = batch_of(recipe, pictures)
    again = batch_of(recipe, pictures)
    assert all(torch.equal(again[name], tensor) for name, tensor in batch.items())
    assert batch["image"].shape == (2, 3, 3, 224, 224)
    assert len({crop.numpy().tobytes() for crop in batch["image"].flatten(0, 1)}) == 6
    with torch.no_grad():
        scores = recipe.predict(batch)
        for task, means in scores.items():
            crops = [
                recipe.predict({name: tensor[:, index] for name, tensor in batch.items() if name != "label"})[task]
                for index in range(3)
            ]
            torch.testing.assert_close(means, (crops[0] + crops[1] + crops[2]) / 3)
    assert set(scores) == ({"nr"} if mode == "nr" else {"nr", "fr"})


def test_crops_of_validation_are_pieces_of_picture_and_reference_at_one_place():
    recipe = YotoRecipe(YotoSettings(variant="edge", mode="fr", validation_crops=4), {})
    pristine = degraded_photographs(SIDE).item(0).reference
    example = recipe.validation_example(Pictures([Item(pristine, pristine, 1.0, "dogs", None)]), 0)
    assert np.array_equal(example["image"], example["reference"])
    places = np.lib.stride_tricks.sliding_window_view(pristine, (224, 224), (0, 1))
    for crop in example["image"]:
        assert (places[..., 0, 0] == crop[:, 0, 0]).all(-1).any()
        assert any(np.array_equal(piece, crop) for piece in places.reshape(-1, 3, 224, 224))


@pytest.mark.parametrize("adapt", [True, False])
def test_an_encoder_is_adapted_or_taken_as_it_is(encoder, adapt):
    recipe = YotoRecipe(YotoSettings(variant="edge", mode="nr", adapt_encoder=adapt), {"encoder": encoder})
    published = torch.load(encoder)["features.0.0.weight"]
    # From (x - m) / s to 2 x - 1: the scale of the channel.
    scale = 0.5 / torch.tensor([0.229, 0.224, 0.225])[:, None, None] if adapt else 1.0
    torch.testing.assert_close(recipe.network.encoder.features[0][0].weight, published * scale)


@pytest.mark.slow
def test_swin_starts_from_microsofts_checkpoint(tmp_path):
    swin = SwinT()
    state = {name: torch.randn_like(tensor) for name, tensor in swin.state_dict().items() if name[:4] != "norm"}
    others = {"norm.weight": torch.ones(768), "norm.bias": torch.ones(768), "head.bias": torch.ones(21841)}
    others["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    torch.save({"model": state | others}, tmp_path / "swin_tiny_patch4_window7_224_22k.pth")
    settings = YotoSettings(variant="swin_t", adapt_encoder=False)
    recipe = YotoRecipe(settings, {"encoder": tmp_path / "swin_tiny_patch4_window7_224_22k.pth"})
    loaded = recipe.network.encoder.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    assert loaded.keys() - state.keys() == {f"norm{stage}.{kind}" for stage in range(4) for kind in ("weight", "bias")}


def test_stochastic_depth_is_swins_alone():
    with pytest.raises(UsageError, match=r"drop_path: of use for the variant swin_t alone, not edge; leave it out"):
        build_recipe("yoto", {"variant": "edge", "drop_path": 0.2}, {})


@pytest.mark.parametrize("variant", ["swin_t", "resnet50"])
def test_published_configurations(variant):
    config = read_config(CONFIGS / f"yoto-{variant}-as-published.yaml")
    with torch.device("meta"):
        recipe = build_recipe("yoto", config.recipe, {})
    optimizer = recipe.optimizer(config.loop)
    assert type(optimizer) is torch.optim.Adam
    groups = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert groups == [(1e-5, 1e-5), (1e-4, 1e-5)]
    factor = rate_factor(config.loop, 3 * config.loop.epochs)
    rates = [factor(3 * epoch) for epoch in range(config.loop.epochs)]
    assert rates == pytest.approx([(1 + math.cos(math.pi * epoch / 50)) / 2 for epoch in range(100)], abs=1e-12)
    dropout = [module.p for module in recipe.network.modules() if isinstance(module, torch.nn.Dropout)]
    # Four channel attentions, four over whole maps, three in quadrants, six between scales, two heads.
    assert dropout == [0.1] * 19
    paths = [module.probability for module in recipe.network.modules() if isinstance(module, StochasticDepth)]
    assert paths == pytest.approx([0.2 * block / 11 for block in range(12)] if variant == "swin_t" else [])
    assert (config.part, config.validation, config.loop.batch) == ("all", 0.2, 8)
    assert (recipe._settings.mode, recipe._settings.adapt_encoder, recipe._settings.validation_crops) == (
        *("mix", False),
        20,
    )


def test_picture_and_reference_are_cut_alike():
    recipe = YotoRecipe(YotoSettings(variant="edge", mode="mix"), {})
    pristine = degraded_photographs(SIDE).item(0).reference
    same = Pictures([Item(pristine, pristine, 1.0, "dogs", None)])
    examples = [recipe.example(same, 0, np.random.default_rng(seed)) for seed in range(5)]
    assert all(np.array_equal(example["image"], example["reference"]) for example in examples)
    assert len({example["image"].tobytes() for example in examples}) == 5
    assert examples[0]["image"].shape == (3, 224, 224)


def test_data_without_references():
    recipe = YotoRecipe(YotoSettings(variant="edge", mode="fr"), {})
    with pytest.raises(UsageError, match="dogs: this recipe compares with references and the data set has none"):
        recipe.example(degraded_photographs(SIDE, references=False), 0, np.random.default_rng(0))


def test_frozen_layers_are_those_of_a_trained_encoder():
    with pytest.raises(UsageError, match="frozen_layers: of use for the edge variant with ``weights`` encoder=FILE"):
        build_recipe("yoto", {"variant": "edge", "frozen_layers": 3}, {})
