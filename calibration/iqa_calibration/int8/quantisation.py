"""Write the integers into the graph: Q/DQ pairs around activations, integer weights behind a DQ alone.

Quantised weights are symmetric with a scale for each output channel, so the graph holds one byte a weight. Activations
have one scale a tensor: symmetric int8 for TensorRT and OpenVINO, asymmetric uint8 for ONNX Runtime.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from math import isfinite

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from iqa_calibration.graphs.structure import Structure, opset_of, replace_nodes
from iqa_calibration.int8.observers import Range
from iqa_calibration.int8.placement import Placement, Read, channel_axis, place
from iqa_runtime.errors import UsageError

_MIN_OPSET = 13  # scales for each channel
_WEIGHT_MAX = 127
_BIAS_MAX = 2**30
"""Largest integer bias: half of int32, so that the sum of products beside it has the other half."""


def quantise(
    model: ModelProto, placement: Placement, ranges: Mapping[str, Range], *, keep_float: Collection[str] = ()
) -> ModelProto:
    """Make the quantised form of a float32 graph.

    The batch axis stays dynamic, inputs and outputs stay float32, nodes keep their names.

    Parameters
    ----------
    model
        The float32 graph that was planned; it is left as it is.
    placement
        Where Q/DQ pairs go.
    ranges
        Range of every tensor of the placement.
    keep_float
        More nodes, layers or blocks that stay float, as for `place`.

    Raises
    ------
    UsageError
        If a range is missing or not finite, the opset is below 13, or a name to keep is nothing in the graph.
    ArtefactError
        If the graph uses no operator set of ONNX.
    """
    opset = opset_of(model)
    if opset < _MIN_OPSET:
        raise UsageError(f"opset {opset}: quantised weights need {_MIN_OPSET} or later; export the model again")
    if keep_float:
        asked = (*placement.asked, *keep_float)
        placement = place(model, placement.target, attention=bool(placement.attention), keep_float=asked)
    for tensor in placement.tensors:
        if tensor not in ranges:
            raise UsageError(f"tensor {tensor!r}: no range; observe every tensor of the placement")
        if not (isfinite(ranges[tensor].low) and isfinite(ranges[tensor].high)):
            raise UsageError(f"tensor {tensor!r}: its range is not finite; observe it again")
    return _Writer(model, placement, ranges).write()


class _Writer:
    def __init__(self, model: ModelProto, placement: Placement, ranges: Mapping[str, Range]) -> None:
        self._model = model
        self._placement = placement
        self._structure = Structure(model)
        self._grids = {tensor: _grid(ranges[tensor], placement.symmetric) for tensor in placement.tensors}
        self._quantisers: dict[str, NodeProto] = {}
        self._before: defaultdict[str, list[NodeProto]] = defaultdict(list)
        self._replaced: dict[tuple[str, int], str] = {}
        self._initialisers: dict[str, NDArray[np.generic]] = {}

    def write(self) -> ModelProto:
        for tensor, grid in self._grids.items():
            parameters = [f"{tensor}/scale", f"{tensor}/zero_point"]
            self._initialisers |= zip(parameters, grid, strict=True)
            self._quantisers[tensor] = helper.make_node(
                "QuantizeLinear", [tensor, *parameters], [f"{tensor}/quantised"], name=f"{tensor}/quantise"
            )
        for read in self._placement.reads:
            self._dequantise(read, [f"{read.tensor}/{part}" for part in ("quantised", "scale", "zero_point")])
        for name in self._placement.nodes:
            self._integer_weights(name, self._structure.nodes[name])
        return self._assemble()

    def _dequantise(self, read: Read, parts: list[str], axis: int | None = None) -> None:
        """Let a node read an integer tensor through a DequantizeLinear of its own."""
        name = f"{read.node}/{read.position}/dequantise"
        output = f"{name}d"
        node = helper.make_node("DequantizeLinear", parts, [output], name=name)
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self._before[read.node].append(node)
        self._replaced[read.node, read.position] = output

    def _integer_weights(self, name: str, node: NodeProto) -> None:
        structure, tensor = self._structure, node.input[1]
        weights = structure.constant(tensor).astype(np.float32)
        axis = channel_axis(node, weights.ndim)
        scales = weight_scales(weights, axis)
        if node.op_type != "MatMul" and len(node.input) > 2 and structure.is_constant(node.input[2]):
            bias = structure.constant(node.input[2]).astype(np.float32)
            step = self._grids[node.input[0]][0]
            # Where the weights of a channel are next to nothing beside its bias, the bias in their steps would
            # overflow, also in a runtime that makes an integer of a float bias. Coarser weights cost nothing there.
            scales = np.maximum(scales, np.abs(bias) / (step * np.float32(_BIAS_MAX)))
            scales[scales == 0] = 1
            if not self._placement.symmetric:
                sums = np.rint(bias.astype(np.float64) / (scales * step)).astype(np.int32)
                parts = self._constants(node.input[2], name, sums, scales * step)
                self._dequantise(Read(node.input[2], name, 2), parts, 0)
        scales[scales == 0] = 1
        shape = [-1 if index == axis else 1 for index in range(weights.ndim)]
        integers = np.clip(np.rint(weights / scales.reshape(shape)), -_WEIGHT_MAX, _WEIGHT_MAX).astype(np.int8)
        self._dequantise(Read(tensor, name, 1), self._constants(structure.origin(tensor), name, integers, scales), axis)

    def _constants(
        self, tensor: str, node: str, integers: NDArray[np.generic], scales: NDArray[np.float32]
    ) -> list[str]:
        """Store integers, scales and zero points; nodes that share a parameter share these, where they are equal."""
        arrays = (integers, scales, np.zeros(scales.shape, integers.dtype))
        for base in (tensor, f"{node}/{tensor}"):
            names = [f"{base}/{part}" for part in ("integers", "scales", "zero_points")]
            stored = [self._initialisers.setdefault(name, array) for name, array in zip(names, arrays, strict=True)]
            if all(map(np.array_equal, stored, arrays)):
                break
        return names

    def _assemble(self) -> ModelProto:
        result = ModelProto()
        result.CopyFrom(self._model)
        graph = result.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self._quantisers[entry.name] for entry in graph.input if entry.name in self._quantisers)
        for name, node in self._structure.nodes.items():
            graph.node.extend(self._before[name])
            copy = graph.node.add()
            copy.CopyFrom(node)
            copy.name = name
            for position in range(len(copy.input)):
                copy.input[position] = self._replaced.get((name, position), copy.input[position])
            graph.node.extend(self._quantisers[tensor] for tensor in node.output if tensor in self._quantisers)
        read = set(self._structure.outputs)
        kept = []
        for node in reversed(graph.node):
            if read.intersection(node.output):
                kept.append(node)
                read.update(node.input)
        replace_nodes(graph, reversed(kept))
        graph.initializer.extend(entry for entry in self._model.graph.initializer if entry.name in read)
        graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in self._initialisers.items())
        return result


def weight_scales(weights: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Return max |w| / 127 of each channel, float32, shape (channels,); zero where no float32 is small enough."""
    others = tuple(index for index in range(weights.ndim) if index != axis)
    scales: NDArray[np.float32] = np.abs(weights).max(axis=others) / np.float32(_WEIGHT_MAX)
    return scales


def _grid(seen: Range, symmetric: bool) -> tuple[NDArray[np.float32], NDArray[np.generic]]:
    """Return scale and zero point, both scalars, of the integers that cover a range and zero."""
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    if low == high:
        # Always zero: any scale represents that.
        low, high = 0.0, float(_WEIGHT_MAX)
    if symmetric:
        return np.array(max(-low, high) / _WEIGHT_MAX, np.float32), np.array(0, np.int8)
    scale = (high - low) / 255
    return np.array(scale, np.float32), np.array(round(-low / scale), np.uint8)
