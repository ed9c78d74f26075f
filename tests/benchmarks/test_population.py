"""benchmarks/population.py: which pictures a population is made of, and which photographs."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from population import SCALE, main, versions

from iqa_runtime.contract import FileDigest
from iqa_runtime.images.loading import load_image
from iqa_training.datasets.synthetic import held_back
from iqa_training.datasets.synthetic_shards import SyntheticConfig

NAMES = ["pristine", "jpeg_1", "jpeg_2", "smaller", "noise", "blur"]
SIDE = 64
CONFIG = "dataset: synthetic\nsynthetic: {tile: 64, shortest: [64, 64], validation: 0.5}\n"


@pytest.fixture
def photograph():
    smooth = np.random.default_rng(0).integers(0, 256, (SIDE // 4, SIDE // 4, 3), np.uint8)
    return cv2.resize(smooth, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def test_versions(photograph):
    made = {name: pixels for name, pixels, _ in versions(photograph, np.random.default_rng(1))}
    assert list(made) == NAMES
    assert made["pristine"] is photograph
    assert SCALE[0] <= made["smaller"].shape[0] / SIDE <= SCALE[1]
    roughness = {name: np.abs(np.diff(pixels.astype(float), axis=0)).mean() for name, pixels in made.items()}
    assert roughness["blur"] < roughness["pristine"] < roughness["noise"]
    again = {name: pixels for name, pixels, _ in versions(photograph, np.random.default_rng(1))}
    assert all(np.array_equal(pixels, again[name]) for name, pixels in made.items())


def test_what_was_held_back_is_written(tmp_path, monkeypatch, capsys, photograph):
    folder, output, config = tmp_path / "photographs", tmp_path / "population", tmp_path / "config.yaml"
    config.write_text(CONFIG)
    for name in ("kept/a", "kept/b", "left/c", "left/d"):
        file = folder / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.roll(photograph, ord(name[-1]), axis=0))
    digests = {FileDigest.of_file(file).sha256: file for file in folder.rglob("*.png")}
    validating = held_back(list(digests), SyntheticConfig(validation=0.5))
    expected = [sha256 for sha256 in validating if digests[sha256].parent.name == "kept"]
    assert expected
    options = ("--photographs", folder, "--config", config, "--output", output, "--without", "left/*")
    monkeypatch.setattr(sys, "argv", ["population.py", *map(str, options)])
    main()
    assert f"{len(expected)} photographs" in capsys.readouterr().out
    names = sorted(f"{sha256[:16]}_{name}" for sha256 in expected for name in NAMES)
    assert sorted(file.stem for file in output.iterdir()) == names
    for sha256 in expected:
        [pristine] = output.glob(f"{sha256[:16]}_pristine.png")
        assert np.array_equal(load_image(pristine), load_image(Path(digests[sha256])))
