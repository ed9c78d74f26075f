"""The network as published behind the runtime's own pipeline."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from iqa_calibration.graphs.finishing import embed_contract, save
from iqa_export.torch_backend import PyTorchBackend
from iqa_runtime import ArtefactError, FileError, Scorer, UsageError, read_contract
from iqa_runtime.backends import backend_class
from iqa_runtime.bundled import find_artefact

SCORE_SHARE = 1e-4
"""Of the score: the parity that export promises."""


@pytest.fixture
def changed(tmp_path):
    """Write the bundled artefact with another contract."""

    def write(**changes) -> Path:
        source = find_artefact("edge-nr")
        model = onnx.load(source)
        embed_contract(model, replace(read_contract(source), **changes))
        save(model, tmp_path / "x.onnx")
        return tmp_path / "x.onnx"

    return write


@pytest.mark.parametrize("name", ["edge-nr", "edge-fr"])
def test_it_scores_as_the_artefact_does(name):
    assert backend_class(Path("x.onnx"), "pytorch") is PyTorchBackend
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (230, 240, 3), np.uint8) for _ in range(2)]
    pair = pictures if name == "edge-fr" else pictures[:1]
    with Scorer(name, crops="center") as deployed, Scorer(name, crops="center", backend="pytorch") as published:
        expected, actual = deployed.score(*pair), published.score(*pair)
    assert actual.value == pytest.approx(expected.value, rel=SCORE_SHARE)
    assert actual.backend.startswith("pytorch PyTorch")


def test_other_weights_are_refused(changed):
    weights = read_contract(find_artefact("edge-nr")).weights
    other = changed(weights=replace(weights, file="random:1", trained=False))
    with pytest.raises(ArtefactError, match="SHA-256 of its weights"):
        Scorer(other, backend="pytorch")
    with pytest.raises(FileError, match="put a copy beside it"):
        Scorer(changed(weights=replace(weights, file="mine.pth", sha256="0" * 64)), backend="pytorch")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "cpu, cuda or cuda:N"),
        ({"precision": "bfloat16"}, "does not compute in it"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(UsageError, match=message):
        Scorer("edge", backend="pytorch", **options)


def test_an_engine_is_not_for_it(tmp_path):
    with pytest.raises(UsageError, match=r"does not read \.plan"):
        backend_class(tmp_path / "x.plan", "pytorch")
