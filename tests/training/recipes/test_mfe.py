"""MFE-Net's two stages on a network that trains in seconds, and the examples of the first."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import safetensors.torch
import torch

from descent import check_descent
from iqa_export.backbones import load_backbone
from iqa_export.checkpoints import CheckpointError, KeyMap, load_into, random_checkpoint, read_checkpoint
from iqa_export.models.mfe import CONFIGS, DISTORTIONS, Mfe, MfeConfig
from iqa_export.models.mobilenet import MobileNetV2Pyramid
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
from iqa_training.recipes.mfe_views import distortion_class, names_of, to_color_space, two_views
from iqa_training.run.state import Run
from labelled_pictures import Pictures, degraded_photographs, fixed_batch

CROP = 64
SIDE = 160
CONFIGURATIONS = Path(__file__).parents[3] / "training" / "configs"


class SmallMfe(MfeSystem):
    """The same network, small."""

    name = "mfe_small"
    configs: ClassVar = {
        "van_b2": MfeConfig(crop=CROP, van="b0", drop_path=0.0, hidden=32, dropout=0.0),
        "edge": replace(CONFIGS["edge"], crop=CROP, hidden=32, dropout=0.0),
    }
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
        load_into(Mfe(SmallMfe.configs["van_b2"]), read_checkpoint(best), SmallMfe().key_map("van_b2"))


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


@pytest.fixture(scope="module")
def named() -> Pictures:
    """Pictures with what was done to them."""
    plain = degraded_photographs(SIDE)
    return Pictures([replace(item, steps=(Step(item.distortion, 3.0),)) for item in plain.items])


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory) -> Path:
    return backbone(MobileNetV2Pyramid(), tmp_path_factory.mktemp("mfe") / "mobilenet.safetensors")


@pytest.mark.slow
def test_edge_stages(named, tmp_path, mobilenet):
    """The first teaches the branch and the names, the second all but the branch and the first layers of the other."""
    settings = ContrastiveSettings(variant="edge", crop=CROP, naming=2.0, adaptive=True)
    first = MfeContrastiveRecipe(settings, {"encoder": mobilenet})
    rates = {"encoder.": 1e-4, "projector.": 1e-3, "naming.": 1e-3}
    run = run_of(first, named, tmp_path / "1", epochs=1, learning_rate=1e-3, encoder_learning_rate=1e-4)
    losses, untaught = check_descent(run, "adamw", rates, vectors_decay=False)
    assert untaught == set()
    assert losses[0]["total"] == pytest.approx(losses[0]["contrast"] + losses[0]["naming"])

    weights = {"distortion": tmp_path / "1" / "best.safetensors", "quality": mobilenet}
    later = QualitySettings(variant="edge", crop=CROP // 2, naming=1.0, decorrelation=0.5, frozen_layers=4)
    second = SmallQuality(later, weights)
    crops = second.example(named, 0, np.random.default_rng(0)), second.validation_example(named, 0)
    assert [np.shape(example["image"])[1:] for example in crops] == [(CROP // 2,) * 2, (CROP,) * 2]
    for name, tensor in first.network.encoder.named_parameters():
        assert torch.equal(second.network.distortion.get_parameter(name), tensor)
    assert torch.equal(second.network.naming.weight, first.network.naming.weight)
    assert second.export_options == " --distortions"
    frozen = {f"quality.features.{index}.": 0.0 for index in range(4)}
    rates = {"distortion.": 0.0, **frozen, "quality.": 1e-4, "": 1e-3}
    run = run_of(second, named, tmp_path / "2", epochs=1, learning_rate=1e-3, encoder_learning_rate=1e-4)
    losses, untaught = check_descent(run, "adam", rates)
    assert {name.partition(".")[0] for name in untaught} == {"distortion", "quality"}
    assert losses[0]["total"] == pytest.approx(sum(losses[0].values()) - losses[0]["total"])
    system = SmallMfe()
    exported = system.build("edge")
    checkpoint = read_checkpoint(tmp_path / "2" / "best.safetensors")
    load_into(exported, checkpoint, system.key_map("edge"))
    assert system.variant_of(checkpoint.entries) == "edge"


def test_names_of_what_shows():
    def names(*steps: Step) -> set[str]:
        return {name for name, is_one in zip(DISTORTIONS, names_of(steps), strict=True) if is_one}

    assert names() == {"none"}
    assert names(Step("jpeg", 1.0)) == {"compression"}
    assert names(Step("jpeg", 0.9)) == {"none"}
    # Level 1 of these does nothing.
    assert names(Step("gaussian_blur", 1.4)) == names(Step("mean_shift", 1.0)) == {"none"}
    assert names(Step("gaussian_blur", 2.0), Step("darken", 3.0), Step("white_noise", 0.5)) == {"blur", "exposure"}
    every = ("lens_blur", "impulse_noise", "jpeg2000", "mean_shift", "high_sharpen", "color_shift", "pixelate")
    assert names(*(Step(name, 5.0) for name in every)) == set(DISTORTIONS) - {"none"}


def test_first_stage_names_the_views_of_full_size(mobilenet):
    """Two pictures, one blurred: the loss of a head that says "blur" of any picture with a first pixel of 255."""
    recipe = MfeContrastiveRecipe(ContrastiveSettings(variant="edge", crop=CROP, naming=3.0), {"encoder": mobilenet})

    class ByFirstPixel(torch.nn.Module):
        def forward(self, views):
            logits = torch.full((len(views), len(DISTORTIONS)), -50.0)
            logits[:, 1] = 100 * views[:, 0, 0, 0] - 50
            return torch.eye(len(views)).repeat_interleave(4, 0), logits

    recipe.network = ByFirstPixel()
    views = torch.zeros(2, 2, 3, CROP, CROP, dtype=torch.uint8)
    views[0, 0] = views[1, 1] = 255
    names = torch.stack([torch.from_numpy(names_of((Step("lens_blur", 5.0),)))] * 2)
    batch = {"views": views, "class": torch.zeros(2, 4, 2, dtype=torch.uint8), "names": names}
    # Of sixteen logits one is wrong, by 50.
    assert recipe.losses(batch)["naming"].item() == pytest.approx(3 * 50 / 16)


def test_published_weights_reach_the_branches(resnet, distortion, van):
    own = read_checkpoint(resnet).entries["conv1.weight"]
    std = torch.tensor(MfeConfig().std)[:, None, None]
    # Trained on pixels, what stage 1 saves is taken as it is; torchvision's is rescaled to pixels by that stage.
    recipe = SmallQuality(QualitySettings(), {"distortion": distortion, "quality": van})
    torch.testing.assert_close(recipe.network.distortion.conv1.weight, own / std)
    stem = read_checkpoint(van).entries["patch_embed1.proj.weight"]
    assert torch.equal(recipe.network.quality.patch_embed1.proj.weight, stem)

    class Normalised(SmallMfe):
        configs: ClassVar = {"van_b2": MfeConfig(crop=CROP, van="b0", distortion_input="normalised")}

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
            return views.mean((2, 3)).repeat_interleave(4, 0), None

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


@pytest.mark.parametrize("name", ["mfe-contrastive", "mfe-quality", "mfe-edge-contrastive", "mfe-edge-quality"])
def test_configurations(name, distortion, mobilenet):
    config = read_config(CONFIGURATIONS / f"{name}.yaml")
    start = mobilenet if "edge" in name else distortion
    weights = {"encoder": start} if "contrastive" in name else {"distortion": start}
    if name == "mfe-edge-quality":
        weights["quality"] = mobilenet
    recipe = build_recipe(name.replace("-edge", ""), config.recipe, weights)
    assert recipe.optimizer(config.loop).param_groups[-1]["lr"] == config.loop.learning_rate


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mfe-quality", {}, "mfe-quality does not train the distortion branch: give ``weights`` distortion=FILE"),
        ("mfe-contrastive", {"longest": 5}, "longest"),
        ("mfe-contrastive", {"color_spaces": []}, "color_spaces"),
        ("mfe-contrastive", {"color_spaces": ["xyz"]}, "color_spaces"),
        ("mfe-contrastive", {"naming": 1.0}, "van_b2 names no distortions"),
        ("mfe-quality", {"naming": 1.0, "distortion_rate": 0.1}, "van_b2 names no distortions"),
        ("mfe-quality", {"frozen_layers": 1, "distortion_rate": 0.1}, "frozen_layers: of use for the edge variant"),
    ],
)
def test_what_is_refused(name, settings, message):
    with pytest.raises(UsageError, match=message):
        build_recipe(name, settings, {})


def test_names_need_to_know_what_was_done(pictures, mobilenet):
    recipe = SmallQuality(QualitySettings(variant="edge", naming=1.0, distortion_rate=0.1), {"quality": mobilenet})
    with pytest.raises(UsageError, match="the data does not say what was done to it; set naming to 0"):
        recipe.example(pictures, 0, np.random.default_rng(0))


def test_a_batch_of_one_has_no_statistics(distortion):
    recipe = SmallQuality(QualitySettings(), {"distortion": distortion})
    with pytest.raises(UsageError, match="batch is 1; give 2 or more"):
        recipe.optimizer(LoopConfig(batch=1, freeze_normalisation=False))
    assert recipe.optimizer(LoopConfig(batch=1)).param_groups
