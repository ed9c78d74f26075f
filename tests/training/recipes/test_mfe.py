"""MFE-Net's two stages on a network that trains in seconds, and the examples of the first."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from descent import check_descent
from iqa_export.backbones import load_backbone
from iqa_export.checkpoints import CheckpointError, KeyMap, load_into, random_checkpoint, read_checkpoint
from iqa_export.models.mfe import Mfe, MfeConfig
from iqa_export.models.resnet import ResNet50
from iqa_export.models.van import SIZES, Van
from iqa_export.systems.mfe import MfeSystem
from iqa_runtime.contract import PatchPlan
from iqa_runtime.errors import UsageError
from iqa_training.configuration import LoopConfig, read_config
from iqa_training.datasets.items import Item
from iqa_training.distortions import Step
from iqa_training.loop import fit
from iqa_training.recipes import build_recipe
from iqa_training.recipes.base import Recipe
from iqa_training.recipes.mfe import (
    ContrastiveSettings,
    MfeContrastiveRecipe,
    MfeQualityRecipe,
    QualitySettings,
)
from iqa_training.recipes.mfe_views import distortion_class, to_color_space, two_views
from iqa_training.run.state import Run
from labelled_pictures import Pictures, degraded_photographs, fixed_batch

CROP = 64
SIDE = 160
CONFIGS = Path(__file__).parents[3] / "training" / "configs"


class SmallMfe(MfeSystem):
    """The same network, small."""

    name = "mfe_small"
    config = MfeConfig(crop=CROP, van="b0", drop_path=0.0, hidden=32, dropout=0.0)
    crop = CROP
    patch_plan = PatchPlan(kind="random", size=CROP, count=3, seed=0)


class SmallQuality(MfeQualityRecipe):
    system = SmallMfe


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return degraded_photographs(SIDE)


def backbone(network: torch.nn.Module, file: Path) -> Path:
    safetensors.torch.save_file(random_checkpoint(network, 0, KeyMap()).entries, file)
    return file


@pytest.fixture(scope="module")
def resnet(tmp_path_factory) -> Path:
    """A checkpoint as torchvision's."""
    return backbone(ResNet50(), tmp_path_factory.mktemp("mfe") / "resnet50.safetensors")


@pytest.fixture(scope="module")
def distortion(tmp_path_factory, resnet) -> Path:
    """A checkpoint as the first stage writes it."""
    file = tmp_path_factory.mktemp("mfe") / "distortion.safetensors"
    safetensors.torch.save_file(MfeContrastiveRecipe(ContrastiveSettings(), {"encoder": resnet}).exported(), file)
    return file


@pytest.fixture(scope="module")
def van(tmp_path_factory) -> Path:
    return backbone(Van(SIZES["b0"]), tmp_path_factory.mktemp("mfe") / "van.safetensors")


def run_of(recipe: Recipe, source: Pictures, folder: Path, **loop) -> Run:
    """Statistics are frozen, because behind those of a batch no bias has a gradient."""
    settings = LoopConfig(**{"batch": 2, "weight_decay": 0.1, "validate_every": 10} | loop)
    return Run(recipe=recipe, train=source, validation=source, loop=settings, seed=0, folder=folder)


@pytest.mark.slow
def test_contrastive(pictures, tmp_path, resnet):
    recipe = MfeContrastiveRecipe(ContrastiveSettings(crop=CROP), {"encoder": resnet})
    run = run_of(recipe, pictures, tmp_path, epochs=1, learning_rate=3e-2, encoder_learning_rate=3e-3, clip=1.0)
    _, untaught = check_descent(run, "sgd", {"encoder.": 3e-3, "projector.": 3e-2}, vectors_decay=False)
    assert untaught == set()
    # The next stage takes the trunk, and exporting what has no score is refused.
    best = tmp_path / "best.safetensors"
    later = SmallQuality(QualitySettings(), {"distortion": best})
    assert load_backbone(ResNet50(), best).kind == "contrique"
    for name, tensor in recipe.network.encoder.named_parameters():
        assert torch.equal(later.network.distortion.get_parameter(name), tensor)
    with pytest.raises(CheckpointError, match="missing"):
        load_into(Mfe(SmallMfe.config), read_checkpoint(best), SmallMfe().key_map("van_b2"))


@pytest.mark.slow
def test_quality(pictures, tmp_path, distortion, van):
    recipe = SmallQuality(QualitySettings(), {"distortion": distortion, "quality": van})
    statistics = recipe.network.distortion.bn1.running_mean.clone()
    run = run_of(recipe, pictures, tmp_path, epochs=1, learning_rate=1e-3, encoder_learning_rate=1e-4)
    _, untaught = check_descent(run, "adam", {"distortion.": 0, "quality.": 1e-4, "": 1e-3})
    assert untaught == {f"distortion.{name}" for name, _ in recipe.network.distortion.named_parameters()}
    assert torch.equal(recipe.network.distortion.bn1.running_mean, statistics)
    system = SmallMfe()
    exported = system.build("van_b2")
    load_into(exported, read_checkpoint(tmp_path / "best.safetensors"), system.key_map("van_b2"))
    state = exported.state_dict()
    for name, tensor in recipe.network.named_parameters():
        assert torch.equal(state[name], tensor)


@pytest.mark.slow
def test_quality_with_a_distortion_branch_that_follows(pictures, tmp_path, distortion, van):
    recipe = SmallQuality(QualitySettings(distortion_rate=0.1), {"distortion": distortion, "quality": van})
    run = run_of(recipe, pictures, tmp_path, epochs=1, learning_rate=1e-3, encoder_learning_rate=1e-4)
    _, untaught = check_descent(run, "adam", {"distortion.": 1e-5, "quality.": 1e-4, "": 1e-3})
    assert untaught == set()


@pytest.mark.slow
def test_quality_with_statistics_of_its_own_leaves_the_distortion_branch_alone(pictures, tmp_path, distortion):
    recipe = SmallQuality(QualitySettings(), {"distortion": distortion})
    branches = (recipe.network.distortion.bn1, recipe.network.quality.patch_embed1.norm)
    before = [norm.running_mean.clone() for norm in branches]
    fit(run_of(recipe, pictures, tmp_path, epochs=1, batch=4, freeze_normalisation=False))
    assert [torch.equal(norm.running_mean, old) for norm, old in zip(branches, before, strict=True)] == [True, False]


def test_published_weights_reach_the_branches(resnet, distortion, van):
    own = read_checkpoint(resnet).entries["conv1.weight"]
    std = torch.tensor(MfeConfig().std)[:, None, None]
    # Trained on pixels, what stage 1 saves is taken as it is; torchvision's is rescaled to pixels by that stage.
    recipe = SmallQuality(QualitySettings(), {"distortion": distortion, "quality": van})
    torch.testing.assert_close(recipe.network.distortion.conv1.weight, own / std)
    stem = read_checkpoint(van).entries["patch_embed1.proj.weight"]
    assert torch.equal(recipe.network.quality.patch_embed1.proj.weight, stem)

    class Normalised(SmallMfe):
        config = MfeConfig(crop=CROP, van="b0", distortion_input="normalised")

    class NormalisedQuality(MfeQualityRecipe):
        system = Normalised

    recipe = NormalisedQuality(QualitySettings(), {"distortion": resnet})
    assert torch.equal(recipe.network.distortion.conv1.weight, own)


def test_groups_and_rates(distortion):
    recipe = MfeQualityRecipe(QualitySettings(distortion_rate=0.1), {"distortion": distortion})
    optimizer = recipe.optimizer(LoopConfig(learning_rate=2e-4, encoder_learning_rate=2e-5, weight_decay=5e-4))
    assert isinstance(optimizer, torch.optim.Adam)
    assert not isinstance(optimizer, torch.optim.AdamW)
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(2e-6), 2e-5, 2e-4]
    counts = [sum(tensor.numel() for tensor in group["params"]) for group in optimizer.param_groups]
    assert counts == [23_508_032, 26_065_472, 68_839_591 - 23_508_032 - 26_065_472]


def test_contrastive_lets_weights_alone_decay():
    recipe = MfeContrastiveRecipe(ContrastiveSettings(momentum=0.8), {})
    optimizer = recipe.optimizer(LoopConfig(learning_rate=0.1, encoder_learning_rate=0.01, weight_decay=1e-3))
    assert isinstance(optimizer, torch.optim.SGD)
    groups = [(group["lr"], group["weight_decay"], group["momentum"]) for group in optimizer.param_groups]
    assert groups == [(0.01, 1e-3, 0.8), (0.01, 0, 0.8), (0.1, 1e-3, 0.8), (0.1, 0, 0.8)]
    named = dict(recipe.network.named_parameters())
    vectors = {id(tensor) for group in optimizer.param_groups[1::2] for tensor in group["params"]}
    norms = {f"{name}." for name, module in recipe.network.named_modules() if "BatchNorm" in type(module).__name__}
    assert vectors == {id(tensor) for name, tensor in named.items() if name.rpartition(".")[0] + "." in norms}


def test_loss_contrasts_cells_by_class():
    """Views one colour each: all cells of a view are equal, and so are those of another view of the same colour."""
    recipe = MfeContrastiveRecipe(ContrastiveSettings(crop=CROP, temperature=1.0), {})

    class ByColor(torch.nn.Module):
        """Projects each of the four cells of a view onto its colour."""

        def forward(self, views):
            return views.mean((2, 3)).repeat_interleave(4, 0)

    recipe.network = ByColor()
    views = torch.zeros(3, 2, 3, CROP, CROP, dtype=torch.uint8)
    for picture, channel in enumerate((0, 1, 0)):
        views[picture, :, channel] = 255
    pictures = torch.zeros(3, 4, 2, dtype=torch.uint8)
    pictures[1, 0] = 3
    loss = recipe.losses({"views": views, "class": pictures})["total"].item()
    # Two pictures of the first class make 16 cells at cosine 1, the other 8; between the classes it is 0.
    first, second = (np.log(a * np.e + b) - 1 for a, b in ((15, 8), (7, 16)))
    assert loss == pytest.approx((16 * first + 8 * second) / 24, abs=1e-5)


def test_example_of_the_contrastive_stage(pictures):
    recipe = MfeContrastiveRecipe(ContrastiveSettings(crop=CROP, longest=1, pristine=0.3, color_spaces=("rgb",)), {})
    examples = [recipe.example(pictures, 0, np.random.default_rng(seed)) for seed in range(100)]
    assert all(example["views"].shape == (2, 3, CROP, CROP) for example in examples)
    counts = np.array([(example["class"][:, 0] > 0).sum() for example in examples])
    assert set(counts) == {0, 1}
    # 30 of 100 within three standard deviations of 4.6.
    assert 16 <= (counts == 0).sum() <= 44
    assert all((example["class"][:, 1] == 0).all() for example in examples)
    repeated = recipe.example(pictures, 0, np.random.default_rng(0))
    assert all(np.array_equal(repeated[name], array) for name, array in examples[0].items())


def test_compositions_are_as_long_as_asked(pictures):
    recipe = MfeContrastiveRecipe(ContrastiveSettings(crop=CROP, longest=3, pristine=0, levels=True), {})
    codes = [recipe.example(pictures, 0, np.random.default_rng(seed))["class"] for seed in range(40)]
    assert {int((code[:, 0] > 0).sum()) for code in codes} == {1, 2, 3}
    assert all(((code[:, 0] > 0) == (code[:, 1] > 0)).all() for code in codes)


def test_classes():
    """Numbers of KADID-10k: 1 is Gaussian blur, 10 JPEG."""
    steps = (Step("jpeg", 4), Step("gaussian_blur", 2))
    assert distortion_class(steps, levels=False).tolist() == [[10, 0], [1, 0], [0, 0], [0, 0]]
    assert distortion_class(steps, levels=True).tolist() == [[10, 4], [1, 2], [0, 0], [0, 0]]
    assert distortion_class((), levels=True).tolist() == [[0, 0]] * 4


def test_views_of_two_sizes():
    """Stripes two pixels wide are one wide in the second view, which is too small and lies amid zeros."""
    picture = np.zeros((CROP, CROP, 3), np.uint8)
    picture[:, np.arange(CROP) % 4 < 2] = 200
    first, second = two_views(picture, CROP, ("rgb",), np.random.default_rng(0))
    assert first[0].tolist() in (picture[..., 0].tolist(), picture[:, ::-1, 0].tolist())
    inner = second[:, CROP // 4 : -CROP // 4, CROP // 4 : -CROP // 4]
    assert set(np.unique(inner[0, 0, ::2])) | set(np.unique(inner[0, 0, 1::2])) == {0, 200}
    assert (np.abs(np.diff(inner[0, 0].astype(int))) == 200).all()
    assert second.sum(dtype=int) == inner.sum(dtype=int)


def test_color_spaces():
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    # Luma 0.299; L* 53.24, a* 80.09, b* 67.20 (in 255ths and from 128 on); hue 0, saturation and value full.
    expected = {"rgb": (255, 0, 0), "gray": (76,) * 3, "lab": (136, 208, 195), "hsv": (0, 255, 255)}
    expected["mean_subtracted"] = (128,) * 3
    for space, color in expected.items():
        converted = to_color_space(red, space)
        assert converted.dtype == np.uint8
        assert np.unique(converted.reshape(-1, 3), axis=0).tolist() == [list(color)], space


def test_flips(distortion):
    recipe = SmallQuality(QualitySettings(), {"distortion": distortion})
    ramp = np.zeros((CROP, CROP, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.indices((CROP, CROP))
    source = Pictures([Item(ramp, None, 0.75, "ramp", None)])
    examples = [recipe.example(source, 0, np.random.default_rng(seed)) for seed in range(30)]
    corners = {tuple(example["image"][:2, 0, 0].tolist()) for example in examples}
    assert corners == {(0, 0), (0, CROP - 1), (CROP - 1, 0), (CROP - 1, CROP - 1)}
    assert examples[0]["label"] == np.float32(0.75)
    upright = SmallQuality(QualitySettings(vertical_flip=False), {"distortion": distortion})
    assert all(upright.example(source, 0, np.random.default_rng(seed))["image"][0, 0, 0] == 0 for seed in range(30))


def test_quality_is_the_absolute_error(pictures, distortion):
    recipe = SmallQuality(QualitySettings(), {"distortion": distortion})
    recipe.network.eval()
    batch = fixed_batch(recipe, pictures)
    with torch.no_grad():
        losses, score = recipe.losses(batch), recipe.predict(batch)["nr"]
        expected = recipe.network(batch["image"].float() / 255).score
    torch.testing.assert_close(score, expected)
    torch.testing.assert_close(losses["total"], (expected - batch["label"]).abs().mean())


@pytest.mark.parametrize("name", ["mfe-contrastive", "mfe-quality"])
def test_configurations(name, distortion):
    config = read_config(CONFIGS / f"{name}.yaml")
    role = "encoder" if name == "mfe-contrastive" else "distortion"
    recipe = build_recipe(name, config.recipe, {role: distortion})
    assert recipe.optimizer(config.loop).param_groups[-1]["lr"] == config.loop.learning_rate


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mfe-quality", {}, "mfe-quality does not train the distortion branch: give ``weights`` distortion=FILE"),
        ("mfe-contrastive", {"longest": 5}, "longest"),
        ("mfe-contrastive", {"color_spaces": []}, "color_spaces"),
        ("mfe-contrastive", {"color_spaces": ["xyz"]}, "color_spaces"),
    ],
)
def test_what_is_refused(name, settings, message):
    with pytest.raises(UsageError, match=message):
        build_recipe(name, settings, {})


def test_a_batch_of_one_has_no_statistics(distortion):
    recipe = SmallQuality(QualitySettings(), {"distortion": distortion})
    with pytest.raises(UsageError, match="batch is 1; give 2 or more"):
        recipe.optimizer(LoopConfig(batch=1, freeze_normalisation=False))
    assert recipe.optimizer(LoopConfig(batch=1)).param_groups
