"""Fold batch normalisation into the convolution before it, in the graph: exact algebra, rounded once.

``scale (W x + b - mean) / sqrt(var + epsilon) + shift`` is one convolution. Networks of this package are folded in
PyTorch, where more is known (`iqa_export.deploy.batchnorm`); this is for those of other packages.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from iqa_calibration.graphs.structure import Structure, attribute, replace_nodes

_OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1}


def fold_batch_normalization(model: ModelProto) -> None:
    """Fold, in place, each normalisation in evaluation mode that alone reads a convolution of constant weights."""
    graph = model.graph
    structure = Structure(model)
    kept, absorbed = [], set()
    for node in graph.node:
        convolution = structure.nodes.get(structure.producers.get(node.input[0], "")) if node.input else None
        folded = None
        if (
            node.op_type == "BatchNormalization"
            and convolution is not None
            and len(structure.readers[node.input[0]]) == 1
        ):
            folded = _folded(structure, convolution, node)
        if folded is None or convolution is None or node.input[0] in structure.outputs:
            kept.append(node)
            continue
        names = [f"{node.output[0]}.{part}" for part in ("weight", "bias")]
        graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in zip(names, folded, strict=True)
        )
        joined = helper.make_node(convolution.op_type, [convolution.input[0], *names], [node.output[0]])
        joined.name = convolution.name
        joined.attribute.extend(convolution.attribute)
        absorbed.add(node.input[0])
        kept.append(joined)
    replace_nodes(graph, [node for node in kept if absorbed.isdisjoint(node.output)])


def _folded(
    structure: Structure, convolution: NodeProto, norm: NodeProto
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Return weight and bias of the one convolution; None if it cannot be."""
    axis = _OUTPUT_AXIS.get(convolution.op_type)
    constants = [*convolution.input[1:], *norm.input[1:]]
    if axis is None or not all(structure.is_constant(name) and structure.is_float32(name) for name in constants):
        return None
    grouped = attribute(convolution, "group", 1) != 1
    if attribute(norm, "training_mode", 0) or (axis == 1 and grouped):
        return None
    weight = structure.constant(convolution.input[1]).astype(np.float64)
    scale, shift, mean, variance = (structure.constant(name).astype(np.float64) for name in norm.input[1:5])
    bias = structure.constant(convolution.input[2]).astype(np.float64) if len(convolution.input) > 2 else 0.0
    # The default of ONNX, as the float32 it is.
    factor = scale / np.sqrt(variance + attribute(norm, "epsilon", 1e-5))
    sides = [1] * weight.ndim
    sides[axis] = -1
    folded = (weight * factor.reshape(sides)).astype(np.float32), ((bias - mean) * factor + shift).astype(np.float32)
    return folded if all(np.isfinite(part).all() for part in folded) else None
