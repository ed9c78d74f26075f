"""Weights as int8 in the file and float32 at run time: a quarter of the download, no calibration, float32's speed."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from iqa_calibration.graphs.structure import Structure, attribute
from iqa_calibration.int8.placement import Target
from iqa_runtime.errors import UsageError

SMALLEST = 1024
"""Elements below which a weight stays as it is: it would save less than its scale and its nodes take."""

_INT8_MAX = 127


def compress_weights(model: ModelProto, target: Target = "onnxruntime") -> ModelProto:
    """Store the weights of products as int8 with one scale for each output channel.

    Weights are symmetric: scale = max |w| / 127 of the channel, q = round(w / scale), w ~ q * scale. Behind them lie

    - for ``tensorrt`` and ``openvino``, a DequantizeLinear: TensorRT takes int8 constants in front of it only;
    - for ``onnxruntime``, Cast and Mul, which are computed once at load. Behind a DequantizeLinear it would fuse the
      product into one that also quantises activations, at each run: measured, 1.5 times the time of float32.

    Parameters
    ----------
    model
        A float32 graph; it is left as it is.
    target
        For whom.

    Returns
    -------
    ModelProto
        Inputs, outputs and contract are those of `model`.

    Raises
    ------
    UsageError
        If no weight is large enough to be worth it.
    """
    structure = Structure(model)
    axes = _channel_axes(structure)
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    dequantising: list[NodeProto] = []
    constants: list[TensorProto] = []
    for tensor in graph.initializer:
        axis = axes.get(tensor.name)
        if axis is None or tensor.data_type != TensorProto.FLOAT or prod(tensor.dims) < SMALLEST:
            constants.append(tensor)
            continue
        weights, scale = quantised(numpy_helper.to_array(tensor), axis)
        constants.append(numpy_helper.from_array(weights, f"{tensor.name}_int8"))
        dequantising += _dequantising(tensor.name, scale, axis, target, constants)
    if not dequantising:
        raise UsageError(f"no product has weights of {SMALLEST} elements or more; nothing would get smaller")
    nodes = [*dequantising, *graph.node]
    kept = [TensorProto.FromString(tensor.SerializeToString()) for tensor in constants]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    return result


def quantised(weights: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round weights to int8, symmetric, with a scale for each index of an axis.

    Returns
    -------
    weights, scale
        int8 of the same shape, -127 to 127; float32 of shape (channels,), 1 for a channel of zeros.
    """
    others = tuple(index for index in range(weights.ndim) if index != axis)
    scale = (np.abs(weights).max(axis=others) / np.float32(_INT8_MAX)).astype(np.float32)
    # Zeros, and what is too small for the scale to be a float32 at all, come out as zeros.
    scale[scale == 0] = 1
    steps = np.rint(weights / np.expand_dims(scale, others))
    return np.clip(steps, -_INT8_MAX, _INT8_MAX).astype(np.int8), scale


def _dequantising(
    name: str, scale: NDArray[np.float32], axis: int, target: Target, constants: list[TensorProto]
) -> list[NodeProto]:
    """Return the nodes that make the tensor `name`, and put their scale among the constants."""
    stored, factor = f"{name}_int8", f"{name}_scale"
    if target != "onnxruntime":
        constants.append(numpy_helper.from_array(scale, factor))
        return [helper.make_node("DequantizeLinear", [stored, factor], [name], name=f"{name}_dequantise", axis=axis)]
    rank = len(constants[-1].dims)
    shape = [-1 if index == axis else 1 for index in range(rank)]
    constants.append(numpy_helper.from_array(scale.reshape(shape), factor))
    return [
        helper.make_node("Cast", [stored], [f"{name}_wide"], name=f"{name}_widen", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}_wide", factor], [name], name=f"{name}_dequantise"),
    ]


def _channel_axes(structure: Structure) -> Mapping[str, int]:
    """Axis of the output channels of every weight of a product; weights read along different axes are left out."""
    axes: dict[str, set[int | None]] = {}
    for node in structure.nodes.values():
        for position, tensor in enumerate(node.input):
            # What reads a weight through a Transpose counts, not the Transpose.
            if structure.is_constant(tensor) and node.op_type != "Transpose":
                axis = _channel_axis(structure, node, position, tensor)
                axes.setdefault(structure.origin(tensor), set()).add(axis)
    return {tensor: axis for tensor, (axis, *others) in axes.items() if axis is not None and not others}


def _channel_axis(structure: Structure, node: NodeProto, position: int, tensor: str) -> int | None:
    """Axis of the output channels, in the constant as it is stored; None if it is no weight of a product."""
    if node.op_type == "MatMul":
        rank = structure.constant(tensor).ndim
        axis = rank - 1 if position == 1 else rank - 2
    elif node.op_type in ("Gemm", "Conv", "ConvTranspose") and position == 1:
        rank = structure.constant(tensor).ndim
        axis = int(node.op_type == "ConvTranspose" or (node.op_type == "Gemm" and not attribute(node, "transB", 0)))
    else:
        return None
    if rank < 2:
        return None
    if structure.origin(tensor) == tensor:
        return axis
    order = attribute(structure.nodes[structure.producers[tensor]], "perm", None) or range(rank)[::-1]
    return int(order[axis])
