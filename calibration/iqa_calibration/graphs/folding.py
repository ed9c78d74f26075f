"""Make a graph smaller without changing what it computes: every rule here is exact, and none compares with a tolerance.

Exporters write a graph as they find it: constants as nodes, shapes computed at run time though only the batch is
unknown, casts to the type a tensor has. Optimisers that take this away also take what is nearly nothing: an epsilon of
1e-8, added before a division, is nearly zero, and a flat picture then divides by zero. So it is done here, by rules
that keep every bit of every output for every input.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from iqa_calibration.graphs.runner import Runner
from iqa_calibration.graphs.structure import attribute, replace_nodes

Shape = tuple[int | str, ...]

_MOST_READ, _MOST_WRITTEN = 2**13, 2**18
"""Elements of the largest constant that is computed with where others read it too, and of the largest that one may
become: what layers share, such as a transposed matrix, stays one constant in the file, and none grows much."""
_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
_NEVER_FOLDED = (
    *_RANDOM,
    "QuantizeLinear",
    "DequantizeLinear",
    "SequenceEmpty",
    "SplitToSequence",
    "SequenceConstruct",
)
_NOT_NUMPY = frozenset(
    kind
    for name, kind in TensorProto.DataType.items()
    if name.startswith(("BFLOAT", "FLOAT8", "FLOAT4", "INT4", "UINT4", "INT2", "UINT2", "STRING"))
)
_OPTIONAL_BIAS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}


def fold(model: ModelProto) -> None:
    """Fold a model in place, until nothing more can be.

    Parameters
    ----------
    model
        As an exporter wrote it, with the shapes of its tensors in ``graph.value_info``, whose sizes are numbers or
        names of what is unknown; what has no shape there is left as it is. Graphs inside nodes are not entered.

    Notes
    -----
    Constants are computed by ONNX Runtime, which would else compute them when the graph is loaded. Equal constants
    become one only where they are equal bit for bit. A bias of zeros, which exporters add to layers without one, is
    dropped.
    """
    _constants_to_initializers(model.graph)
    told = list(model.graph.value_info)
    before = -1
    while before != (before := _size(model.graph)):
        _complete_shapes(model, told)
        _Simplifier(model.graph).run()
        _evaluate(model)
        _share(model.graph)
        _remove_dead(model.graph)


def _size(graph: GraphProto) -> int:
    """Return what every round of folding makes smaller: nodes, and what they read."""
    return len(graph.node) + sum(len(node.input) for node in graph.node)


def _empty(model: ModelProto) -> ModelProto:
    """Return a model without a graph that reads nodes as the given one does."""
    empty = ModelProto(ir_version=model.ir_version)
    empty.opset_import.extend(model.opset_import)
    empty.functions.extend(model.functions)
    empty.graph.name = model.graph.name
    return empty


def _constants_to_initializers(graph: GraphProto) -> None:
    kept = []
    for node in graph.node:
        tensor = _constant_of(node)
        if tensor is None:
            kept.append(node)
        else:
            graph.initializer.append(tensor)
    replace_nodes(graph, kept)


def _constant_of(node: NodeProto) -> TensorProto | None:
    """Return the tensor of a Constant node; None for other nodes and for sparse and string constants."""
    if node.op_type != "Constant" or len(node.attribute) != 1:
        return None
    value = node.attribute[0]
    if value.type == AttributeProto.TENSOR:
        tensor = TensorProto()
        tensor.CopyFrom(value.t)
        tensor.name = node.output[0]
        return tensor
    types = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}
    if value.name not in types:
        return None
    return numpy_helper.from_array(np.asarray(helper.get_attribute_value(value), types[value.name]), node.output[0])


def _complete_shapes(model: ModelProto, told: list[ValueInfoProto]) -> None:
    """Infer the shapes of tensors that have none, again in every round: what is constant by now tells more."""
    graph = model.graph
    light = _empty(model)
    for field in ("node", "input", "output"):
        getattr(light.graph, field).extend(getattr(graph, field))
    light.graph.value_info.extend(told)
    for tensor in graph.initializer:
        small = prod(tensor.dims) <= _MOST_READ
        stub = TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
        light.graph.initializer.append(tensor if small else stub)
    inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    del graph.value_info[:]
    graph.value_info.extend(inferred.value_info)


class _Simplifier:
    """Rules on single nodes and pairs of them; each returns the tensor that a node's output is, or None."""

    def __init__(self, graph: GraphProto) -> None:
        self.graph = graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        self.types: dict[str, int] = {tensor.name: tensor.data_type for tensor in graph.initializer}
        for entry in (*graph.value_info, *graph.input, *graph.output):
            tensor = entry.type.tensor_type
            if tensor.HasField("shape"):
                self.shapes[entry.name] = tuple(
                    dimension.dim_value if dimension.HasField("dim_value") else dimension.dim_param
                    for dimension in tensor.shape.dim
                )
            if tensor.elem_type:
                self.types[entry.name] = tensor.elem_type
        self.producers = {output: node for node in graph.node for output in node.output}
        self.uses = Counter(name for node in graph.node for name in node.input)
        self.rules: dict[str, Callable[[NodeProto], str | None]] = {
            "Identity": lambda node: node.input[0],
            "Cast": self._cast,
            "CastLike": self._cast_like,
            "Shape": self._shape,
            "Reshape": self._reshape,
            "Expand": self._expand,
            "Slice": self._slice,
            "Transpose": self._transpose,
            "Concat": lambda node: node.input[0] if len(node.input) == 1 else None,
            "SequenceAt": self._sequence_at,
        }

    def run(self) -> None:
        """Apply every rule once, in the order of execution."""
        held = _held(self.graph)
        same: dict[str, str] = {}
        kept = []
        for node in self.graph.node:
            for index, name in enumerate(node.input):
                node.input[index] = same.get(name, name)
            self._drop_bias(node)
            rule = self.rules.get(node.op_type)
            equal = None if rule is None or node.domain else rule(node)
            if equal is None:
                kept.append(node)
            elif node.output[0] not in held:
                same[node.output[0]] = equal
            else:
                kept.append(helper.make_node("Identity", [equal], [node.output[0]], name=node.name))
        replace_nodes(self.graph, kept)

    def _drop_bias(self, node: NodeProto) -> None:
        index = _OPTIONAL_BIAS.get(node.op_type)
        if index is not None and len(node.input) == index + 1:
            bias = self._value(node.input[index])
            if bias is not None and not bias.view(np.uint8).any():
                del node.input[index]

    def _cast(self, node: NodeProto) -> str | None:
        return str(node.input[0]) if self.types.get(node.input[0]) == attribute(node, "to", None) else None

    def _cast_like(self, node: NodeProto) -> str | None:
        wanted = self.types.get(node.input[1])
        if wanted is None:
            return None
        del node.input[1]
        del node.attribute[:]
        node.op_type = "Cast"
        node.attribute.append(helper.make_attribute("to", wanted))
        return self._cast(node)

    def _shape(self, node: NodeProto) -> str | None:
        """Read sizes that are known."""
        shape = self.shapes.get(node.input[0])
        if shape is None:
            return None
        sizes = shape[slice(attribute(node, "start", 0), attribute(node, "end", None))]
        if not all(isinstance(size, int) for size in sizes):
            return None
        return self._add(node.output[0], np.array(sizes, np.int64))

    def _reshape(self, node: NodeProto) -> str | None:
        """Write the target as a constant where one size at most is unknown; join two in a row."""
        before, after = self.shapes.get(node.input[0]), self.shapes.get(node.output[0])
        if after is not None and self._is_same(before, after):
            return str(node.input[0])
        unknown = sum(isinstance(size, str) for size in after or ())
        if after is not None and node.input[1] not in self.constants and unknown < 2 and 0 not in after:
            target = np.array([-1 if isinstance(size, str) else size for size in after], np.int64)
            node.input[1] = self._add(f"{node.output[0]}.shape", target)
        target_of = self._value(node.input[1])
        earlier = self.producers.get(node.input[0])
        # A zero copies the size of the tensor before.
        if earlier is not None and earlier.op_type == "Reshape" and target_of is not None and 0 not in target_of:
            node.input[0] = earlier.input[0]
        return None

    def _expand(self, node: NodeProto) -> str | None:
        """Leave out what changes nothing; write the target as a constant where no size that grows is unknown."""
        before, after = self.shapes.get(node.input[0]), self.shapes.get(node.output[0])
        if after is None or before is None:
            return None
        if self._is_same(before, after):
            return str(node.input[0])
        if node.input[1] in self.constants:
            return None
        # One leaves a size as it is.
        padded = ("",) * (len(after) - len(before)) + before
        target = [1 if old == new else new for old, new in zip(padded, after, strict=True)]
        if all(isinstance(size, int) for size in target):
            node.input[1] = self._add(f"{node.output[0]}.shape", np.array(target, np.int64))
        return None

    def _slice(self, node: NodeProto) -> str | None:
        steps = self._value(node.input[4]) if len(node.input) > 4 and node.input[4] else np.ones(1, np.int64)
        if steps is None or (steps != 1).any():
            return None
        before = self.shapes.get(node.input[0])
        return str(node.input[0]) if self._is_same(before, self.shapes.get(node.output[0])) else None

    def _transpose(self, node: NodeProto) -> str | None:
        order = attribute(node, "perm", None)
        if order is None:
            return None
        earlier = self.producers.get(node.input[0])
        if earlier is not None and earlier.op_type == "Transpose" and attribute(earlier, "perm", None) is not None:
            first = attribute(earlier, "perm", None)
            order = [first[axis] for axis in order]
            node.input[0] = earlier.input[0]
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("perm", order))
        return str(node.input[0]) if list(order) == sorted(order) else None

    def _sequence_at(self, node: NodeProto) -> str | None:
        """Take a part of a tensor where it was split into a sequence of them."""
        split, index = self.producers.get(node.input[0]), self._value(node.input[1])
        if split is None or split.op_type != "SplitToSequence" or index is None:
            return None
        shape = self.shapes.get(split.input[0])
        sizes = self._value(split.input[1]) if len(split.input) > 1 else None
        axis = attribute(split, "axis", 0)
        if shape is None or sizes is None or not isinstance(shape[axis], int):
            return None
        length = int(shape[axis])
        given = np.asarray(sizes).tolist()
        parts = given if isinstance(given, list) else [min(given, length - at) for at in range(0, length, given)]
        at = int(index) % len(parts)
        start = int(sum(parts[:at]))
        bounds = [
            self._add(f"{node.output[0]}.{name}", np.array([value], np.int64))
            for name, value in (("start", start), ("end", start + int(parts[at])), ("axis", axis % len(shape)))
        ]
        node.op_type = "Slice"
        del node.input[:]
        node.input.extend([split.input[0], *bounds])
        return None

    @staticmethod
    def _is_same(before: Shape | None, after: Shape | None) -> bool:
        """Tell whether shapes are equal; an unknown size is itself, where it has a name."""
        return before is not None and before == after and "" not in before

    def _value(self, name: str) -> NDArray[np.generic] | None:
        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None

    def _add(self, name: str, values: NDArray[np.generic]) -> str:
        """Add a constant."""
        name = name if name not in self.producers else f"{name}.value"
        tensor = numpy_helper.from_array(np.asarray(values), name)
        if name not in self.constants:
            self.graph.initializer.append(tensor)
        self.constants[name] = tensor
        self.shapes[name], self.types[name] = tuple(tensor.dims), tensor.data_type
        return name


def _evaluate(model: ModelProto) -> None:
    """Compute what depends on constants alone, unless it is large."""
    graph = model.graph
    sizes = {tensor.name: prod(tensor.dims) for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in _reads(node))
    known = {name for name, size in sizes.items() if size <= _MOST_READ or uses[name] == 1}
    types = {entry.name: entry.type.tensor_type.elem_type for entry in graph.value_info}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        names = [name for name in node.input if name]
        inner = any(entry.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for entry in node.attribute)
        alien = any(types.get(name) in _NOT_NUMPY for name in (*names, *node.output))
        if node.op_type in _NEVER_FOLDED or inner or alien or not names or not known.issuperset(names):
            continue
        nodes.append(node)
        known.update(node.output)
    if not nodes:
        return
    wanted = [name for node in nodes for name in node.output if name]
    part = _empty(model)
    read = {name for node in nodes for name in node.input}
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(tensor for tensor in graph.initializer if tensor.name in read)
    values = Runner(part, extra_outputs=wanted).run({}, wanted)
    most = {
        name: max(_MOST_WRITTEN, *(sizes.get(read, 0) for read in node.input)) for node in nodes for name in node.output
    }
    small = {name for name, value in values.items() if value.size <= most[name]}
    folded = [node for node in nodes if small.issuperset(name for name in node.output if name)]
    done = {name for node in folded for name in node.output if name}
    graph.initializer.extend(numpy_helper.from_array(np.asarray(values[name]), name) for name in wanted if name in done)
    replace_nodes(graph, [node for node in graph.node if not done.issuperset(node.output)])


def _share(graph: GraphProto) -> None:
    """Let equal constants, bit for bit, and equal nodes be one."""
    same: dict[str, str] = {}
    first: dict[object, str] = {}
    held = _held(graph)
    for tensor in graph.initializer:
        content = sha256(numpy_helper.to_array(tensor).tobytes()).digest()
        name = first.setdefault((tensor.data_type, tuple(tensor.dims), content), tensor.name)
        if name != tensor.name and tensor.name not in held:
            same[tensor.name] = name
    nodes: dict[object, NodeProto] = {}
    kept = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = same.get(name, name)
        settings = sorted(entry.SerializeToString(deterministic=True) for entry in node.attribute)
        key = (node.domain, node.op_type, tuple(node.input), tuple(settings), len(node.output))
        twin = nodes.setdefault(key, node)
        if twin is node or node.op_type in _RANDOM or not held.isdisjoint(node.output):
            kept.append(node)
        else:
            same |= dict(zip(node.output, twin.output, strict=True))
    replace_nodes(graph, kept)


def _remove_dead(graph: GraphProto) -> None:
    """Remove nodes and constants that no output depends on."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            kept.append(node)
            needed.update(_reads(node))
    replace_nodes(graph, kept[::-1])
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def _held(graph: GraphProto) -> set[str]:
    """Return the tensors that keep their names: outputs, and what graphs inside nodes read."""
    inner = {name for node in graph.node for name in _reads(node) if name not in node.input}
    return inner | {output.name for output in graph.output}


def _reads(node: NodeProto) -> Iterator[str]:
    """Yield what a node reads, graphs inside it included."""
    yield from node.input
    for entry in node.attribute:
        for graph in (entry.g, *entry.graphs):
            for inner in graph.node:
                yield from _reads(inner)
            yield from (output.name for output in graph.output)
