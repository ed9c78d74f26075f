"""The network as published behind the runtime's own pipeline, and the layers of its deploy form."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
import torch

from command_line import invoke
from iqa_calibration.commands.compare import main
from iqa_calibration.comparing.sources import Graph
from iqa_calibration.graphs.finishing import embed_contract, save
from iqa_export.checkpoints import read_checkpoint
from iqa_export.systems import find_system
from iqa_export.torch_backend import PyTorchBackend
from iqa_export.weights import load_checkpoint
from iqa_runtime import ArtefactError, FileError, Scorer, UsageError, read_contract
from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.artefacts.opening import open_artefact, open_graph
from iqa_runtime.backends import GraphSpec, choose_backend
from tiny_contract import tiny_contract, unread

SCORE_SHARE = 1e-4
"""Of the score: the parity that export promises."""

LAYER_SHARE = 1e-4
"""Root mean square: float32 sums of a few thousand terms in two orders, and differences that leave a tenth of them."""

PAIRED_SHARE = 0.85
"""Of the float tensors of the artefact; the others are inside what PyTorch has as one node, a linear layer mostly."""


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
    assert choose_backend(open_artefact(find_artefact(name)), "pytorch").backend is PyTorchBackend
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


@pytest.mark.parametrize("key", [".", "ema"])
def test_weights_that_were_chosen_among_others_are_taken_again(changed, tmp_path, key):
    system, file = find_system("yoto"), tmp_path / "two.pth"
    published = read_checkpoint(system.bundled["edge"]).entries
    other = {name: value * 0.9 if value.is_floating_point() else value for name, value in published.items()}
    bare, averaged = (published, other) if key == "." else (other, published)
    torch.save(bare | {f"ema.{name}": value for name, value in averaged.items()}, file)
    checkpoint = load_checkpoint(system, str(file), "edge", weights_key=key)
    weights = read_contract(find_artefact("edge-nr")).weights
    artefact = changed(
        weights=replace(weights, file=file.name, sha256=checkpoint.sha256, trained=True, entry=checkpoint.entry)
    )
    picture = np.random.default_rng(0).integers(0, 256, (230, 240, 3), np.uint8)
    with Scorer(artefact, crops="center") as deployed, Scorer(artefact, crops="center", backend="pytorch") as oracle:
        assert oracle.score(picture).value == pytest.approx(deployed.score(picture).value, rel=SCORE_SHARE)


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


def noise(contract, seed=0):
    random = np.random.default_rng(seed)
    return {tensor.name: random.standard_normal((1, *tensor.shape[1:]), dtype=np.float32) for tensor in contract.inputs}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["edge-nr", "edge-fr"])
def test_nearly_all_layers_are_those_of_the_artefact(name):
    source = find_artefact(name)
    contract, graph = read_contract(source), Graph(source.read_bytes())
    with PyTorchBackend(open_graph(source), GraphSpec.of_artefact(contract), device="cpu", threads=1) as backend:
        layers, known = backend.layer_tensors(), graph.source().shapes
        common = [tensor for tensor in graph.floats if tensor in layers and layers[tensor] == known.get(tensor)]
        item = noise(contract)
        actual = backend.run_layers(item, common)
        scores = backend.infer(item, ["score"])
    assert len(common) >= PAIRED_SHARE * len(graph.floats)
    assert all(tensor.startswith("val_") for tensor in set(graph.floats) - set(common)), "the exporter's own names"
    assert {"score", *(output.name for output in contract.maps)} <= set(common)
    expected = graph.source().prepare(common)(item)
    for tensor in common:
        difference = np.linalg.norm(np.float64(actual[tensor]) - expected[tensor])
        assert difference <= LAYER_SHARE * np.linalg.norm(expected[tensor]), tensor
    assert actual["score"] == pytest.approx(scores["score"], rel=SCORE_SHARE)


@pytest.mark.slow
def test_layers_are_compared_by_the_command(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (230, 240, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "x.png"), picture)
    output = tmp_path / "x.json"
    arguments = ["edge", "edge", "--second-backend", "pytorch", "--images", str(tmp_path / "x.png"), "--threads", "1"]
    result = invoke(main, *arguments, "--crops", "center", "--layers", "--json", str(output))
    assert result.exit_code == 0, result.output
    layers = json.loads(output.read_text(encoding="utf-8"))["layers"]
    assert len(layers) > 100
    assert 0 < layers[0]["relative"] < LAYER_SHARE


def test_an_engine_is_not_for_it():
    engine = SimpleNamespace(plan=SimpleNamespace(sha256=""))
    with pytest.raises(UsageError, match="'pytorch' reads ONNX files, no engines"):
        choose_backend(unread(tiny_contract(32), "x.plan", engine), "pytorch")
