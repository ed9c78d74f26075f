"""CVRKD-IQA's recipes at edge size: what is kept of a frozen trunk, what is trained, what the student starts with."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.utils.data import default_collate

from iqa_export.checkpoints import load_into, random_checkpoint, read_checkpoint
from iqa_export.models.cvrkd import CONFIGS, CROP, GRID
from iqa_export.systems.cvrkd import CvrkdSystem
from iqa_export.systems.yoto import EDGE_WEIGHTS
from iqa_runtime.errors import FileError, UsageError
from iqa_training.configuration import LoopConfig, read_config
from iqa_training.loop import fit
from iqa_training.recipes import build_recipe
from iqa_training.recipes.cvrkd_maps import KeptMaps
from iqa_training.run.state import Run
from labelled_pictures import Pictures, degraded_photographs

CHANNELS = sum(CONFIGS["edge"].channels)
KEPT = 1e-3
"""Absolute, for scores of about one: maps are kept in float16."""
CONFIGURATIONS = Path(__file__).parents[3] / "training" / "configs"
EDGE = {"size": "edge", "places": 2}


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    """Two versions of two contents, of the size of a crop: there is one place to cut."""
    return degraded_photographs(CROP, ("dogs", "fig"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("cvrkd") / "teacher.safetensors"
    system = CvrkdSystem()
    safetensors.torch.save_file(random_checkpoint(system.build("edge"), 0, system.key_map("edge")).entries, file)
    return file


def test_kept_maps_score_as_pixels_do(pictures, teacher):
    """Beside the only other content, each crop being all of a picture."""
    kept, plain = (
        build_recipe("cvrkd-student", settings | {"start": "all"}, {"teacher": teacher})
        for settings in (EDGE, {"size": "edge"})
    )
    examples = [kept.validation_example(pictures, index) for index in range(len(pictures))]
    assert {name: value.dtype.name for name, value in examples[0].items()} == {
        "image": "float32",
        "aligned": "float32",
        "reference": "float32",
        "label": "float32",
    }
    assert examples[0]["image"].shape == (CHANNELS, GRID, GRID)
    batch = default_collate([plain.validation_example(pictures, index) for index in range(len(pictures))])
    for recipe in (kept, plain):
        recipe.network.eval()
    with torch.no_grad():
        expected, scores = plain.predict(batch)["nar"], kept.predict(default_collate(examples))["nar"]
        losses = plain.losses(batch), kept.losses(default_collate(examples))
    torch.testing.assert_close(scores, expected, rtol=0, atol=KEPT)
    assert expected.std() > 10 * KEPT
    torch.testing.assert_close(losses[1]["distillation"], losses[0]["distillation"], rtol=0.01, atol=KEPT)


def test_versions_and_their_original_are_cut_alike():
    larger = degraded_photographs(CROP + 32, ("dogs",))
    pristine = larger.item(0).reference
    same = Pictures([type(larger.item(0))(pristine, pristine, 1.0, "dogs", None), larger.item(1)])
    kept = build_recipe("cvrkd-teacher", {"size": "edge", "places": 3}, {"encoder": EDGE_WEIGHTS})._kept
    maps = [kept.of(same, 0, place, reference=False) for place in range(3)]
    for place, image in enumerate(maps):
        assert np.array_equal(kept.of(same, 1, place, reference=True), image)
        assert not np.array_equal(kept.of(same, 1, place, reference=False), image)
    assert len({image.tobytes() for image in maps}) == 3


def test_maps_outlive_a_run_by_the_trunk_they_are_of(pictures, teacher, tmp_path, monkeypatch):
    settings = EDGE | {"maps": str(tmp_path)}

    def first(weights: dict[str, Path]) -> np.ndarray:
        return build_recipe("cvrkd-teacher", settings, weights)._kept.of(pictures, 0, 0, reference=False)

    made = first({"encoder": EDGE_WEIGHTS})
    [folder] = tmp_path.iterdir()
    [file] = folder.iterdir()
    monkeypatch.setattr(KeptMaps, "_maps", lambda *_: np.zeros((CHANNELS, GRID, GRID), np.float16))
    assert np.array_equal(first({"encoder": EDGE_WEIGHTS}), made)
    other = build_recipe("cvrkd-student", settings, {"teacher": teacher})._kept.of(pictures, 0, 0, reference=False)
    assert not other.any()
    assert len(list(tmp_path.iterdir())) == 2
    file.write_bytes(b"")
    with pytest.raises(FileError, match="cannot be kept or read"):
        first({"encoder": EDGE_WEIGHTS})


@pytest.mark.parametrize("name", ["cvrkd-edge-teacher", "cvrkd-edge-student"])
def test_all_but_the_trunk_is_trained(name, pictures, teacher, tmp_path):
    config = read_config(CONFIGURATIONS / f"{name}.yaml")
    kind, task = name.replace("-edge", ""), "fr" if "teacher" in name else "nar"
    weights = {"encoder": EDGE_WEIGHTS} if kind == "cvrkd-teacher" else {"teacher": teacher}
    recipe = build_recipe(kind, config.recipe, weights)
    assert (recipe.variant, recipe.export_options) == ("edge", f" --task {task}")
    before = {name: tensor.clone() for name, tensor in recipe.network.state_dict().items()}
    loop = LoopConfig(epochs=1, batch=2, learning_rate=1e-3, precision="bfloat16", freeze_normalisation=False)
    progress = fit(Run(recipe=recipe, train=pictures, validation=pictures, loop=loop, seed=0, folder=tmp_path))
    assert f"srcc_{task}" in progress.rows[0]
    system = CvrkdSystem()
    exported = system.build("edge")
    checkpoint = read_checkpoint(tmp_path / "best.safetensors")
    load_into(exported, checkpoint, system.key_map(system.variant_of(checkpoint.entries)))
    for name, tensor in exported.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("trunk."), name


def test_trunk_learns_from_pictures_alone(pictures):
    settings = {"size": "edge", "frozen_layers": 3}
    recipe = build_recipe("cvrkd-teacher", settings, {"encoder": EDGE_WEIGHTS})
    groups = recipe.parameter_groups(LoopConfig(learning_rate=2e-3, encoder_learning_rate=1e-4))
    assert [group["lr"] for group in groups] == [1e-4, 2e-3]
    batch = default_collate([recipe.example(pictures, index, np.random.default_rng(0)) for index in range(2)])
    recipe.start_epoch(LoopConfig())
    seen = []
    recipe.network.trunk.register_forward_hook(lambda *given: seen.append(given[-1][-1].requires_grad))
    recipe.losses(batch)["total"].backward()
    assert seen == [True, False]
    learnt = {name.split(".")[1] for name, tensor in recipe.network.trunk.named_parameters() if tensor.grad is not None}
    assert learnt == {str(index) for index in range(3, 15)}


def test_twin_sees_no_reference(pictures, teacher):
    settings = EDGE | {"start": "all", "difference": False, "distillation_weight": 0.0}
    twin = build_recipe("cvrkd-student", settings, {"teacher": teacher})
    batch = default_collate([twin.validation_example(pictures, index) for index in range(len(pictures))])
    with torch.no_grad():
        scores = twin.predict(batch)["nar"]
        same = twin.predict(batch | {"reference": batch["reference"].flip(0)})["nar"]
        losses = twin.losses(batch)
    assert torch.equal(scores, same)
    assert set(losses) == {"total", "absolute_error"}


@pytest.mark.parametrize("start", ["trunk", "all"])
def test_student_starts_with_what_is_set_of_its_teacher(teacher, start):
    student = build_recipe("cvrkd-student", {"size": "edge", "start": start}, {"teacher": teacher}).network
    taught = read_checkpoint(teacher).entries
    weights = {name: tensor for name, tensor in student.named_parameters() if name.endswith(".weight")}
    same = {name for name, tensor in weights.items() if torch.equal(tensor, taught[name])}
    assert same == {name for name in weights if start == "all" or name.startswith("trunk.")}


def test_correlation_joins_the_error(pictures):
    plain, joined = (
        build_recipe("cvrkd-teacher", EDGE | more, {"encoder": EDGE_WEIGHTS}) for more in ({}, {"decorrelation": 0.5})
    )
    joined.network.load_state_dict(plain.network.state_dict())
    batch = default_collate([plain.validation_example(pictures, index) for index in range(len(pictures))])
    # From 0 to 1, as the contract of the edge variant says.
    assert batch["label"].tolist() == pytest.approx([0.0, 0.6, 0.0, 0.6])
    with torch.no_grad():
        error, losses = plain.losses(batch), joined.losses(batch)
    assert set(error) == {"total", "absolute_error"}
    assert losses["total"].item() == pytest.approx(
        error["total"].item() + 0.5 * losses["decorrelation"].item(), rel=1e-6
    )
    assert losses["decorrelation"] > 0


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("cvrkd-teacher", {"frozen_layers": 3}, "frozen_layers: of use for ``size`` edge alone"),
        ("cvrkd-teacher", {"places": 2}, "places: of use for ``size`` edge and a frozen trunk"),
        ("cvrkd-teacher", EDGE | {"frozen_layers": 3}, "places: of use"),
        ("cvrkd-teacher", EDGE | {"trunk_statistics": "batch"}, "places: of use"),
        ("cvrkd-student", EDGE | {"distilled_blocks": 7}, "distilled_blocks: 7 of 6"),
        ("cvrkd-student", EDGE | {"photographs": "x"}, "photographs: "),
    ],
)
def test_what_is_refused(name, settings, message):
    role = "encoder" if name == "cvrkd-teacher" else "teacher"
    with pytest.raises(UsageError, match=message):
        build_recipe(name, settings, {role: EDGE_WEIGHTS})
