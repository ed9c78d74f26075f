"""DRI-IQA's recipes at edge size: smaller crops than are scored, what the restorer learns from, what is frozen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from iqa_export.checkpoints import KeyMap, load_into, random_checkpoint, read_checkpoint
from iqa_export.models.dri_extractor import DualRepresentationExtractor
from iqa_export.models.mobilenet import MobileNetV2Pyramid
from iqa_export.systems.dri import DriSystem
from iqa_runtime.errors import UsageError
from iqa_training.configuration import LoopConfig, read_config
from iqa_training.distortions import DISTORTIONS, Step
from iqa_training.loop import fit
from iqa_training.losses.regression import decorrelation
from iqa_training.losses.restoration import logarithmic_error
from iqa_training.recipes import build_recipe
from iqa_training.recipes.dri_representation import RepresentationNetwork, freeze_layers
from iqa_training.run.state import Run
from labelled_pictures import Pictures, degraded_photographs, fixed_batch

CONFIGURATIONS = Path(__file__).parents[3] / "training" / "configs"
SCORED = 224
SETTINGS = {"variant": "edge", "crop": 64}
BLURRED, DARKENED = (Step("gaussian_blur", 3.0),), (Step("gaussian_blur", 3.0), Step("darken", 2.0))
RESTORABLE = ("blur", "noise", "compression")


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return degraded_photographs(SCORED, labels=(1.0, 0.4))


@pytest.fixture(scope="module")
def representation(tmp_path_factory) -> Path:
    """A checkpoint as the first stage writes it."""
    network = RepresentationNetwork(DriSystem().config_of("edge"))
    file = tmp_path_factory.mktemp("dri") / "representation.safetensors"
    load_into(network, random_checkpoint(network, 0, KeyMap()), KeyMap())
    safetensors.torch.save_file(network.state_dict(), file)
    return file


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    """A published trunk, of random weights."""
    trunk = MobileNetV2Pyramid()
    file = tmp_path_factory.mktemp("mobilenet") / "mobilenet_v2.safetensors"
    safetensors.torch.save_file(random_checkpoint(trunk, 0, KeyMap()).entries, file)
    return file


def done_to(pictures: Pictures, steps: tuple[Step, ...]) -> Pictures:
    """Say so of the last picture, and of all others that they were blurred."""
    items = [replace(item, steps=BLURRED) for item in pictures.items]
    return Pictures([*items[:3], replace(items[3], steps=steps)])


@pytest.mark.parametrize("stage", ["representation", "restoration", "quality"])
def test_configurations(stage, representation, encoder):
    config = read_config(CONFIGURATIONS / f"dri-edge-{stage}.yaml")
    weights = {"encoder": encoder} if stage == "representation" else {"representation": representation}
    recipe = build_recipe(f"dri-{stage}", config.recipe, weights)
    assert recipe.variant == "edge"
    assert config.synthetic.tile >= recipe.smallest


def test_learns_from_smaller_crops_than_it_scores(pictures, representation):
    recipe = build_recipe("dri-quality", SETTINGS, {"representation": representation})
    batch = fixed_batch(recipe, pictures)
    assert batch["image"].shape[2:] == batch["pristine"].shape[2:] == (64, 64)
    validation = recipe.validation_example(pictures, 0)["image"]
    assert validation.shape == (3, SCORED, SCORED)
    for parameter in recipe.network.parameters():
        parameter.data.mul_(1.01)  # as training moves them
    exported = DriSystem().build("edge")
    load_into(exported, random_checkpoint(exported, 0, KeyMap()), KeyMap())
    exported.load_state_dict(recipe.network.state_dict())
    crop = torch.from_numpy(validation)[None]
    recipe.network.eval()
    with torch.no_grad():
        expected = exported(crop.float() / 255).score
        assert torch.equal(recipe.predict({"image": crop})["nr"], expected)


def test_the_restorer_learns_from_what_it_is_to_undo(pictures, representation):
    settings = SETTINGS | {"groups": list(RESTORABLE), "semantic_weight": 0.0}
    recipe = build_recipe("dri-quality", settings, {"representation": representation})
    recipe.network.eval()
    batch = fixed_batch(recipe, done_to(pictures, DARKENED))
    assert batch["undone"].tolist() == [1, 0]
    with torch.no_grad():
        losses = recipe.losses(batch)
        restored = recipe.network(batch["image"].float() / 255, restore=True).restored
    error = (restored - batch["pristine"].float() / 255).abs().mean((1, 2, 3))
    torch.testing.assert_close(losses["restoration"], error[0])
    with torch.no_grad():
        losses = recipe.losses({name: values[1:] for name, values in batch.items()})
    assert losses.keys() == {"total", "squared_error"}
    assert losses["total"] == losses["squared_error"]


@pytest.mark.parametrize("steps", [(), None])
def test_the_restorer_learns_from_pristine_and_unknown_pictures(pictures, representation, steps):
    recipe = build_recipe("dri-quality", SETTINGS | {"groups": ["noise", "blur"]}, {"representation": representation})
    assert fixed_batch(recipe, done_to(pictures, steps))["undone"].tolist() == [1, 1]


def test_degrades_by_these_groups_alone(pictures, representation, monkeypatch):
    drawn = []

    def leave(picture: np.ndarray, steps: tuple[Step, ...], _: np.random.Generator) -> np.ndarray:
        drawn.append({DISTORTIONS[step.name].group for step in steps})
        return picture

    monkeypatch.setattr("iqa_training.recipes.dri.compose", leave)
    settings = SETTINGS | {"groups": ["noise", "blur"], "pristine": 0.3}
    recipe = build_recipe("dri-restoration", settings, {"representation": representation})
    for seed in range(100):
        recipe.example(pictures, 0, np.random.default_rng(seed))
    assert set().union(*drawn) == {"noise", "blur"}
    assert max(map(len, drawn)) == 2
    assert 55 < len(drawn) < 85


def test_correlation_and_semantic_crops(pictures, representation):
    weights = {"representation": representation}
    recipe = build_recipe("dri-quality", SETTINGS | {"decorrelation": 0.5, "semantic_crops": 1}, weights)
    whole = build_recipe("dri-quality", SETTINGS, weights)
    whole.network.load_state_dict(recipe.network.state_dict())
    batch = fixed_batch(recipe, pictures)
    first = {name: values[:1] for name, values in batch.items()}
    for each in (recipe, whole):
        each.network.eval()
    with torch.no_grad():
        losses, of_first = recipe.losses(batch), whole.losses(first)
        score = recipe.network(batch["image"].float() / 255).score
    torch.testing.assert_close(losses["semantic"], of_first["semantic"])
    torch.testing.assert_close(losses["decorrelation"], decorrelation(score, batch["label"]))
    rest = losses["squared_error"] + 0.1 * (losses["restoration"] + 0.1 * losses["semantic"])
    torch.testing.assert_close(losses["total"], rest + 0.5 * losses["decorrelation"])


def test_frozen_layers(representation):
    recipe = build_recipe("dri-quality", SETTINGS | {"frozen_layers": 2}, {"representation": representation})
    frozen = [name for name, parameter in recipe.network.named_parameters() if not parameter.requires_grad]
    assert {name.split(".")[3] for name in frozen} == {"0", "1"}
    groups = recipe.optimizer(LoopConfig()).param_groups
    learning = sum(tensor.numel() for group in groups for tensor in group["params"])
    assert learning == sum(parameter.numel() for parameter in recipe.network.parameters() if parameter.requires_grad)


def test_adaptive_first_stage():
    recipe = build_recipe("dri-representation", {"variant": "edge", "adaptive": True}, {})
    assert isinstance(recipe.optimizer(LoopConfig()), torch.optim.AdamW)


def test_what_the_full_size_network_cannot(representation):
    with pytest.raises(UsageError, match="crop: base has layers over positions"):
        build_recipe("dri-restoration", {"crop": 64}, {"representation": representation})


def test_frozen_layers_of_another_trunk():
    with torch.device("meta"):
        extractor = DualRepresentationExtractor(DriSystem().config_of("base"))
    with pytest.raises(UsageError, match="frozen_layers: of use for the edge variant alone"):
        freeze_layers(extractor, 2)


def test_frozen_layers_at_random():
    with pytest.raises(UsageError, match="frozen_layers: of use with ``weights`` encoder=FILE alone"):
        build_recipe("dri-representation", {"variant": "edge", "frozen_layers": 2}, {})


def test_export_takes_what_the_last_stage_writes(representation):
    recipe = build_recipe("dri-quality", SETTINGS, {"representation": representation})
    system = DriSystem()
    exported = recipe.exported()
    assert system.variant_of(exported) == "edge"
    system.build("edge").load_state_dict(exported)
    assert read_checkpoint(representation).entries.keys() - exported.keys() == {
        f"projectors.{half}.{layer}.{kind}"
        for half in ("quality", "degradation")
        for layer in ("hidden", "last")
        for kind in ("weight", "bias")
    }


def test_goes_on_with_what_the_score_does_not_depend_on(pictures, tmp_path):
    system = DriSystem()
    trained = system.build("edge")
    file = tmp_path / "network.safetensors"
    safetensors.torch.save_file(random_checkpoint(trained, 0, system.key_map("edge")).entries, file)
    recipe = build_recipe("dri-restoration", SETTINGS, {"network": file})
    run = Run(
        recipe=recipe,
        train=pictures,
        validation=None,
        loop=LoopConfig(epochs=1, batch=2, learning_rate=1e-3),
        seed=0,
        folder=tmp_path,
    )
    fit(run)
    finished = system.build("edge")
    load_into(trained, read_checkpoint(file), system.key_map("edge"))
    load_into(finished, read_checkpoint(tmp_path / "best.safetensors"), system.key_map("edge"))
    before = trained.state_dict()
    changed = {name for name, tensor in finished.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.split(".")[0] for name in changed} == {"decoder", "fine_modulation", "out"}
    assert not any(name.startswith("decoder.1") for name in changed)
    crop = torch.rand(1, 3, SCORED, SCORED, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        first, last = trained(crop, restore=True), finished(crop, restore=True)
    assert torch.equal(first.score, last.score)
    assert not torch.equal(first.restored, last.restored)
    assert recipe.leads_to is None


def test_pixel_loss(pictures, representation):
    settings = SETTINGS | {"pixel_loss": "logarithmic", "semantic_weight": 0.0}
    recipe = build_recipe("dri-restoration", settings, {"representation": representation})
    recipe.network.eval()
    batch = fixed_batch(recipe, pictures)
    with torch.no_grad():
        losses = recipe.losses(batch)
        restored = recipe.network(batch["degraded"].float() / 255, restore=True).restored
    assert losses["total"] == losses["restoration"] == logarithmic_error(restored, batch["pristine"].float() / 255)
