"""CVRKD-IQA's teacher and student on a few pictures. They are fitted on small crops, which the network averages too."""

import csv
from itertools import accumulate
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch

from descent import check_descent
from iqa_export.checkpoints import KeyMap, load_into, random_checkpoint, read_checkpoint
from iqa_export.models.cvrkd import CONFIGS as SIZES
from iqa_export.models.cvrkd import CROP, Cvrkd, CvrkdOutput
from iqa_export.models.resnet import ResNet50
from iqa_export.systems.cvrkd import CvrkdSystem
from iqa_runtime.errors import FileError, UsageError
from iqa_training.configuration import LoopConfig, read_config
from iqa_training.datasets.items import Item
from iqa_training.loop import rate_factor
from iqa_training.recipes import build_recipe
from iqa_training.recipes.base import Recipe
from iqa_training.recipes.cvrkd import (
    CvrkdStudentRecipe,
    CvrkdTeacherRecipe,
    StudentSettings,
    TeacherSettings,
)
from iqa_training.run.state import Run
from labelled_pictures import Pictures, degraded_photographs

SIDE = 256
USED_PARAMETERS = 39.94e6
"""Of the authors' checkpoint, those that their network computes with."""
CENTRED = 1e-5
"""Of means of maps with a standard deviation of about 1: sums of 10,000 numbers in float32."""
ROUNDED = 0.005e6
"""To the two decimals above."""
CROPS = SIZES["published"].crops
CONFIGS = Path(__file__).parents[3] / "training" / "configs"


class SmallTeacher(CvrkdTeacherRecipe):
    crop = 64


class SmallStudent(CvrkdStudentRecipe):
    crop = 64


class StandIn(torch.nn.Module):
    """In place of a network: returns what the test gives it."""

    def __init__(self, output: CvrkdOutput) -> None:
        super().__init__()
        self.output = output

    def features(self, crops) -> torch.Tensor:
        return crops

    def assess(self, image, reference) -> CvrkdOutput:
        return self.output


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return degraded_photographs(SIDE, ("dogs", "fig"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    """A checkpoint as torchvision's."""
    file = tmp_path_factory.mktemp("cvrkd") / "resnet50.safetensors"
    entries = random_checkpoint(ResNet50(), 0, KeyMap()).entries
    safetensors.torch.save_file(entries, file)
    return file


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """A checkpoint with the authors' keys."""
    file = tmp_path_factory.mktemp("cvrkd") / "teacher.safetensors"
    entries = random_checkpoint(Cvrkd(), 0, CvrkdSystem().key_map("teacher")).entries
    safetensors.torch.save_file(entries, file)
    return file


def check_training(recipe: Recipe, source: Pictures, folder: Path) -> None:
    """All but the trunk is trained."""
    # Unfrozen statistics, to see that the frozen trunk keeps its own all the same.
    settings = LoopConfig(
        epochs=2,
        batch=2,
        learning_rate=2e-5,
        weight_decay=0.1,
        drop_every=1,
        freeze_normalisation=False,
        validate_every=2,
    )
    run = Run(
        recipe=recipe,
        train=source,
        validation=degraded_photographs(SIDE, ("meadow",)),
        loop=settings,
        seed=0,
        folder=folder,
    )
    trunk = {name: tensor.clone() for name, tensor in recipe.network.trunk.state_dict().items()}
    _, untaught = check_descent(run, "adam", {"trunk.": 0, "": 2e-5})
    assert untaught == {f"trunk.{name}" for name, _ in recipe.network.trunk.named_parameters()}
    assert all(torch.equal(tensor, trunk[name]) for name, tensor in recipe.network.trunk.state_dict().items())


def check_checkpoint(recipe: Recipe, file: Path) -> None:
    """It has the authors' keys, and loads as strictly as export does it."""
    system = CvrkdSystem()
    checkpoint = read_checkpoint(file)
    assert {"feature_extractor.conv1.weight", "lda1_process.0.bias", "regressor.l2.weight"} <= set(checkpoint.entries)
    network = system.build(recipe.variant)
    load_into(network, checkpoint, system.key_map(recipe.variant))
    state = network.state_dict()
    for name, tensor in recipe.network.named_parameters():
        assert torch.equal(state[name], tensor)


@pytest.mark.slow
def test_teacher(pictures, encoder, tmp_path):
    recipe = SmallTeacher(TeacherSettings(), {"encoder": encoder})
    check_training(recipe, pictures, tmp_path)
    check_checkpoint(recipe, tmp_path / "best.safetensors")
    # What each epoch left for the next: a tenth, as `drop_every` says.
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert rates == pytest.approx([2e-6, 2e-7])


@pytest.mark.slow
def test_student(pictures, teacher, tmp_path):
    recipe = SmallStudent(StudentSettings(), {"teacher": teacher})
    taught = {name: tensor.clone() for name, tensor in recipe._teacher.state_dict().items()}
    check_training(recipe, pictures, tmp_path)
    assert all(torch.equal(tensor, taught[name]) for name, tensor in recipe._teacher.state_dict().items())
    check_checkpoint(recipe, tmp_path / "best.safetensors")


def test_teacher_sees_aligned_crops(pictures, encoder):
    recipe = CvrkdTeacherRecipe(TeacherSettings(flip=True), {"encoder": encoder})
    pristine = pictures.item(0).reference
    same = Item(pristine, pristine, 0.25, "same", None)
    pictures = Pictures([same])
    example = recipe.example(pictures, 0, np.random.default_rng(0))
    assert example["image"].shape == (CROPS, 3, CROP, CROP)
    assert np.array_equal(example["image"], example["reference"])
    assert len({crop.tobytes() for crop in example["image"]}) == CROPS
    # A quarter of the way from 1 to 5.
    assert example["label"] == 2


@pytest.fixture(scope="module")
def places() -> Pictures:
    """One picture, its own reference, whose pixels are their row, their column and 7."""
    pixels = np.full((SIDE, SIDE, 3), 7, np.uint8)
    pixels[..., 0], pixels[..., 1] = np.indices((SIDE, SIDE))
    return Pictures([Item(pixels, pixels, 0.5, "places", None)])


def flips(examples: list[dict[str, np.ndarray]], name: str) -> set[tuple[bool, bool]]:
    """Return how crops of `places` were flipped: top to bottom, left to right."""
    crops = [crop for example in examples for crop in example[name]]
    return {(bool(crop[0, 0, 0] > crop[0, -1, 0]), bool(crop[1, 0, 0] > crop[1, 0, -1])) for crop in crops}


AS_IT_IS = {(False, False)}
ALL_WAYS = {(False, False), (False, True), (True, False), (True, True)}


@pytest.mark.parametrize("flip", [True, False])
def test_teacher_flips_pairs_alike(places, encoder, flip):
    recipe = CvrkdTeacherRecipe(TeacherSettings(flip=flip), {"encoder": encoder})
    examples = [recipe.example(places, 0, np.random.default_rng(seed)) for seed in range(4)]
    assert all(np.array_equal(example["image"], example["reference"]) for example in examples)
    assert flips(examples, "image") == (ALL_WAYS if flip else AS_IT_IS)
    assert flips([recipe.validation_example(places, 0)], "image") == AS_IT_IS


@pytest.mark.parametrize("augmentation", ["none", "flip", "flip_turn"])
def test_student_changes_the_crops_of_its_reference_alone(places, teacher, augmentation):
    recipe = CvrkdStudentRecipe(StudentSettings(reference_augmentation=augmentation), {"teacher": teacher})
    examples = [recipe.example(places, 0, np.random.default_rng(seed)) for seed in range(4)]
    assert flips(examples, "image") == flips(examples, "aligned") == AS_IT_IS
    turned = [bool((crop[2] == 0).any()) for example in examples for crop in example["reference"]]
    # Any angle but the right ones brings black corners in.
    assert set(turned) == {augmentation == "flip_turn"}
    assert all((example["image"][:, 2] == 7).all() for example in examples)
    if augmentation != "flip_turn":
        assert flips(examples, "reference") == (ALL_WAYS if augmentation == "flip" else AS_IT_IS)
    validation = recipe.validation_example(places, 0)
    assert flips([validation], "reference") == AS_IT_IS
    assert (validation["reference"][:, 2] == 7).all()


@pytest.mark.parametrize("initialisation", ["scaled_kaiming", "pytorch"])
def test_initialisation(encoder, teacher, initialisation):
    """Standard deviations of the layers; fans from the shapes of the weights."""
    recipes = (
        CvrkdTeacherRecipe(TeacherSettings(initialisation=initialisation), {"encoder": encoder}),
        CvrkdStudentRecipe(StudentSettings(initialisation=initialisation), {"teacher": teacher}),
    )
    trunks = (read_checkpoint(encoder).entries["conv1.weight"], recipes[1]._teacher.trunk.conv1.weight)
    for recipe, stem in zip(recipes, trunks, strict=True):
        assert torch.equal(recipe.network.trunk.conv1.weight, stem)
        scaled, plain = 0, 0
        for name, layer in recipe.network.named_modules():
            kind = type(layer).__name__
            if name.startswith("trunk.") or kind not in ("Linear", "Conv2d", "Conv1d"):
                continue
            fan_in = layer.weight[0].numel()
            kaiming = initialisation == "scaled_kaiming" and kind != "Conv1d"
            # PyTorch's is uniform within 1 / sqrt(fan-in), whose standard deviation is that over sqrt(3).
            expected = 0.1 * (2 / fan_in) ** 0.5 if kaiming else (3 * fan_in) ** -0.5
            # Five standard errors of the standard deviation of a normal distribution.
            allowed = 5 * expected / (2 * layer.weight.numel()) ** 0.5
            assert layer.weight.std().item() == pytest.approx(expected, abs=allowed), name
            assert bool((layer.bias == 0).all()) == kaiming
            scaled, plain = scaled + kaiming, plain + (not kaiming)
        # Two a channel mixer and the first of each mixer; four projections, two of the head; two a token mixer.
        linear = 2 * 27 + 2 + 4 + 2
        assert (scaled, plain) == ((linear, 2 * 27) if initialisation == "scaled_kaiming" else (0, linear + 2 * 27))


@pytest.mark.parametrize(("kind", "freeze"), [("teacher", True), ("student", False)])
def test_statistics_of_the_batch(pictures, encoder, teacher, kind, freeze):
    """The frozen trunk normalises by its batch, picture and reference apart, and learns from both; weights stay."""
    if kind == "teacher":
        recipe: Recipe = SmallTeacher(TeacherSettings(trunk_statistics="batch"), {"encoder": encoder})
    else:
        recipe = SmallStudent(StudentSettings(trunk_statistics="batch"), {"teacher": teacher})
    first = recipe.network.trunk.bn1
    maps = []
    recipe.network.trunk.bn1.register_forward_hook(lambda _, inputs, output: maps.append((inputs[0], output)))
    before = first.running_mean.clone()
    weights = {name: tensor.clone() for name, tensor in recipe.network.trunk.named_parameters()}
    recipe.start_epoch(LoopConfig(freeze_normalisation=freeze))
    example = recipe.example(pictures, 0, np.random.default_rng(0))
    batch = {name: torch.from_numpy(np.asarray(value)[None]) for name, value in example.items()}
    recipe.losses(batch)["total"].backward()
    expected = before
    for given, output in maps:
        mean = given.mean((0, 2, 3))
        centred = output.mean((0, 2, 3)) - first.bias
        torch.testing.assert_close(centred, torch.zeros_like(centred), atol=CENTRED, rtol=0)
        expected = 0.9 * expected + 0.1 * mean
    assert len(maps) == 2
    torch.testing.assert_close(first.running_mean, expected)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in recipe.network.trunk.named_parameters())
    assert all(tensor.grad is None for tensor in recipe.network.trunk.parameters())


def test_student_sees_aligned_crops_beside_a_photograph(pictures, teacher):
    recipe = CvrkdStudentRecipe(StudentSettings(), {"teacher": teacher})
    pristine, plain = pictures.item(0).reference, np.full((SIDE, SIDE, 3), 7, np.uint8)
    source = Pictures([Item(pristine, pristine, 1.0, "dogs", None), Item(plain, plain, 1.0, "plain", None)])
    examples = [recipe.example(source, 0, np.random.default_rng(seed)) for seed in range(8)]
    assert all(np.array_equal(example["image"], example["aligned"]) for example in examples)
    assert not any(np.array_equal(example["image"], example["reference"]) for example in examples)
    # Of another content, of which there is but one.
    assert all((example["reference"] == 7).all() for example in examples)


def test_student_takes_photographs_of_a_folder(pictures, teacher, tmp_path):
    for value in (50, 200):
        cv2.imwrite(str(tmp_path / f"{value}.png"), np.full((240, 300, 3), value, np.uint8))
    recipe = CvrkdStudentRecipe(StudentSettings(photographs=str(tmp_path)), {"teacher": teacher})
    drawn = {int(recipe.example(pictures, 0, np.random.default_rng(seed))["reference"].mean()) for seed in range(8)}
    assert drawn == {50, 200}


def test_folder_without_photographs(teacher, tmp_path):
    with pytest.raises(FileError, match="0 photographs"):
        CvrkdStudentRecipe(StudentSettings(photographs=str(tmp_path)), {"teacher": teacher})


def test_student_adds_its_losses(teacher):
    """Tokens differ by 1 in the block before last and by 2 in the last; scores by 3 and 1 from their labels."""
    recipe = CvrkdStudentRecipe(StudentSettings(distillation_weight=0.5), {"teacher": teacher})
    tokens = torch.zeros(18, 2, 49, 256)
    taught = tokens.clone()
    taught[-2], taught[-1] = 1, 2
    recipe.network = StandIn(CvrkdOutput(torch.tensor([4.0, 2.0]), tokens, tokens))
    recipe._teacher = StandIn(CvrkdOutput(torch.zeros(2), tokens, taught))
    crops = torch.zeros(2, CROPS, 3, 8, 8, dtype=torch.uint8)
    batch = {"image": crops, "reference": crops, "aligned": crops, "label": torch.tensor([1.0, 3.0])}
    losses = {name: value.item() for name, value in recipe.losses(batch).items()}
    assert losses == {"absolute_error": 2, "distillation": 5, "total": 4.5}
    recipe._settings = StudentSettings(distilled_blocks=1)
    assert recipe.losses(batch)["distillation"].item() == 4
    taught[0], taught[10], taught[11] = 3, 4, 5
    recipe._settings = StudentSettings(distilled_blocks=11, distilled_from="first")
    assert recipe.losses(batch)["distillation"].item() == 9 + 16


def test_student_starts_from_the_trunk_of_its_teacher(teacher):
    recipe = CvrkdStudentRecipe(StudentSettings(), {"teacher": teacher})
    published = read_checkpoint(teacher).entries
    assert torch.equal(recipe.network.trunk.conv1.weight, published["feature_extractor.conv1.weight"])
    assert not torch.equal(recipe.network.last.weight, published["regressor.l2.weight"])


TEACHER = [2e-4] * 22 + [2e-5] * 78
"""Ten times its rate to the epoch after which t > 20, and no drop in 100 epochs."""
TENTHS = [2e-5] * 30 + [2e-6] * 30 + [2e-7] * 30 + [2e-8] * 10
COMPOUND = list(accumulate(range(99), lambda rate, epoch: rate / 10 ** (epoch // 30), initial=2e-5))
"""Divided after each epoch by 10^(t // 30)."""


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("cvrkd-teacher", TEACHER),
        ("cvrkd-teacher-as-published", TEACHER),
        ("cvrkd-student", TENTHS),
        ("cvrkd-student-as-published", COMPOUND),
    ],
)
def test_configurations(name, rates, encoder, teacher):
    config = read_config(CONFIGS / f"{name}.yaml")
    kind = "-".join(name.split("-")[:2])
    file = {"encoder": encoder} if kind == "cvrkd-teacher" else {"teacher": teacher}
    optimizer = build_recipe(kind, config.recipe, file).optimizer(config.loop)
    assert isinstance(optimizer, torch.optim.Adam)
    assert not isinstance(optimizer, torch.optim.AdamW)
    [group] = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], config.loop.batch) == (rates[0], 5e-4, 32)
    factor = rate_factor(config.loop, 2 * config.loop.epochs)
    first, second = ([group["lr"] * factor(2 * epoch + step) for epoch in range(100)] for step in (0, 1))
    assert first == second == pytest.approx(rates, rel=1e-9, abs=0)
    # All but the trunk's.
    count = sum(tensor.numel() for tensor in group["params"])
    assert count + 23_508_032 == pytest.approx(USED_PARAMETERS, abs=ROUNDED)


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_what_is_published_and_not_the_default(kind):
    ours, published = (read_config(CONFIGS / f"cvrkd-{kind}{end}.yaml") for end in ("", "-as-published"))
    assert (ours.loop.renew_optimizer, published.loop.renew_optimizer) == (False, True)
    assert (ours.part, published.part, published.validation) == ("train", "all", 0)
    assert published.recipe["trunk_statistics"] == "batch"
    recipe = {"trunk_statistics": "kept"} | ours.recipe
    same = {"initialisation": "scaled_kaiming"}
    if kind == "teacher":
        assert recipe == {"trunk_statistics": "kept", "flip": True, **same}
        assert published.recipe == recipe | {"trunk_statistics": "batch"}
    else:
        chosen = {"reference_augmentation": "flip_turn", "distilled_blocks": 11, "distilled_from": "first"}
        assert published.recipe == recipe | {"trunk_statistics": "batch"} | chosen


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("cvrkd-teacher", {}, "cvrkd-teacher does not train its trunk from the start: give ``weights`` encoder=FILE"),
        ("cvrkd-student", {}, "cvrkd-student: give ``weights`` teacher=FILE"),
        ("cvrkd-student", {"distilled_blocks": 19}, "distilled_blocks"),
    ],
)
def test_what_is_refused(name, settings, message):
    with pytest.raises(UsageError, match=message):
        build_recipe(name, settings, {})
