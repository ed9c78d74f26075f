"""Where a graph computes in integers: which products, which of their inputs, and what stays in float and why.

Three targets want three forms.

- ``tensorrt`` and ``openvino``: a Q/DQ pair on the input of every quantised product and on the skip branch of a
  residual Add behind a convolution. Nothing on outputs, so that convolution, bias, activation and Add stay one kernel.
- ``onnxruntime``: its integer convolution also writes integers, so everything a quantised convolution makes (behind its
  Relu or Clip) is quantised, for all who read it, and Adds of two such tensors are integer Adds. Matrix products write
  float, and are quantised on the inputs alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from onnx import ModelProto, NodeProto

from iqa_calibration.graphs.naming import kept_nodes, layer_of
from iqa_calibration.graphs.structure import Structure, attribute
from iqa_runtime.errors import UsageError

Target = Literal["onnxruntime", "openvino", "tensorrt"]

MIN_CHANNELS = 4
"""Output channels below which a product stays float: integer kernels work on blocks of at least four, so gates of one
channel and the last layer of a score would gain nothing and give away precision where it shows most."""

MIN_DEPTH = 256
"""Length of the sums of a product of two activations below which it stays float. Both operands are made integer at run
time, so every such product costs precision; in YOTO the long ones, over 768 channels or hundreds of tokens, halve the
time of OpenVINO's int8 (346 to 185 ms a crop on one thread), and the short ones of its windows win 3 % more."""

_PRODUCTS = ("Conv", "Gemm", "MatMul")
_FUSED_ACTIVATIONS = ("Relu", "Clip")


@dataclass(frozen=True, slots=True)
class Read:
    """One input of one node: the tensor, and who reads it at which position."""

    tensor: str
    node: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What is quantised in a graph.

    Attributes
    ----------
    target
        For whom.
    nodes
        Products with constant weights that become integer, by name, in the order of execution.
    attention
        Products of two activations that become integer.
    reads
        Which inputs of which nodes come through a Q/DQ pair; weights are not among them.
    layers
        Name of the layer of every product, as its parameters are called, such as ``head.hidden``; the name of the node
        where the graph no longer knows it.
    kept_float
        Products that stay float, and why.
    asked
        The names given as ``keep_float``.
    """

    target: Target
    nodes: tuple[str, ...]
    attention: tuple[str, ...]
    reads: tuple[Read, ...]
    layers: dict[str, str]
    kept_float: dict[str, str]
    asked: tuple[str, ...]

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors that get a Q/DQ pair, in the order in which they are read; these need ranges."""
        return tuple(dict.fromkeys(read.tensor for read in self.reads))

    @property
    def symmetric(self) -> bool:
        """Whether activations are symmetric int8; otherwise they are asymmetric uint8."""
        return self.target != "onnxruntime"


def place(model: ModelProto, target: Target, *, attention: bool = False, keep_float: Collection[str] = ()) -> Placement:
    """Decide what is quantised.

    Parameters
    ----------
    model
        A float32 graph.
    target
        For whom.
    attention
        Also quantise long products of two activations, as in attention over many tokens; not for ONNX Runtime, which
        has no fast integer product of two activations (YOTO: 335 ms a crop without, 324 to 349 ms with).
    keep_float
        Nodes, layers or blocks that stay float: a block is the beginning of a layer's name up to a dot. What is
        quantised is then a part of what would be quantised without.

    Raises
    ------
    UsageError
        If the target is unknown, or a name to keep is nothing in the graph.
    """
    if target not in get_args(Target):
        raise UsageError(f"target {target!r}: choose one of {', '.join(get_args(Target))}")
    structure = Structure(model)
    products = {name: node for name, node in structure.nodes.items() if node.op_type in _PRODUCTS}
    layers = {name: layer_of(structure, name) for name in products}
    asked = kept_nodes(layers, keep_float, "computes a product")
    nodes: list[str] = []
    pairs: list[str] = []
    kept: dict[str, str] = {}
    for name, node in products.items():
        two_activations = node.op_type == "MatMul" and not any(map(structure.is_constant, node.input))
        reason = "as asked" if name in asked else _reason(structure, node, target, attention)
        if reason:
            kept[name] = reason
        else:
            (pairs if two_activations else nodes).append(name)
    reads = {Read(products[name].input[0], name, 0) for name in (*nodes, *pairs)}
    reads |= {Read(products[name].input[1], name, 1) for name in pairs}
    chosen = set(nodes)
    if target == "onnxruntime":
        integer = _integer_tensors(structure, chosen)
        reads |= {read for tensor in integer for read in _all_reads(structure, tensor)}
    else:
        reads |= set(_skip_branches(structure, chosen))
    order = {name: index for index, name in enumerate(structure.nodes)}
    return Placement(
        target=target,
        nodes=tuple(nodes),
        attention=tuple(pairs),
        reads=tuple(sorted(reads, key=lambda read: (order[read.node], read.position))),
        layers=layers,
        kept_float=kept,
        asked=tuple(keep_float),
    )


def _reason(structure: Structure, node: NodeProto, target: Target, attention: bool) -> str:
    """Say why a product stays float; empty if nothing speaks against integers."""
    left, right = node.input[0], node.input[1]
    if structure.is_constant(left):
        return "its weights are on the left, where they have no channels"
    if not structure.is_constant(right):
        if node.op_type != "MatMul":
            return "its weights are computed"
        if not attention or target == "onnxruntime":
            return "a product of two activations"
        depth = structure.item_shapes.get(right, (0, 0))[-2]
        return "" if depth >= MIN_DEPTH else f"a product of two activations over fewer than {MIN_DEPTH} elements"
    if not structure.is_float32(right):
        return "its weights are not float32"
    weights = structure.constant(right)
    if weights.ndim < 2:
        return "its weights are a vector"
    if weights.shape[channel_axis(node, weights.ndim)] < MIN_CHANNELS:
        return f"fewer than {MIN_CHANNELS} output channels"
    if node.op_type == "Gemm" and any(
        attribute(node, name, default) != default for name, default in (("alpha", 1), ("beta", 1), ("transA", 0))
    ):
        return "a Gemm that scales or transposes"
    return _reason_of_onnxruntime(structure, node) if target == "onnxruntime" else ""


def _reason_of_onnxruntime(structure: Structure, node: NodeProto) -> str:
    """Say what ONNX Runtime's integer convolution and Gemm cannot do, which take and write more than a product's."""
    weights = structure.constant(node.input[1])
    channels = (weights.shape[channel_axis(node, weights.ndim)],)
    biases = node.input[2:]
    if not all(structure.is_constant(bias) and structure.constant(bias).shape == channels for bias in biases):
        return "its bias is not a constant of each channel"
    if node.op_type == "Conv" and structure.outputs & {node.output[0], _activated(structure, node)}:
        return "its result is an output of the graph"
    return ""


def channel_axis(node: NodeProto, rank: int) -> int:
    """Axis of the output channels in the weights of a product."""
    return 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else rank - 1


def _activated(structure: Structure, node: NodeProto) -> str:
    """Return the tensor behind a node and the Relu or Clip that alone reads it."""
    readers = structure.readers[node.output[0]]
    if len(readers) == 1 and node.output[0] not in structure.outputs:
        follower = structure.nodes[readers[0]]
        if follower.op_type in _FUSED_ACTIVATIONS:
            return str(follower.output[0])
    return str(node.output[0])


def _integer_tensors(structure: Structure, chosen: Collection[str]) -> set[str]:
    """Find what integer convolutions make, and the integer Adds of such tensors."""
    integer: set[str] = set()
    for name, node in structure.nodes.items():
        result = _activated(structure, node)
        is_sum = node.op_type == "Add" and integer.issuperset(node.input) and result not in structure.outputs
        if is_sum or (node.op_type == "Conv" and name in chosen):
            integer.add(result)
    return integer


def _all_reads(structure: Structure, tensor: str) -> Iterator[Read]:
    for name in dict.fromkeys(structure.readers[tensor]):
        for position, read in enumerate(structure.nodes[name].input):
            if read == tensor:
                yield Read(tensor, name, position)


def _skip_branches(structure: Structure, chosen: Collection[str]) -> Iterator[Read]:
    """Find the other operand of every Add that alone reads what an integer convolution makes.

    Where both operands come from convolutions, which one is the other does not depend on what is chosen: to keep more
    in float must never quantise another tensor.
    """
    for name, node in structure.nodes.items():
        if node.op_type != "Add" or any(map(structure.is_constant, node.input)):
            continue
        for main, skip in ((1, 0), (0, 1)):
            maker = structure.producers.get(node.input[main], "")
            convolution = maker in structure.nodes and structure.nodes[maker].op_type == "Conv"
            if convolution and structure.readers[node.input[main]] == [name]:
                if maker in chosen:
                    yield Read(node.input[skip], name, skip)
                break
