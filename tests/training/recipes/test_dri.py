"""DRI-IQA's three stages on a network that trains in seconds, and the samples of the first."""

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from descent import check_descent
from iqa_export.checkpoints import CheckpointError, KeyMap, load_into, random_checkpoint, read_checkpoint
from iqa_export.models.dri import Dri
from iqa_export.models.dri_config import DriConfig
from iqa_export.systems.dri import DriSystem
from iqa_runtime.contract import ExtraOutput, PatchPlan
from iqa_runtime.errors import FileError, UsageError
from iqa_training.configuration import LoopConfig
from iqa_training.datasets.items import Item
from iqa_training.recipes import build_recipe
from iqa_training.recipes.base import Recipe
from iqa_training.recipes.dri import DriQualityRecipe, DriRestorationRecipe, QualitySettings, RestorationSettings
from iqa_training.recipes.dri_representation import DriRepresentationRecipe, RepresentationSettings
from iqa_training.recipes.dri_triples import cut_patches, cut_region, draw_triple
from iqa_training.run.state import Run
from labelled_pictures import Pictures, degraded_photographs, fixed_batch

CROP = 64
SIDE = 192
INERT = ("guidance.0.key.bias", "guidance.1.key.bias")
"""A number added to every key changes no softmax over the keys, so nothing but rounding moves these."""


class SmallDri(DriSystem):
    """The same network, small."""

    name = "dri_small"
    config = DriConfig(crop=CROP, width=8, swin_hidden=32, dropout=0.0, drop_path=0.0)
    crop = CROP
    patch_plan = PatchPlan(kind="random", size=CROP, count=3, seed=0)
    extra_outputs = (ExtraOutput(name="restored", shape=(3, CROP, CROP)),)


class SmallRestoration(DriRestorationRecipe):
    system = SmallDri


class SmallQuality(DriQualityRecipe):
    system = SmallDri


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return degraded_photographs(SIDE, labels=(1.0, 0.4))


@pytest.fixture(scope="module")
def representation(tmp_path_factory) -> Path:
    """A checkpoint as the first stage writes it."""
    network = DriRepresentationRecipe(RepresentationSettings(), {}).network
    file = tmp_path_factory.mktemp("dri") / "representation.safetensors"
    load_into(network, random_checkpoint(network, 0, KeyMap()), KeyMap())
    safetensors.torch.save_file(network.state_dict(), file)
    return file


def run_of(recipe: Recipe, source: Pictures, folder: Path, **loop) -> Run:
    settings = LoopConfig(**{"epochs": 1, "batch": 2, "weight_decay": 0.1, "clip": 1.0} | loop)
    return Run(recipe=recipe, train=source, validation=source, loop=settings, seed=0, folder=folder)


def without_inert(names: set[str]) -> set[str]:
    return {name for name in names if not name.endswith(INERT)}


@pytest.mark.slow
def test_first_stage(pictures, tmp_path, representation):
    recipe = DriRepresentationRecipe(RepresentationSettings(patch=CROP), {})
    run = run_of(recipe, pictures, tmp_path, learning_rate=3e-2, encoder_learning_rate=1e-2)
    losses, untaught = check_descent(run, "sgd", {"extractor.": 1e-2, "projectors.": 3e-2})
    assert {frozenset(parts) for parts in losses} == {frozenset({"total", "quality", "degradation"})}
    assert untaught == set()
    written = read_checkpoint(tmp_path / "best.safetensors")
    assert set(written.entries) == set(read_checkpoint(representation).entries)
    # The next stage takes it, and exporting what has no score is refused.
    later = SmallRestoration(RestorationSettings(), {"representation": tmp_path / "best.safetensors"})
    stem = later.network.extractor.trunk.conv1.weight
    assert torch.equal(stem, written.entries["extractor.trunk.conv1.weight"])
    with pytest.raises(CheckpointError, match="missing"):
        load_into(Dri(SmallDri.config), written, DriSystem().key_map("base"))


def test_first_stage_descends_with_momentum():
    recipe = DriRepresentationRecipe(RepresentationSettings(momentum=0.8), {})
    optimizer = recipe.optimizer(LoopConfig(learning_rate=0.1, encoder_learning_rate=0.01, weight_decay=1e-3))
    assert isinstance(optimizer, torch.optim.SGD)
    groups = [(group["lr"], group["momentum"], group["weight_decay"]) for group in optimizer.param_groups]
    assert groups == [(0.01, 0.8, 1e-3), (0.1, 0.8, 1e-3)]
    counts = [sum(tensor.numel() for tensor in group["params"]) for group in optimizer.param_groups]
    assert counts == [23_508_032, 2_361_600]


def test_a_triple_is_two_versions_of_one_content_and_another(monkeypatch):
    """Flat pictures that are left as they are tell where the patches come from."""

    shades = [np.full((SIDE, SIDE, 3), index, np.uint8) for index in range(8)]
    flat = Pictures([Item(shade, shade, 0.0, str(index // 2), None) for index, shade in enumerate(shades)])
    degradations = []

    def leave(picture: np.ndarray, *drawn) -> np.ndarray:
        degradations.append(drawn[0])
        return picture

    monkeypatch.setattr("iqa_training.recipes.dri_representation.compose", leave)
    recipe = DriRepresentationRecipe(RepresentationSettings(patch=CROP), {})
    for seed in range(10):
        patches = recipe.example(flat, 3, np.random.default_rng(seed))["patches"]
        assert patches.shape == (6, 3, CROP, CROP)
        assert (patches[:4] == 3).all()
        assert len(np.unique(patches[4:])) == 1
        assert patches[4, 0, 0, 0] // 2 != 3 // 2
        x1, x2, y = degradations[-3:]
        assert kinds(x1) == kinds(x2)
        assert x1 != x2
        assert set(kinds(x1)).isdisjoint(kinds(y))


def test_first_stage_weighs_its_halves(pictures):
    recipe = DriRepresentationRecipe(RepresentationSettings(patch=CROP, quality_weight=0.5, degradation_weight=3), {})
    recipe.network.eval()
    with torch.no_grad():
        losses = recipe.losses(fixed_batch(recipe, pictures))
    torch.testing.assert_close(losses["total"], 0.5 * losses["quality"] + 3 * losses["degradation"])


@pytest.mark.slow
def test_warm_up(pictures, tmp_path, representation):
    recipe = SmallRestoration(RestorationSettings(), {"representation": representation})
    statistics = recipe.network.extractor.trunk.bn1.running_mean.clone()
    run = run_of(recipe, pictures, tmp_path, learning_rate=2e-3, freeze_normalisation=False)
    frozen = ("extractor.", "fuse.", "head.")
    _, untaught = check_descent(run, "adamw", {**dict.fromkeys(frozen, 0), "": 2e-3})
    assert without_inert(untaught) == {name for name, _ in recipe.network.named_parameters() if name.startswith(frozen)}
    assert torch.equal(recipe.network.extractor.trunk.bn1.running_mean, statistics)
    # Everything but the predictor is kept, and the next recipe goes on from it.
    written = read_checkpoint(tmp_path / "best.safetensors")
    later = SmallQuality(QualitySettings(), {"restorer": tmp_path / "best.safetensors"})
    state = later.network.state_dict()
    assert {name for name in state if name not in written.entries} == {
        name for name in state if name.startswith(("fuse.", "head."))
    }
    assert all(torch.equal(state[name], tensor) for name, tensor in written.entries.items())
    with pytest.raises(CheckpointError, match=r"missing \(fuse.weight"):
        load_into(Dri(SmallDri.config), written, DriSystem().key_map("base"))


@pytest.mark.slow
def test_second_stage(pictures, tmp_path, representation):
    recipe = SmallQuality(QualitySettings(), {"representation": representation})
    judge = {name: tensor.clone() for name, tensor in recipe._judge.state_dict().items()}
    run = run_of(recipe, pictures, tmp_path, learning_rate=1e-3, encoder_learning_rate=1e-4)
    _, untaught = check_descent(run, "adamw", {"extractor.": 1e-4, "": 1e-3})
    assert without_inert(untaught) == set()
    assert all(torch.equal(tensor, judge[name]) for name, tensor in recipe._judge.state_dict().items())
    system = SmallDri()
    exported = system.build("base")
    load_into(exported, read_checkpoint(tmp_path / "best.safetensors"), system.key_map("base"))
    state = exported.state_dict()
    counters = {name for name in state if name.endswith("num_batches_tracked")}
    for name, tensor in recipe.network.state_dict().items():
        assert name in counters or torch.equal(state[name], tensor)


def test_second_stage_adds_its_losses(pictures, representation):
    recipe = SmallQuality(
        QualitySettings(restoration_weight=0.3, semantic_weight=0.2), {"representation": representation}
    )
    recipe.network.eval()
    batch = fixed_batch(recipe, pictures)
    with torch.no_grad():
        losses = recipe.losses(batch)
        score = recipe.predict(batch)["nr"]
    torch.testing.assert_close(losses["squared_error"], ((score - batch["label"]) ** 2).mean())
    expected = losses["squared_error"] + 0.3 * (losses["restoration"] + 0.2 * losses["semantic"])
    torch.testing.assert_close(losses["total"], expected)


def test_the_extractor_of_the_first_stage_judges(pictures, representation):
    recipe = SmallQuality(QualitySettings(temperature=0.5), {"representation": representation})
    recipe.network.eval()
    extractor = copy.deepcopy(recipe.network.extractor)
    for parameter in recipe.network.extractor.parameters():
        parameter.data *= 1.1  # what training makes of it does not matter
    batch = fixed_batch(recipe, pictures)
    degraded, pristine = (batch[name].float() / 255 for name in ("image", "pristine"))
    with torch.no_grad():
        losses = recipe.losses(batch)
        restored = recipe.network(degraded, restore=True).restored
        found = [extractor(image) for image in (restored, degraded, pristine)]
    expected = 0.0
    for half in ("quality", "degradation"):
        r, d, p = (nn.functional.normalize(getattr(one, half), dim=1) for one in found)
        expected += nn.functional.softplus(((r * d).sum(1) - (r * p).sum(1)) / 0.5).mean() / 2
    torch.testing.assert_close(losses["semantic"], expected)


def test_form_of_the_semantic_loss(pictures, representation):
    values = {}
    for form in ("softplus", "ratio"):
        torch.manual_seed(0)
        recipe = SmallQuality(QualitySettings(rs_form=form), {"representation": representation})
        recipe.network.eval()
        with torch.no_grad():
            values[form] = recipe.losses(fixed_batch(recipe, pictures))
    assert values["softplus"]["restoration"] == values["ratio"]["restoration"]
    assert values["softplus"]["semantic"] != values["ratio"]["semantic"]


@pytest.fixture
def photographs(tmp_path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for index, item in enumerate(map(degraded_photographs(SIDE).item, (0, 2))):
        cv2.imwrite(str(folder / f"{index}.png"), item.reference[:100, :150, ::-1])
    return folder


def test_data_without_references_restores_photographs(photographs, representation):
    recipe = SmallQuality(QualitySettings(photographs=str(photographs)), {"representation": representation})
    assert not recipe.needs_reference
    source = degraded_photographs(SIDE, references=False)
    batch = fixed_batch(recipe, source)
    assert not torch.equal(batch["image"], batch["degraded"])
    recipe.network.eval()
    with torch.no_grad():
        losses = recipe.losses(batch)
        score = recipe.predict(batch)["nr"]
        restored = recipe.network(batch["degraded"].float() / 255, restore=True).restored
    torch.testing.assert_close(losses["squared_error"], ((score - batch["label"]) ** 2).mean())
    torch.testing.assert_close(losses["restoration"], (restored - batch["pristine"].float() / 255).abs().mean())


def test_warm_up_on_photographs(photographs, representation):
    recipe = SmallRestoration(RestorationSettings(photographs=str(photographs)), {"representation": representation})
    example = recipe.example(degraded_photographs(SIDE, references=False), 0, np.random.default_rng(0))
    assert {name: crop.shape for name, crop in example.items()} == {
        "degraded": (3, CROP, CROP),
        "pristine": (3, CROP, CROP),
    }


def test_photographs_that_are_not_there(tmp_path, representation):
    with pytest.raises(FileError, match="0 photographs"):
        SmallRestoration(RestorationSettings(photographs=str(tmp_path)), {"representation": representation})


@pytest.mark.parametrize(
    ("name", "roles", "message"),
    [
        ("dri-restoration", (), "dri-restoration: give either ``weights`` representation=FILE"),
        ("dri-restoration", ("representation", "network"), "dri-restoration: give either"),
        ("dri-quality", (), "dri-quality: give either ``weights`` restorer=FILE"),
        ("dri-quality", ("restorer", "representation"), "dri-quality: give either"),
        ("dri-representation", ("representation",), "no weights representation are of use; there is encoder"),
    ],
)
def test_weights_to_start_from(representation, name, roles, message):
    with pytest.raises(UsageError, match=message):
        build_recipe(name, {}, dict.fromkeys(roles, representation))


def test_overlap_the_wrong_way_round():
    with pytest.raises(UsageError, match=r"overlap: .* smaller first"):
        build_recipe("dri-representation", {"overlap": [0.3, 0.1]}, {})


def test_a_single_content_has_nothing_to_contrast_with():
    recipe = DriRepresentationRecipe(RepresentationSettings(patch=CROP), {})
    with pytest.raises(UsageError, match="dogs: no picture of another content"):
        recipe.example(degraded_photographs(SIDE, ("dogs",)), 0, np.random.default_rng(0))


def kinds(steps) -> list[str]:
    return [step.name for step in steps]


def test_versions_of_one_kind_differ_by_two_levels():
    rng = np.random.default_rng(0)
    for _ in range(200):
        first, second, third = draw_triple(rng, same_kind=True)
        assert kinds(first) == kinds(second)
        assert max(abs(a.severity - b.severity) for a, b in zip(first, second, strict=True)) >= 2
        assert set(kinds(first)).isdisjoint(kinds(third))


def test_independent_versions():
    rng = np.random.default_rng(0)
    drawn = [draw_triple(rng, same_kind=False) for _ in range(200)]
    assert sum(kinds(first) != kinds(second) for first, second, _ in drawn) > 150
    assert all(set(kinds(first + second)).isdisjoint(kinds(third)) for first, second, third in drawn)


def coordinates(side: int) -> np.ndarray:
    """A picture that tells where each of its pixels was."""
    picture = np.zeros((side, side, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.indices((side, side))
    return picture


def place(patch: np.ndarray) -> tuple[int, int]:
    return int(patch[0].min()), int(patch[1].min())


@pytest.mark.parametrize("side", [180, 200])
def test_patches_overlap_as_asked(side):
    rng = np.random.default_rng(0)
    flipped = set()
    for _ in range(100):
        pair = cut_patches(coordinates(side), 100, (0.1, 0.3), rng)
        (top, left), (other_top, other_left) = map(place, pair)
        shared = max(0, 100 - abs(top - other_top)) * max(0, 100 - abs(left - other_left))
        assert 0.1 <= shared / (2 * 100**2 - shared) <= 0.3
        flipped |= {bool(patch[1, 0, 0] > patch[1, 0, -1]) for patch in pair}
    assert flipped == {False, True}


def test_patches_where_there_is_no_room():
    first, second = cut_patches(coordinates(100), 100, (0.1, 0.3), np.random.default_rng(0))
    assert first.shape == second.shape == (3, 100, 100)


def test_region_is_no_larger_than_two_patches():
    rng = np.random.default_rng(0)
    picture = coordinates(250)
    assert cut_region(picture, 100, rng).shape == (200, 200, 3)
    assert cut_region(picture[:130], 100, rng).shape == (130, 130, 3)
    with pytest.raises(UsageError, match="250 x 90 pixels is smaller than the crop of 100"):
        cut_region(picture[:90], 100, rng)
