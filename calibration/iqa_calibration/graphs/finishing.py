"""Read and finish ONNX graphs: contract, source paths, multiplications."""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import sha256
from math import prod
from pathlib import Path

import msgspec
import onnx
from onnx import ModelProto, NodeProto

from iqa_calibration.graphs.structure import attribute, item_shapes, takes_own_size
from iqa_runtime.artefacts.contract_json import contract_to_json
from iqa_runtime.artefacts.onnx_metadata import artefact_digest
from iqa_runtime.contract import METADATA_KEY, SCHEMA_VERSION, Contract
from iqa_runtime.errors import ArtefactError

_UNCOUNTED = frozenset(("GRU", "LSTM", "RNN", "Einsum", "Attention", "DeformConv", "DFT", "STFT", "If", "Loop", "Scan"))
"""Operators with products inside whose number their shapes alone do not tell, or that are too rare to be worth it."""


def strip_sources(model: ModelProto) -> None:
    """Remove what an exporter notes about the source code, absolute paths among it, from a model, in place."""
    graph = model.graph
    for entry in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        entry.doc_string = ""
        del entry.metadata_props[:]
    # Whoever needs the shapes of intermediate tensors infers them; these name their sizes after the exporter's symbols.
    del graph.value_info[:]


def embed_contract(model: ModelProto, contract: Contract) -> Contract:
    """Store a contract in a model, in place, replacing one that is there.

    Returns
    -------
    Contract
        As stored: with the digest over graph and contract that is checked when the artefact is opened. The model must
        stay as it is from here on.
    """
    kept = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    entry = model.metadata_props.add(key=METADATA_KEY)
    # The digest itself is as long as the mark that keeps its place: all other bytes stay where they are.
    mark = sha256(os.urandom(32)).hexdigest()
    contract = replace(contract, sha256=mark, schema=SCHEMA_VERSION)
    entry.value = contract_to_json(contract)
    digest = artefact_digest(model.SerializeToString(), mark)
    if digest is None:
        raise ArtefactError("the contract cannot be found in the serialised model")
    entry.value = contract_to_json(replace(contract, sha256=digest))
    # Free fields come back as JSON has them, lists for tuples.
    return msgspec.json.decode(entry.value, type=Contract)


def save(model: ModelProto, path: Path) -> None:
    """Check a model and write it as one file.

    Raises
    ------
    ArtefactError
        If the ONNX checker refuses it.
    """
    onnx.save_model(model, path)
    try:
        # By path: the checker refuses models in memory beyond two gigabytes.
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        path.unlink()
        raise ArtefactError(f"{path.name}: the ONNX checker refuses the graph: {error}") from error


def count_macs(model: ModelProto) -> int | None:
    """Count the multiply-accumulates of one item of the batch: matrix products and convolutions, the rest is small.

    Parameters
    ----------
    model
        Fixed shapes but for the batch axis, which counts as one.

    Returns
    -------
    int or None
        None where it cannot be told: items have no one size, the shape of a product cannot be inferred, or an operator
        holds products that are not counted, such as those of recurrent layers.
    """
    if takes_own_size(model):
        return None
    shapes = {weight.name: tuple(weight.dims) for weight in model.graph.initializer} | item_shapes(model)
    counts = [_node_macs(node, shapes) for node in model.graph.node]
    return None if None in counts else sum(count for count in counts if count is not None)


def _node_macs(node: NodeProto, shapes: dict[str, tuple[int, ...]]) -> int | None:
    if node.op_type in _UNCOUNTED:
        return None
    if node.op_type not in ("MatMul", "Gemm", "Conv", "ConvTranspose"):
        return 0
    if not {node.input[0], node.input[1], node.output[0]} <= shapes.keys():
        return None
    left, right, out = shapes[node.input[0]], shapes[node.input[1]], shapes[node.output[0]]
    if node.op_type == "MatMul":
        return prod(out) * left[-1]
    if node.op_type == "Gemm":
        return prod(out) * left[0 if attribute(node, "transA", 0) else 1]
    if node.op_type == "Conv":
        return prod(out) * prod(right[1:])
    return prod(left) * prod(right[1:])
