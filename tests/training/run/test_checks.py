"""What is refused before the first step, and what tells one set of pictures from another."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from iqa_runtime.errors import UsageError
from iqa_training.datasets import read_dataset
from iqa_training.datasets.items import DatasetSource, Item
from iqa_training.loop import fit
from iqa_training.run.checks import check_sources, describe_photographs, describe_pictures
from labelled_pictures import Pictures
from line_recipe import SIDE, LineRecipe, line_run, shades


def gray(content: str, label: float = 0.5, height: int = 8, width: int = 8, reference: bool = False) -> Item:
    pixels = np.zeros((height, width, 3), np.uint8)
    return Item(pixels, pixels if reference else None, label, content, None)


def alike(*labels: float) -> Pictures:
    return Pictures([gray(f"{index}", label) for index, label in enumerate(labels)])


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (alike(0.3), "validation pictures: 1, of 1 labels; a rank correlation needs two at least"),
        (alike(0.3, 0.3, 0.3), "validation pictures: 3, of 1 labels"),
        (alike(0.3, 0.3 + 1e-12), "validation pictures: 2, of 1 labels"),  # equal as the float32 that are compared
        (alike(), "validation pictures: 0, of 0 contents; recipe line needs 1 contents: add pictures"),
    ],
)
def test_a_validation_set_without_a_rank_correlation(tmp_path, validation, message):
    recipe = LineRecipe()
    with pytest.raises(UsageError, match=message):
        fit(replace(line_run(tmp_path, recipe), validation=validation))
    assert recipe.rates == []
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_without_a_score_is_validated_on_any_picture():
    recipe = LineRecipe()
    recipe.trains_score = False
    check_sources(recipe, shades(2), alike(0.3))


@pytest.mark.parametrize("part", ["training", "validation"])
def test_pictures_smaller_than_the_crop_are_named(tmp_path, part):
    recipe = LineRecipe()
    small = [gray(f"low{index}", 0.1 * index, SIDE - 1, 20) for index in range(4)]
    narrow = gray("narrow", 0.9, 20, SIDE - 1)
    pictures = Pictures([*shades(11).items, narrow, *small])
    run = line_run(tmp_path, recipe)
    changed = replace(run, train=pictures) if part == "training" else replace(run, validation=pictures)
    with pytest.raises(UsageError) as raised:
        fit(changed)
    assert str(raised.value) == (
        f"{part} pictures smaller than the crop of 6 pixels: narrow-11.png (5 x 20), low0-12.png (20 x 5), "
        "low1-13.png (20 x 5) and 2 more; leave them out"
    )
    assert recipe.rates == []


def test_pictures_as_large_as_the_crop_fit():
    exact = Pictures([gray("a", 0.1, SIDE, SIDE), gray("b", 0.2, SIDE, SIDE)])
    check_sources(LineRecipe(), exact, exact)


def test_each_picture_needs_its_reference():
    recipe = LineRecipe()
    recipe.needs_reference = True
    whole = Pictures([gray("a", 0.1, reference=True), gray("b", 0.2, reference=True)])
    check_sources(recipe, whole, whole)
    lacking = Pictures([*whole.items, gray("c", 0.3)])
    message = r"recipe line compares with references; 1 of 3 validation pictures have none: c-2\.png"
    with pytest.raises(UsageError, match=message):
        check_sources(recipe, whole, lacking)


def test_contents_to_contrast_with():
    class Contrast(LineRecipe):
        contents = 2

    one = Pictures([gray("a", 0.1), gray("a", 0.2)])
    with pytest.raises(UsageError, match="training pictures: 2, of 1 contents; recipe line needs 2 contents"):
        check_sources(Contrast(), one, shades(3))


@pytest.mark.parametrize(
    "other",
    [
        alike(0.1, 0.3, 0.2),
        alike(0.1, 0.2),
        Pictures([gray("x", 0.1), *alike(0.1, 0.2, 0.3).items[1:]]),
        Pictures([gray("0", 0.1, width=9), *alike(0.1, 0.2, 0.3).items[1:]]),
        Pictures([gray("0", 0.1, reference=True), *alike(0.1, 0.2, 0.3).items[1:]]),
        Pictures(alike(0.1, 0.2, 0.3).items[::-1]),
    ],
    ids=["labels", "count", "name", "size", "reference", "order"],
)
def test_other_pictures_have_another_description(other):
    assert describe_pictures(alike(0.1, 0.2, 0.3)) == describe_pictures(alike(0.1, 0.2, 0.3))
    assert describe_pictures(other) != describe_pictures(alike(0.1, 0.2, 0.3))


def test_a_data_set_may_move(tmp_path, monkeypatch):
    descriptions = set()
    for root in (tmp_path / "here", tmp_path / "there" / "below"):
        (root / "noisy").mkdir(parents=True)
        for name in ("a.png", "noisy/a.png", "noisy/b.png"):
            cv2.imwrite(str(root / name), np.zeros((8, 9, 3), np.uint8))
        (root / "mos.csv").write_text("distorted,reference,mos\nnoisy/a.png,a.png,0.5\nnoisy/b.png,a.png,0.25\n")
        descriptions.add(describe_pictures(DatasetSource(read_dataset("csv", root))))
    monkeypatch.chdir(tmp_path / "there")
    descriptions.add(describe_pictures(DatasetSource(read_dataset("csv", Path("below")))))
    assert len(descriptions) == 1


def test_other_photographs_have_another_description(tmp_path):
    files = [tmp_path / name for name in ("a.png", "b.png")]
    for file in files:
        file.write_bytes(b"picture")
    before = describe_photographs(files)
    files[1].write_bytes(b"another picture")
    assert len({before, describe_photographs(files), describe_photographs(files[:1])}) == 3
