"""iqa-run and iqa-bench with artefacts that take whole pictures."""

import json

import cv2
import numpy as np
import pytest

from command_line import invoke
from iqa_runtime.commands.bench import main as bench
from iqa_runtime.commands.run import main as run

pytest.importorskip("onnxruntime")


@pytest.fixture
def pictures(tmp_path, noise, save_png):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, size in enumerate([(30, 50), (41, 33), (64, 64)]):
        save_png(folder / f"{index}.png", noise(*size, index))
    return folder


def rows(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_pictures_of_several_sizes_are_scored(artefacts, pictures):
    result = invoke(run, artefacts.whole(), pictures, "--format", "jsonl")
    assert result.exit_code == 0
    assert [(row["width"], row["height"], row["patches"]) for row in rows(result)] == [
        (50, 30, 1),
        (33, 41, 1),
        (64, 64, 1),
    ]


def test_a_picture_too_small_fails_alone(artefacts, pictures):
    result = invoke(run, artefacts.whole(smallest=40), pictures, "--format", "jsonl")
    assert result.exit_code == 1
    scored = {row["path"][-5:]: row["score"] is not None for row in rows(result)}
    assert scored == {"0.png": False, "1.png": False, "2.png": True}
    (first, *_) = (row["error"] for row in rows(result))
    assert "50 x 30 pixels: too small for this network, which takes 40 x 40 and more" in first
    assert "--resize shorter:40" in first or "resize=shorter:40" in first
    result = invoke(run, artefacts.whole(smallest=40), pictures, "--resize", "shorter:40", "--format", "jsonl")
    assert result.exit_code == 0


@pytest.mark.parametrize("size", [None, (24, 40)])
def test_crops_are_refused_with_words(artefacts, pictures, size):
    result = invoke(run, artefacts.whole(size=size), pictures, "--crops", "five")
    assert result.exit_code == 2
    assert "--crops: this artefact takes pictures whole and cuts no crops; leave it out" in " ".join(
        result.stderr.split()
    )


def test_the_table_and_the_contract_say_whole(artefacts, pictures):
    path = artefacts.whole(multiple=8, fit="reflect", smallest=16)
    shown = dict(line.split(maxsplit=1) for line in invoke(run, path, "--info").stdout.splitlines())
    assert shown["patch_plan.kind"] == "whole"
    assert (shown["patch_plan.multiple"], shown["patch_plan.smallest"]) == ("8", "16")
    assert shown["inputs.0.shape"] == "batch, 3, height, width"
    assert "whole pictures" in invoke(run, path, pictures, "--format", "table").stdout


@pytest.mark.parametrize(("kind", "size"), [("nr", None), ("fr", None), ("nr", (24, 40))])
def test_an_installation_is_checked_with_it(artefacts, kind, size):
    result = invoke(run, artefacts.whole(task=kind, size=size, smallest=None if size else 80), "--check")
    assert result.exit_code == 0, result.stdout
    assert "ms a picture of" in result.stdout


def test_heat_maps_are_as_large_as_their_pictures(artefacts, pictures, tmp_path):
    result = invoke(run, artefacts.whole(cell=4, multiple=8, fit="reflect"), pictures, "--maps", tmp_path / "maps")
    assert result.exit_code == 0, result.stderr
    drawn = sorted((tmp_path / "maps").rglob("*.png"))
    assert len(drawn) == 3
    for path, (height, width) in zip(drawn, [(30, 50), (41, 33), (64, 64)], strict=True):
        picture = cv2.imread(str(path))
        assert picture.shape[0] >= height
        assert picture.shape[1] >= width
        assert np.ptp(picture) > 0


def test_a_benchmark_states_the_size(artefacts, pictures, tmp_path):
    options = ("--seconds", "0.01", "--bandwidth", "1", "--peak", "1")
    path, output = artefacts.whole(multiple=16, fit="reflect"), tmp_path / "report.json"
    result = invoke(bench, path, pictures / "0.png", *options, "--output", output)
    assert result.exit_code == 0, result.stderr
    report = json.loads(output.read_text())
    assert report["crops"] == "whole (64 x 32)"
    assert report["image"].startswith("50 x 30")
    assert [batch["items"] for batch in report["batches"]] == [1]
    result = invoke(bench, path, pictures / "0.png", *options, "--batch-sizes", "1,2")
    assert result.exit_code == 2
    assert "pictures at their own size are run one at a time" in " ".join(result.stderr.split())
