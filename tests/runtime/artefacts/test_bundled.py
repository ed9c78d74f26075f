"""Bundled artefacts by name, as a fresh installation scores with them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from iqa_runtime import Scorer, UsageError, read_contract
from iqa_runtime.artefacts import bundled
from iqa_runtime.artefacts.bundled import BUNDLED, find_artefact
from iqa_runtime.contract import FileDigest
from iqa_runtime.images.loading import load_image

PHOTOGRAPHS = Path(__file__).parents[3] / "examples" / "photographs"
REFERENCES = Path(__file__).parents[3] / "docs" / "models" / "cvrkd-edge-references.jpg"
ROUNDED = 2e-3
"""Absolute, for scores from 0 to 1: features that are constants of a graph are rounded to float16 with its weights."""
LADDERS = ("brushes_blur", "mountains_noise", "stream_jpeg")
MOST_BYTES = 44 * 10**6
"""Of the graphs: a wheel has nothing else of this size, and may have 45 MB."""
LEFT_OF_NOISE = 0.5
"""Share of the squared error."""


def iqa_run(*arguments: str | Path) -> list[dict[str, object]]:
    start = "from iqa_runtime.commands.run import main; main()"
    command = [sys.executable, "-c", start, *map(str, arguments), "--format", "jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_names():
    assert find_artefact("edge") == find_artefact("edge-nr")
    assert find_artefact("edge", reference=True) == find_artefact("edge-fr")
    for name in ("edge-nr", "edge-fr"):
        contract = read_contract(find_artefact(name))
        assert (contract.model, contract.variant, contract.task) == ("yoto", "edge", name.removeprefix("edge-"))
        assert "synthetic" in contract.weights.trained_on
    for name in ("mfe", "dri"):
        contract = read_contract(find_artefact(f"{name}-edge"))
        assert (contract.model, contract.variant, contract.task) == (name, "edge", "nr")
        assert contract.score.quantiles is not None
    assert find_artefact("cvrkd-edge") == find_artefact("cvrkd-edge-set")
    assert find_artefact("cvrkd-edge", reference=True) == find_artefact("cvrkd-edge-any")
    inside = read_contract(find_artefact("cvrkd-edge-set")).baked_reference
    assert inside is not None
    assert FileDigest(file=inside.file, sha256=inside.sha256) == FileDigest.of_file(REFERENCES)
    for name in BUNDLED:
        assert read_contract(find_artefact(name)).weights.trained


def test_a_path_is_a_path(tmp_path, monkeypatch):
    assert find_artefact("other.onnx") == Path("other.onnx")
    assert find_artefact(tmp_path / "edge-nr") == tmp_path / "edge-nr"
    monkeypatch.chdir(tmp_path)
    Path("edge").write_bytes(b"")
    assert find_artefact("edge") == Path("edge")


def test_an_installation_without(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "_FOLDER", tmp_path)
    with pytest.raises(UsageError, match="without bundled models; give the path"):
        find_artefact("edge")


def test_size():
    models = Path(bundled.__file__).parents[1] / "models"
    assert sum(file.stat().st_size for file in models.iterdir()) <= MOST_BYTES


@pytest.mark.parametrize("ladder", LADDERS)
def test_severity_orders_scores(ladder):
    """Each step down the ladder scores lower, without a reference and with the undamaged photograph as one."""
    photograph = PHOTOGRAPHS / f"{ladder.split('_')[0]}.jpg"
    steps = [photograph, *(PHOTOGRAPHS / f"{ladder}_{step}.jpg" for step in (1, 2, 3))]
    for name in ("edge", "mfe-edge", "dri-edge"):
        with Scorer(name) as scorer:
            values = [result.value for result in scorer.score_many(steps)]
        assert values == sorted(values, reverse=True)
    with Scorer("edge-fr") as scorer:
        values = [result.value for result in scorer.score_many(steps, [photograph] * len(steps))]
    assert values == sorted(values, reverse=True)


def test_dri_edge_restores(tmp_path):
    """A noisy photograph comes nearer to what it was, the same in Python and as a file."""
    noisy, pristine = (load_image(PHOTOGRAPHS / f"{name}.jpg") for name in ("mountains_noise_3", "mountains"))
    with Scorer("dri-edge", crops="grid", resize="none", restored=True) as scorer:
        restored = scorer.score(noisy).restored
    assert restored.shape == noisy.shape
    before, after = (np.square(picture.astype(float) - pristine).mean() for picture in (noisy, restored))
    assert after < LEFT_OF_NOISE * before
    photograph = PHOTOGRAPHS / "mountains_noise_3.jpg"
    iqa_run("dri-edge", photograph, "--crops", "grid", "--resize", "none", "--restored", tmp_path)
    [written] = tmp_path.iterdir()
    assert np.array_equal(load_image(written), restored)


def test_mfe_edge_gives_reasons():
    photographs = [PHOTOGRAPHS / f"{ladder}_{step}.jpg" for ladder in LADDERS for step in (1, 2, 3)]
    with Scorer("mfe-edge") as scorer:
        reasons = [result.reasons for result in scorer.score_many(photographs)]
    assert reasons == [(name,) for name in ("blur", "noise", "compression") for _ in range(3)]


def test_references_inside_score_as_their_sheet_does():
    """Baked features and cached ones, each rounded to float16 with the graph they are of."""
    pictures = [PHOTOGRAPHS / "stream.jpg", PHOTOGRAPHS / "stream_jpeg_3.jpg"]
    with Scorer("cvrkd-edge", threads=1) as inside, Scorer("cvrkd-edge-any", threads=1) as given:
        baked = [result.value for result in inside.score_many(pictures)]
        cached = [result.value for result in given.score_many(pictures, REFERENCES)]
        other = given.score(pictures[1], pictures[0]).value
    assert cached == pytest.approx(baked, abs=ROUNDED)
    assert abs(other - cached[1]) > ROUNDED
    assert baked[0] - baked[1] > 0.1
    [row] = iqa_run("cvrkd-edge", pictures[1])
    [beside] = iqa_run("cvrkd-edge", pictures[1], "--reference", pictures[0])
    assert (row["score"], beside["score"]) == (baked[1], other)


def test_command():
    photograph = PHOTOGRAPHS / "stream.jpg"
    worst = PHOTOGRAPHS / "stream_jpeg_3.jpg"
    with Scorer("edge") as alone, Scorer("edge-fr") as compared:
        expected = alone.score(worst).value, compared.score(worst, photograph).value
    [without] = iqa_run("edge", worst)
    [against] = iqa_run("edge", worst, "--reference", photograph)
    assert (without["score"], against["score"]) == expected
