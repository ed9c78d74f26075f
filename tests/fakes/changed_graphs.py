"""Graphs that are no longer what their contracts say, though the digests are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx

from iqa_calibration.graphs.finishing import embed_contract
from iqa_runtime import read_contract


def rewrite(path: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    """Change the graph of an artefact, and write it with the digest of what it is then."""
    model = onnx.load(path)
    change(model)
    embed_contract(model, read_contract(path))
    onnx.save(model, path)
    return path


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "pixels"
    model.graph.node[0].input[0] = "pixels"


def shrink_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 16


def fix_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def rename_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "beauty"
    model.graph.node[-1].output[0] = "beauty"


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Beautify"
