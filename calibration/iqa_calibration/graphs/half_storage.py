"""Weights of a float32 graph stored as float16, with a Cast behind each: half the file, and arithmetic in float32.

ONNX Runtime and OpenVINO widen the weights once, when they load the graph. What edits graphs looks for weights among
the constants, so it widens them first.
"""

from __future__ import annotations

from math import prod

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from iqa_calibration.graphs.structure import attribute, replace_nodes

_WIDE = TensorProto.FLOAT
_FEW = 1024
"""Elements up to which a constant stays as it is: biases and scales, which a Cast would hardly make smaller."""


def store_in_half(model: ModelProto, *, exact: bool = False) -> None:
    """Store the large float32 constants of a graph as float16, in place; a tensor keeps its name.

    Parameters
    ----------
    model
        A constant with a value beyond the range of float16 stays as it is.
    exact
        Leave those as they are, too, whose values float16 does not hold: outputs keep their bits. Otherwise weights are
        rounded.
    """
    kept, casts = [], []
    for tensor in model.graph.initializer:
        half = _rounded(tensor, exact) if _is_large(tensor) else None
        if half is None:
            kept.append(tensor)
        else:
            kept.append(half)
            casts.append(helper.make_node("Cast", [half.name], [tensor.name], f"{tensor.name}.cast", to=_WIDE))
    _replace(model, kept, [*casts, *model.graph.node])


def widen(model: ModelProto) -> None:
    """Make the weights of a graph float32 constants again, in place; a graph without stored halves stays as it is."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    casts = [node for node in model.graph.node if _widens(node, stored)]
    if not casts:
        return
    wide = [
        numpy_helper.from_array(numpy_helper.to_array(stored[node.input[0]]).astype(np.float32), node.output[0])
        for node in casts
    ]
    widened = {node.output[0] for node in casts}
    nodes = [node for node in model.graph.node if widened.isdisjoint(node.output)]
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in stored or tensor.name in read]
    _replace(model, [*kept, *wide], nodes)


def _is_large(tensor: TensorProto) -> bool:
    return tensor.data_type == _WIDE and prod(tensor.dims) > _FEW


def _rounded(tensor: TensorProto, exact: bool) -> TensorProto | None:
    """Return a tensor as float16 under another name; None if it does not fit."""
    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    fits = (halves == values) if exact else np.isfinite(halves)
    return numpy_helper.from_array(halves, f"{tensor.name}.float16") if fits.all() else None


def _widens(node: NodeProto, stored: dict[str, TensorProto]) -> bool:
    return node.op_type == "Cast" and node.input[0] in stored and attribute(node, "to", None) == _WIDE


def _replace(model: ModelProto, constants: list[TensorProto], nodes: list[NodeProto]) -> None:
    """Let the graph have these constants and nodes, some of which are its own."""
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    replace_nodes(model.graph, nodes)
