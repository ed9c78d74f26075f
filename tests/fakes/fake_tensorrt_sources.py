"""ONNX artefacts of a few nodes, to build engines of; the parser of the fake reads no more of them than it has to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from iqa_calibration.graphs.finishing import embed_contract
from iqa_runtime.contract import OWN_SIZE, FileDigest, TensorInput
from tiny_contract import tiny_contract

SIDE = 8
_CROPS = [3, SIDE, SIDE]
_FEATURES = [1, SIDE, SIDE]

Shapes = dict[str, Sequence[int | str]]


def write_artefact(path: Path, *, weight: float = 1.0, batch: int | str = "batch", **changes: Any) -> Path:
    """Write the mean of crops times a weight; `changes` are those of its contract, a number as `batch` fixes it.

    Of pictures at their own size it takes all sizes and has the maps of its contract.
    """
    contract = tiny_contract(SIDE, **changes)
    own = contract.has_own_size
    nodes = [
        helper.make_node("Mul", ["image", "weight"], ["scaled"], name="scale"),
        helper.make_node("ReduceMean", ["scaled", "axes"], ["score"], name="mean", keepdims=0),
    ]
    constants = {"weight": np.float32(weight), "axes": np.array([1, 2, 3])}
    outputs: Shapes = {"score": []} | {output.name: ["rows", "columns"] for output in contract.maps if own}
    nodes += [helper.make_node("Identity", ["scaled"], [name]) for name in outputs if name != "score"]
    model = _model(nodes, {"image": [3, *OWN_SIZE] if own else _CROPS}, outputs, constants, batch)
    embed_contract(model, contract)
    onnx.save(model, path)
    return path


def write_cached(path: Path, *, weight: float = 1.0, bias: float = 0.0, **changes: Any) -> Path:
    """Write an artefact that takes cached features of a reference, and its encoder: mean of channels plus a bias."""
    nodes = [
        helper.make_node("ReduceMean", ["reference", "axes"], ["gray"], keepdims=1),
        helper.make_node("Add", ["gray", "bias"], ["reference_features"]),
    ]
    constants = {"axes": np.array([1]), "bias": np.float32(bias)}
    encoder = path.with_suffix(".reference.onnx")
    onnx.save(_model(nodes, {"reference": _CROPS}, {"reference_features": _FEATURES}, constants), encoder)
    nodes = [
        helper.make_node("Mul", ["image", "weight"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "reference_features"], ["difference"]),
        helper.make_node("ReduceMean", ["difference", "axes"], ["score"], keepdims=0),
    ]
    constants = {"weight": np.float32(weight), "axes": np.array([1, 2, 3])}
    model = _model(nodes, {"image": _CROPS, "reference_features": _FEATURES}, {"score": []}, constants)
    contract = tiny_contract(SIDE, "fr", reference_encoder=FileDigest.of_file(encoder), **changes)
    features = TensorInput(name="reference_features", shape=("batch", *_FEATURES), layout="features", color=None)
    embed_contract(model, replace(contract, inputs=(contract.inputs[0], features)))
    onnx.save(model, path)
    return path


def _model(
    nodes: list[NodeProto], inputs: Shapes, outputs: Shapes, constants: dict[str, Any], batch: int | str = "batch"
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        *(
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape]) for name, shape in shapes.items()]
            for shapes in (inputs, outputs)
        ),
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
