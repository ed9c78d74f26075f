"""tools/bundle_edge.py: what goes into the package of a trained edge model."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from onnx import TensorProto, helper, numpy_helper

import bundle_edge
from bundle_edge import VARIANT, bundle
from iqa_calibration.graphs.finishing import embed_contract, save
from iqa_export.checkpoints import random_checkpoint
from iqa_export.exporting import Request
from iqa_export.systems import GraphChoice, find_system
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.contract import FileDigest
from iqa_runtime.errors import UsageError
from iqa_runtime.images.loading import load_image
from iqa_runtime.scoring.patch_plans import positions
from tiny_contract import tiny_contract

VARIANCE = "running_var"
SMALLEST = 2.0**-14
"""Of the normal float16 numbers."""
METADATA = {"licence": "CC0-1.0", "trained_on": "nothing"}
CHOICES = {
    "yoto": {
        "edge-nr": GraphChoice(variant="edge", task="nr", maps=True),
        "edge-fr": GraphChoice(variant="edge", task="fr", maps=True),
    },
    "mfe": {"mfe-edge": GraphChoice(variant="edge", task="nr", extras=("distortions",))},
    "dri": {"dri-edge": GraphChoice(variant="edge", task="nr", extras=("restored",))},
    "cvrkd": {
        "cvrkd-edge-any": GraphChoice(variant="edge", task="nar"),
        "cvrkd-edge-set": GraphChoice(variant="edge", task="nar"),
    },
}
BETWEEN = 1 + 2.0**-12
"""What float16 has not."""
EXACT, FOLDED = "exact", "folded"
SIDE = 48


def trained(folder: Path, name: str, changes: dict[str, float]) -> Path:
    """Write a checkpoint; the first entry whose name ends so has its first value changed."""
    system = find_system(name)
    entries = random_checkpoint(system.build(VARIANT), 0, system.key_map(VARIANT)).entries
    for ending, value in changes.items():
        entry = next(entry for entry in entries if entry.endswith(ending))
        entries[entry].flatten()[0] = value
    file = folder / "best.safetensors"
    safetensors.torch.save_file(entries, file, METADATA)
    return file


def write_graph(file: Path) -> None:
    """Write an artefact of two products, one with weights that float16 holds."""
    weights = {EXACT: 1.5, FOLDED: BETWEEN}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["image", EXACT], ["between"]),
            helper.make_node("MatMul", ["between", FOLDED], ["product"]),
            helper.make_node("ReduceMean", ["product", "axes"], ["score"], keepdims=0),
        ],
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])],
        [
            *(
                numpy_helper.from_array(np.full((SIDE, SIDE), value, np.float32), name)
                for name, value in weights.items()
            ),
            numpy_helper.from_array(np.array([1, 2, 3]), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    embed_contract(model, tiny_contract(SIDE))
    save(model, file)


@pytest.fixture
def exported(monkeypatch) -> list[Request]:
    """Return what is asked of the exporter, whose own tests take minutes; it leaves a graph and a report."""
    requests: list[Request] = []

    def export(request: Request) -> str:
        requests.append(request)
        write_graph(request.output)
        request.output.with_name(f"{request.output.stem}.report.json").touch()
        return f"report of {request.choice.task}"

    monkeypatch.setattr(bundle_edge, "export", export)
    return requests


@pytest.mark.parametrize("name", CHOICES)
def test_weights_are_rounded_once_and_all_graphs_made_of_them(tmp_path, exported, name):
    # The second would round to zero, and is that of a normalisation, which divides by its root.
    checkpoint = trained(tmp_path, name, {"weight": BETWEEN, VARIANCE: 1e-9})
    weights, models = tmp_path / "weights.safetensors", tmp_path / "models"
    models.mkdir()
    before = os.umask(0o022)
    try:
        reports = bundle(name, checkpoint, weights, models)
    finally:
        os.umask(before)
    assert weights.stat().st_mode & 0o777 == 0o644

    given, kept = (safetensors.torch.load_file(file) for file in (checkpoint, weights))
    assert kept.keys() == given.keys()
    for entry, tensor in kept.items():
        rounded = given[entry].numpy().astype(np.float16)
        expected = np.maximum(rounded, np.float16(SMALLEST)) if entry.endswith(VARIANCE) else rounded
        assert tensor.dtype == torch.float16
        assert np.array_equal(tensor.numpy(), expected), entry
    with safetensors.safe_open(weights, "pt") as file:
        assert file.metadata() == METADATA

    choices = CHOICES[name]
    assert reports == [f"report of {choice.task}" for choice in choices.values()]
    assert sorted(file.stem for file in models.iterdir()) == sorted(choices)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    for request, (artefact, choice) in zip(exported, choices.items(), strict=True):
        assert request.choice == choice
        assert request.output == models / f"{artefact}.onnx"
        assert (request.checkpoint.sha256, request.checkpoint.trained) == (digest, True)
        assert all(torch.equal(request.checkpoint.entries[entry], tensor) for entry, tensor in kept.items())


@pytest.mark.parametrize(("name", "halves"), [("yoto", {EXACT}), ("mfe", {EXACT, FOLDED}), ("cvrkd", {EXACT, FOLDED})])
def test_graphs_that_store_float16(tmp_path, exported, name, halves):
    bundle(name, trained(tmp_path, name, {}), tmp_path / "weights.safetensors", tmp_path)
    for request in exported:
        types = {tensor.name: tensor.data_type for tensor in onnx.load(request.output).graph.initializer}
        stored = {entry.split(".")[0] for entry, kind in types.items() if kind == TensorProto.FLOAT16}
        assert stored == halves
        contract = read_contract(request.output)  # which checks the digest of both
        assert contract.score == tiny_contract(SIDE).score


def test_references_from_a_second_graph_or_inside(tmp_path, exported):
    bundle("cvrkd", trained(tmp_path, "cvrkd", {}), tmp_path / "weights.safetensors", tmp_path)
    found = {request.output.stem: (request.cache_reference, request.reference_image) for request in exported}
    assert found == {"cvrkd-edge-any": (True, None), "cvrkd-edge-set": (False, bundle_edge.REFERENCE_SHEET)}
    # A crop of the plan for each photograph, and none shrunk.
    height, width = load_image(bundle_edge.REFERENCE_SHEET).shape[:2]
    corners = positions(exported[0].patch_plan, height, width)
    assert sorted(map(tuple, corners)) == [(0, 0), (0, 448), (112, 224), (224, 0), (224, 448)]
    assert height < exported[0].resize.size


def test_an_encoder_of_references_stores_float16_too(tmp_path):
    artefact, encoder = tmp_path / "x.onnx", tmp_path / "x.reference.onnx"
    for file in (artefact, encoder):
        write_graph(file)
    before = FileDigest.of_file(encoder)
    model = onnx.load(artefact)
    contract = read_contract(artefact)
    inputs = (*contract.inputs, find_system("cvrkd").feature_input("edge"))
    embed_contract(model, replace(contract, task="nar", inputs=inputs, reference_encoder=before))
    save(model, artefact)
    bundle_edge.shrink(artefact)
    stored = {tensor.name for tensor in onnx.load(encoder).graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    assert {name.split(".")[0] for name in stored} == {EXACT, FOLDED}
    after = read_contract(artefact).reference_encoder
    assert after == FileDigest.of_file(encoder) != before


@pytest.mark.parametrize("value", [70_000.0, -70_000.0, float("inf"), float("nan")])
def test_what_float16_cannot_hold_is_refused_by_name(tmp_path, value):
    checkpoint = trained(tmp_path, "yoto", {"weight": value})
    with pytest.raises(
        UsageError, match=r"best\.safetensors: beyond float16: \S+weight; train with weight decay or clip"
    ):
        bundle("yoto", checkpoint, tmp_path / "weights.safetensors", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["best.safetensors"]
