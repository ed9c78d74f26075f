"""tools/make_models.py: the package's trained artefacts from photographs and seeds."""

import shutil
import sys
from pathlib import Path

import cv2
import pytest
import torch

import make_models
from bundle_edge import BUNDLES
from iqa_export.models.mobilenet import MobileNetV2
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.contract import FileDigest
from iqa_training.recipes import RECIPES

PHOTOGRAPHS = make_models.ROOT / "calibration" / "iqa_calibration" / "photographs"
TINY = """
seed: 1
synthetic: {tile: 256, tiles: 2, versions: 1, shortest: [260, 300], metrics: [gmsd], seed: 1}
loop: {epochs: 1, batch: 2}
recipe: {variant: edge, mode: both}
"""


@pytest.fixture
def photographs(tmp_path, monkeypatch) -> Path:
    """Four photographs, two on the first list, two on the second."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    listed = {}
    for place, file in enumerate(sorted(PHOTOGRAPHS.glob("*.jpg"))[:4]):
        picture = cv2.resize(cv2.imread(str(file)), (400, 300), interpolation=cv2.INTER_AREA)
        copy = folder / f"{place}.png"
        cv2.imwrite(str(copy), picture)
        listed[FileDigest.of_file(copy).sha256[:16]] = make_models.LISTS[place // 2]
    monkeypatch.setattr(
        make_models,
        "listed",
        lambda lists: {digest: name for digest, name in listed.items() if name in make_models.LISTS[:lists]},
    )
    return folder


@pytest.mark.parametrize("system", make_models.PLANS)
def test_every_stage_is_a_recipe_with_a_configuration(system):
    before = {make_models.ENCODER, *make_models.PLANS}
    for stage in make_models.PLANS[system].stages:
        assert stage.recipe in RECIPES
        assert (make_models.CONFIGS / f"{stage.config}.yaml").is_file()
        assert set(stage.weights.values()) <= before
        before.add(stage.config)


def test_all_that_is_bundled_has_a_plan():
    assert make_models.PLANS.keys() == BUNDLES.keys()


def test_cards_list_the_photographs():
    assert len(make_models.listed(1)) == 96
    assert len(make_models.listed(2)) == 633


def test_photographs_are_told_by_their_bytes(photographs, tmp_path):
    (photographs / "notes.txt").write_text("no picture")
    shutil.copy(photographs / "0.png", photographs / "again.png")
    folder = make_models.gather(photographs, 2, tmp_path / "gathered")
    assert {path.parent.name for path in folder.rglob("*.png")} == set(make_models.LISTS)
    assert len(list(folder.rglob("*.png"))) == 4
    assert len(list(make_models.gather(photographs, 1, tmp_path / "fewer").rglob("*.png"))) == 2


def test_photographs_that_are_missing_are_counted(photographs, tmp_path):
    (photographs / "1.png").unlink()
    with pytest.raises(SystemExit, match=r"1 of 4 photographs are not there, .* docs/models/edge-photographs\.md says"):
        make_models.gather(photographs, 2, tmp_path / "gathered")


@pytest.mark.slow
def test_from_photographs_to_artefacts(photographs, tmp_path, monkeypatch, capsys):
    configs = tmp_path / "configs"
    configs.mkdir()
    for stage in make_models.PLANS["yoto"].stages:
        (configs / f"{stage.config}.yaml").write_text(TINY)
    (configs / f"{make_models.POPULATION}.yaml").write_text(TINY.replace("seed: 1}", "validation: 0.5}"))
    monkeypatch.setattr(make_models, "CONFIGS", configs)
    encoder = tmp_path / "encoder.pth"
    torch.save(MobileNetV2().state_dict() | {"classifier.1.bias": torch.zeros(1000)}, encoder)
    output = tmp_path / "models"
    given = ["yoto", f"--photographs={photographs}", f"--encoder={encoder}", f"--output={output}"]
    monkeypatch.setattr(sys, "argv", ["make_models.py", *given])
    make_models.main()
    said = capsys.readouterr().out
    assert "yoto: trained_on: synthetic set" in said
    assert "and in the package synthetic set a603ec8c56d97bb7" in said
    assert "yoto: weights: 0 of" not in said
    assert "yoto: edge-fr: scores of 15 examples differ by" in said
    packaged = read_contract(make_models.PACKAGED / "edge-nr.onnx")
    made = read_contract(output / "package" / "edge-nr.onnx")
    assert made.score.quantiles is not None
    assert made.score.quantiles.population == packaged.score.quantiles.population
    assert made.weights.licence == packaged.weights.licence
