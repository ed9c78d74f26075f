"""The contract files of examples/own_network: each goes with the network that it names, from checkpoint to score."""

from pathlib import Path

import numpy as np
import pytest

import iqa_export
from iqa_runtime import Scorer
from iqa_runtime.contract import OWN_SIZE

FOLDER = Path(__file__).parents[2] / "examples" / "own_network"
SHAPES = {"crops": (224, 224), "whole": (384, 512), "distribution": (224, 224), "pair": OWN_SIZE}


def module(name: str) -> str:
    """Return what the comment at the top of a contract file names."""
    command = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()[1]
    return command.split("--module ")[1].split()[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_each_shape_of_network_becomes_an_artefact(name, tmp_path, monkeypatch):
    monkeypatch.chdir(FOLDER)
    output = tmp_path / "x.onnx"
    with pytest.warns(UserWarning, match="untrained"):
        report = iqa_export.export(module=module(name), contract=f"{name}.toml", weights="random:0", output=output)
    assert report.passed
    assert tuple(report.contract.inputs[0].shape[-2:]) == SHAPES[name]
    pixels = np.random.RandomState(0).randint(0, 256, (250, 310, 3)).astype(np.uint8)
    with Scorer(output) as scorer:
        reference = np.roll(pixels, 1, 0) if report.contract.task == "fr" else None
        assert np.isfinite(scorer.score(pixels, reference).value)
