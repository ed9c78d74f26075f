"""Who makes and who reads each tensor of a graph, and what is constant."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from iqa_runtime.errors import ArtefactError

_SHAPE_DATA = 1024
"""Bytes above which a constant is no shape."""

NOMINAL_SIDE = 512
"""Of a picture where graphs take any, in pixels: what tensors are weighed by; a multiple of what networks want."""


class Structure:
    """An index of a graph, which must not change while it is in use.

    Attributes
    ----------
    nodes
        By name, in the order of execution. A node without a name, or with one that others have too, goes by its
        operator and its first output, which no other node has.
    producers
        Name of the node that makes a tensor.
    readers
        Names of the nodes that read a tensor, one entry a read.
    """

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self._model = model
        uses = Counter(node.name for node in graph.node)
        self.nodes: dict[str, NodeProto] = {}
        self.producers: dict[str, str] = {}
        self.readers: defaultdict[str, list[str]] = defaultdict(list)
        self._constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = frozenset(output.name for output in graph.output)
        for node in graph.node:
            name = node.name if node.name and uses[node.name] == 1 else f"{node.op_type}/{node.output[0]}"
            self.nodes[name] = node
            self.producers |= dict.fromkeys(node.output, name)
            for tensor in node.input:
                self.readers[tensor].append(name)
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._constants[node.output[0]] = node.attribute[0].t

    def is_constant(self, tensor: str) -> bool:
        """Tell whether a tensor is an initialiser, the value of a Constant node, or a transpose of either."""
        return self.origin(tensor) in self._constants

    def origin(self, tensor: str) -> str:
        """Return the constant that a tensor is the transpose of; exporters transpose what several layers share."""
        node = self.nodes.get(self.producers.get(tensor, ""))
        return node.input[0] if node is not None and node.op_type == "Transpose" else tensor

    def constant(self, tensor: str) -> NDArray[np.generic]:
        """Values of a constant."""
        origin = self.origin(tensor)
        values = numpy_helper.to_array(self._constants[origin])
        if origin == tensor:
            return values
        order = attribute(self.nodes[self.producers[tensor]], "perm", None)
        return np.ascontiguousarray(values.transpose(order))

    def is_float32(self, tensor: str) -> bool:
        """Tell whether a constant is float32."""
        return self._constants[self.origin(tensor)].data_type == TensorProto.FLOAT

    @cached_property
    def item_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes as `item_shapes` returns them."""
        return item_shapes(self._model)


def item_shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Infer the shapes of a graph's tensors for one item of the batch; tensors of unknown shape are missing.

    Where whole pictures come at their own size, they are those for one of `NOMINAL_SIDE` pixels a side.
    """
    shaped = ModelProto()
    shaped.CopyFrom(model)
    del shaped.graph.value_info[:]
    for weight in shaped.graph.initializer:
        # Shape inference reads what may be a shape; without the weights it is fast on any model.
        if len(weight.raw_data) > _SHAPE_DATA:
            weight.ClearField("raw_data")
    for tensor in shaped.graph.input:
        for axis, dimension in enumerate(tensor.type.tensor_type.shape.dim):
            if dimension.HasField("dim_param"):
                dimension.dim_value = NOMINAL_SIDE if axis else 1
    own_size = takes_own_size(model)
    for tensor in shaped.graph.output:
        if own_size:
            tensor.type.tensor_type.ClearField("shape")
        for dimension in tensor.type.tensor_type.shape.dim:
            if dimension.HasField("dim_param"):
                dimension.dim_value = 1
    graph = onnx.shape_inference.infer_shapes(shaped, data_prop=True).graph
    shapes = {}
    for entry in (*graph.input, *graph.value_info, *graph.output):
        dimensions = entry.type.tensor_type.shape.dim
        if all(dimension.HasField("dim_value") for dimension in dimensions):
            shapes[entry.name] = tuple(dimension.dim_value for dimension in dimensions)
    return shapes


def takes_own_size(model: ModelProto) -> bool:
    """Tell whether a graph takes whole pictures at their own size: whether more than the batch is dynamic."""
    sizes = [tensor.type.tensor_type.shape.dim[1:] for tensor in model.graph.input]
    return any(dimension.HasField("dim_param") for dimensions in sizes for dimension in dimensions)


def opset_of(model: ModelProto) -> int:
    """Return the version of ONNX's own operator set.

    Raises
    ------
    ArtefactError
        If the graph uses none.
    """
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            return int(entry.version)
    raise ArtefactError("the graph names no ONNX operator set; export the model again")


def replace_nodes(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Let a graph consist of these nodes, some of which may be its own."""
    nodes = list(nodes)
    del graph.node[:]
    graph.node.extend(nodes)


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """Return the value of an attribute of a node, or a default where it has none."""
    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default
