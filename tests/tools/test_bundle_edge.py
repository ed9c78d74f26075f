"""tools/bundle_edge.py: what goes into the package of a trained edge model."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import bundle_edge
from bundle_edge import VARIANT, bundle
from iqa_export.checkpoints import random_checkpoint
from iqa_export.exporting import Request
from iqa_export.systems import GraphChoice
from iqa_export.systems.yoto import YotoSystem
from iqa_runtime.errors import UsageError

VARIANCE = "running_var"
SMALLEST = 2.0**-14
"""Of the normal float16 numbers."""
METADATA = {"licence": "CC0-1.0", "trained_on": "nothing"}


def trained(folder: Path, changes: dict[str, float]) -> Path:
    """Write a checkpoint; the first entry whose name ends so has its first value changed."""
    system = YotoSystem()
    entries = random_checkpoint(system.build(VARIANT), 0, system.key_map(VARIANT)).entries
    for ending, value in changes.items():
        name = next(name for name in entries if name.endswith(ending))
        entries[name].flatten()[0] = value
    file = folder / "best.safetensors"
    safetensors.torch.save_file(entries, file, METADATA)
    return file


@pytest.fixture
def exported(monkeypatch) -> list[Request]:
    """Return what is asked of the exporter, whose own tests take minutes; it leaves a graph and a report."""
    requests: list[Request] = []

    def export(request: Request) -> str:
        requests.append(request)
        for file in (request.output, request.output.with_name(f"{request.output.stem}.report.json")):
            file.touch()
        return f"report of {request.choice.task}"

    monkeypatch.setattr(bundle_edge, "export", export)
    return requests


def test_weights_are_rounded_once_and_both_graphs_made_of_them(tmp_path, exported):
    # The second would round to zero, and is that of a normalisation, which divides by its root.
    checkpoint = trained(tmp_path, {"weight": 1 + 2.0**-12, VARIANCE: 1e-9})
    weights, models = tmp_path / "weights.safetensors", tmp_path / "models"
    models.mkdir()
    before = os.umask(0o022)
    try:
        reports = bundle(checkpoint, weights, models)
    finally:
        os.umask(before)
    assert weights.stat().st_mode & 0o777 == 0o644

    given, kept = (safetensors.torch.load_file(file) for file in (checkpoint, weights))
    assert kept.keys() == given.keys()
    for name, tensor in kept.items():
        rounded = given[name].numpy().astype(np.float16)
        expected = np.maximum(rounded, np.float16(SMALLEST)) if name.endswith(VARIANCE) else rounded
        assert tensor.dtype == torch.float16
        assert np.array_equal(tensor.numpy(), expected), name
    with safetensors.safe_open(weights, "pt") as file:
        assert file.metadata() == METADATA

    assert reports == ["report of nr", "report of fr"]
    assert sorted(file.name for file in models.iterdir()) == ["edge-fr.onnx", "edge-nr.onnx"]
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    for request, task in zip(exported, ("nr", "fr"), strict=True):
        assert request.choice == GraphChoice(variant="edge", task=task, maps=True)
        assert request.output == models / f"edge-{task}.onnx"
        assert (request.checkpoint.sha256, request.checkpoint.trained) == (digest, True)
        assert all(torch.equal(request.checkpoint.entries[name], tensor) for name, tensor in kept.items())


@pytest.mark.parametrize("value", [70_000.0, -70_000.0, float("inf"), float("nan")])
def test_what_float16_cannot_hold_is_refused_by_name(tmp_path, value):
    checkpoint = trained(tmp_path, {"weight": value})
    with pytest.raises(
        UsageError, match=r"best\.safetensors: beyond float16: \S+weight; train with weight decay or clip"
    ):
        bundle(checkpoint, tmp_path / "weights.safetensors", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["best.safetensors"]
