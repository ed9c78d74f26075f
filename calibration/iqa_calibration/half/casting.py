"""Float32 graphs in a half format, with casts where both formats meet, and back: half arithmetic played by float32.

A node is in half if its operator has such a form and nobody asked otherwise; constants are rounded once, to nearest.
Every multiply-accumulate unit adds products of halves in float32, so what half precision costs is the rounding of what
nodes read and write; `emulated` rounds at just these places.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, version_converter

from iqa_calibration.graphs.structure import Structure, opset_of, replace_nodes
from iqa_runtime.errors import ArtefactError

Kind = Literal["fp16", "bf16"]


@dataclass(frozen=True, slots=True)
class HalfFormat:
    """A 16-bit float.

    Attributes
    ----------
    name
        ``fp16`` or ``bf16``.
    element_type, type_name
        Its number and name in ONNX.
    largest
        Largest finite value.
    epsilon
        Distance of 1 and the next larger value; rounding moves a value by at most half of it, relatively.
    opset
        The first operator set in which convolutions may be in it.
    """

    name: Kind
    element_type: int
    type_name: str
    largest: float
    epsilon: float
    opset: int

    def constant(self, values: np.ndarray, name: str) -> TensorProto:
        """Return an initialiser of float32 values rounded to this format."""
        with np.errstate(over="ignore"):
            rounded = values.astype(helper.tensor_dtype_to_np_dtype(self.element_type))
        return numpy_helper.from_array(rounded, name)


FORMATS: dict[Kind, HalfFormat] = {
    "fp16": HalfFormat("fp16", TensorProto.FLOAT16, "tensor(float16)", 65504.0, 2.0**-10, 1),
    "bf16": HalfFormat("bf16", TensorProto.BFLOAT16, "tensor(bfloat16)", (2 - 2.0**-7) * 2.0**127, 2.0**-7, 22),
}


def element_types(model: ModelProto) -> dict[str, int]:
    """Return the element type of every tensor of a graph, by name.

    Raises
    ------
    ArtefactError
        If a node has a graph inside, or a type cannot be inferred.
    """
    graph = model.graph
    for node in graph.node:
        if any(attribute.type in (attribute.GRAPH, attribute.GRAPHS) for attribute in node.attribute):
            raise ArtefactError(f"node {node.name!r} ({node.op_type}) has a graph inside; export without control flow")
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {entry.name: entry.data_type for entry in graph.initializer}
    for entry in (*inferred.input, *inferred.value_info, *inferred.output):
        types[entry.name] = entry.type.tensor_type.elem_type
    for node in graph.node:
        for tensor in filter(None, node.output):
            if not types.get(tensor):
                raise ArtefactError(f"tensor {tensor!r} of node {node.name!r}: its type cannot be inferred")
    return types


def at_opset_for(model: ModelProto, half: HalfFormat) -> ModelProto:
    """Return a model whose operator set has convolutions in the format: itself, or a copy of a later set."""
    return model if opset_of(model) >= half.opset else version_converter.convert_version(model, half.opset)


def obstacle(node: NodeProto, types: dict[str, int], opset: int, half: HalfFormat) -> str:
    """Say why a node cannot be in half; empty if it can."""
    try:
        inputs, outputs = _type_names(node, opset)
    except onnx.defs.SchemaError:
        return f"{node.op_type} of {node.domain or 'opset ' + str(opset)} is unknown"
    variables = {
        name for name, tensor in zip(inputs, node.input, strict=True) if types.get(tensor) == TensorProto.FLOAT
    }
    variables.discard("tensor(float)")
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    allowed = {entry.type_param_str: entry.allowed_type_strs for entry in schema.type_constraints}
    if any(half.type_name not in allowed[variable] for variable in variables):
        return f"{node.op_type} has no {half.name} form in opset {opset}"
    floats = [name for name, tensor in zip(outputs, node.output, strict=True) if types.get(tensor) == TensorProto.FLOAT]
    if not variables.issuperset(floats) or not variables:
        return "float32 by its definition"
    return ""


def converted(model: ModelProto, half: HalfFormat, keep: Collection[str]) -> ModelProto:
    """Put a float32 graph into half; its inputs and outputs stay float32.

    Parameters
    ----------
    model
        The graph; it is left as it is.
    half
        The format.
    keep
        Nodes that stay float32, by their name in `Structure`.
    """
    structure, types = Structure(model), element_types(model)
    opset = opset_of(model)
    present: dict[str, int] = {tensor.name: types[tensor.name] for tensor in model.graph.input}
    nodes: list[NodeProto] = []
    constants: dict[str, TensorProto] = {}

    def as_type(tensor: str, wanted: int) -> str:
        """Return the name of a tensor in a format, made now if it is not there yet."""
        is_stored = structure.is_constant(tensor) and structure.origin(tensor) == tensor
        if present.get(tensor) == wanted or (is_stored and wanted == TensorProto.FLOAT):
            return tensor
        name = f"{tensor}_{half.name if wanted == half.element_type else 'fp32'}"
        if name not in present:
            if is_stored:
                constants[name] = half.constant(structure.constant(tensor), name)
            else:
                nodes.append(_cast(tensor, name, wanted))
            present[name] = wanted
        return name

    for name, original in structure.nodes.items():
        node = NodeProto()
        node.CopyFrom(original)
        in_half = name not in keep and not obstacle(original, types, opset, half)
        result = half.element_type if in_half else TensorProto.FLOAT
        fixed = _type_names(original, opset)[0] if in_half else [""] * len(node.input)
        for position, tensor in enumerate(original.input):
            if types.get(tensor) == TensorProto.FLOAT:
                is_fixed = fixed[position] == "tensor(float)"
                node.input[position] = as_type(tensor, TensorProto.FLOAT if is_fixed else result)
        nodes.append(node)
        for position, tensor in enumerate(original.output):
            if types.get(tensor) != TensorProto.FLOAT:
                continue
            if in_half and tensor in structure.outputs:
                node.output[position] = f"{tensor}_{half.name}"
                present[node.output[position]] = result
                nodes.append(_cast(node.output[position], tensor, TensorProto.FLOAT))
                present[tensor] = TensorProto.FLOAT
            else:
                present[tensor] = result
    return _assembled(model, nodes, constants)


def emulated(model: ModelProto) -> ModelProto:
    """Return the float32 graph that computes what a graph in half computes: every half is rounded where it is stored.

    ONNX Runtime has few kernels in half on a CPU; where it has none it computes in float32 and leaves roundings out.
    """
    types = element_types(model)
    halves = {half.element_type for half in FORMATS.values()}
    nodes: list[NodeProto] = []
    widened: dict[str, str] = {}
    for original in model.graph.node:
        if original.op_type == "Cast":
            nodes.append(original)
            continue
        node = NodeProto()
        node.CopyFrom(original)
        for position, tensor in enumerate(original.input):
            if types.get(tensor) in halves:
                if tensor not in widened:
                    widened[tensor] = f"{tensor}_widened"
                    nodes.append(_cast(tensor, widened[tensor], TensorProto.FLOAT))
                node.input[position] = widened[tensor]
        nodes.append(node)
        for position, tensor in enumerate(original.output):
            if types.get(tensor) in halves:
                node.output[position] = f"{tensor}_wide"
                nodes.append(_cast(node.output[position], tensor, types[tensor]))
    return _assembled(model, nodes, {})


def is_half(model: ModelProto) -> bool:
    """Tell whether a graph computes in half anywhere."""
    halves = {half.element_type for half in FORMATS.values()}
    return any(
        node.op_type == "Cast" and any(entry.name == "to" and entry.i in halves for entry in node.attribute)
        for node in model.graph.node
    ) or any(tensor.data_type in halves for tensor in model.graph.initializer)


def _type_names(node: NodeProto, opset: int) -> tuple[list[str], list[str]]:
    """Type of each input and output by the operator's definition: a variable such as ``T``, or a fixed type."""
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    inputs = [schema.inputs[min(index, len(schema.inputs) - 1)].type_str for index in range(len(node.input))]
    outputs = [schema.outputs[min(index, len(schema.outputs) - 1)].type_str for index in range(len(node.output))]
    return inputs, outputs


def _cast(source: str, result: str, element_type: int) -> NodeProto:
    return helper.make_node("Cast", [source], [result], name=f"{result}_cast", to=element_type)


def _assembled(model: ModelProto, nodes: list[NodeProto], constants: dict[str, TensorProto]) -> ModelProto:
    """Return a model with other nodes and more constants; what nobody reads is left out."""
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    del graph.value_info[:]
    used = {tensor for node in nodes for tensor in node.input} | {output.name for output in graph.output}
    kept = [tensor for tensor in (*graph.initializer, *constants.values()) if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    replace_nodes(graph, (node for node in nodes if node.op_type != "Constant" or node.output[0] in used))
    return result
