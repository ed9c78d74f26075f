"""Half precision by a measured range check: what would overflow or lose too much stays float32, by name and reason."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from iqa_calibration.graphs.naming import kept_nodes, layer_of
from iqa_calibration.graphs.runner import Feed, Runner, first_not_finite
from iqa_calibration.graphs.structure import Structure, opset_of
from iqa_calibration.half.casting import (
    FORMATS,
    HalfFormat,
    Kind,
    at_opset_for,
    converted,
    element_types,
    emulated,
    obstacle,
)
from iqa_calibration.half.range_check import NodeCheck, measured
from iqa_runtime.errors import ArtefactError, UsageError

HEADROOM = 4.0
"""How far below the largest half every value must stay: images outside the calibration set may go beyond it."""

LOSS = 1.0
"""Largest error of a node that is tolerated, in epsilons of the format, root mean square: twice what it costs to round
two operands and a result once each (0.29 epsilon a rounding) where nothing cancels; our choice."""

_ADDS_UP = frozenset(
    [
        "CumSum",
        "GlobalAveragePool",
        "GlobalLpPool",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "LogSoftmax",
        "LpNormalization",
        "MeanVarianceNormalization",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMean",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "RMSNormalization",
        "Softmax",
    ]
)
"""Operators that add up many values; whether a kernel does so in float32 is its own decision."""

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")

_EXACT = frozenset(
    [
        "Abs",
        "Clip",
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Max",
        "MaxPool",
        "Min",
        "Neg",
        "Pad",
        "Relu",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    ]
)
"""Operators whose results are among their operands, but for the sign: they round nothing, whatever their format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfReport:
    """What became of the nodes of a graph.

    Attributes
    ----------
    kind
        ``fp16`` or ``bf16``.
    items
        Items the range check saw.
    in_half
        Nodes in half, in the order of execution.
    kept_float
        Nodes that stay float32, and why.
    checks
        What was measured of each node with float32 results.
    """

    kind: Kind
    items: int
    in_half: tuple[str, ...]
    kept_float: dict[str, str]
    checks: tuple[NodeCheck, ...]

    def with_float(self, nodes: Mapping[str, str]) -> HalfReport:
        """Return the report of the same graph with more nodes in float32: their names and the reasons."""
        return replace(
            self,
            in_half=tuple(name for name in self.in_half if name not in nodes),
            kept_float={**nodes, **self.kept_float},
        )


def to_half(
    model: ModelProto,
    feeds: Callable[[], Iterable[Feed]],
    *,
    kind: Kind = "fp16",
    keep_float: Collection[str] = (),
    threads: int = 1,
) -> tuple[ModelProto, HalfReport]:
    """Put a float32 graph into half precision, but for what would suffer.

    Float32 stay: operators that add up many values; the last products before each output and all behind them, the
    weighted mean of a score among it; nodes whose values or constants leave the range of the format, with all who read
    these; nodes that lose too much, with those who make what they read, since it is lost there.

    Parameters
    ----------
    model
        The float32 graph; it is left as it is. For ``bf16`` the result is of opset 22 at least.
    feeds
        Gives the items to check with, the same each time; extreme ones should be among them, as in
        `CalibrationSet.feeds_and_extremes`.
    kind
        ``fp16`` or ``bf16``.
    keep_float
        Nodes, layers or blocks that stay float32 too: a layer is the nodes that read its parameters, a block the
        beginning of a layer's name up to a dot.
    threads
        Items computed at once, each on one thread; no result depends on it.

    Returns
    -------
    model, report
        Inputs and outputs of the graph are float32.

    Raises
    ------
    UsageError
        If the format is unknown, a name to keep is nothing in the graph, or there are no items.
    ArtefactError
        If the graph is not float32 or not finite on an item, before or after.
    """
    if kind not in FORMATS:
        raise UsageError(f"half format {kind!r}: choose one of {', '.join(FORMATS)}")
    half = FORMATS[kind]
    model = at_opset_for(model, half)
    structure, types = Structure(model), element_types(model)
    choices = [name for name, node in structure.nodes.items() if _is_choice(node, types)]
    layers = {name: layer_of(structure, name) for name in choices}
    kept = dict.fromkeys(kept_nodes(layers, keep_float, "computes in float32"), "as asked")
    checks, items = measured(model, structure, types, half, feeds(), threads=threads)
    for name, reason in _reasons(model, structure, types, half, checks):
        kept.setdefault(name, reason)
    report = HalfReport(
        kind=kind,
        items=items,
        in_half=tuple(name for name in choices if name not in kept),
        kept_float={name: kept[name] for name in choices if name in kept},
        checks=tuple(checks.values()),
    )
    return in_half(model, report, feeds(), threads=threads), report


def in_half(model: ModelProto, report: HalfReport, feeds: Iterable[Feed], *, threads: int = 1) -> ModelProto:
    """Put a graph into half as a report says.

    Raises
    ------
    ArtefactError
        If an output is not finite on an item.
    """
    half = FORMATS[report.kind]
    result = converted(at_opset_for(model, half), half, report.kept_float)
    for index, values in enumerate(Runner(emulated(result)).run_each(feeds, threads=threads)):
        name = first_not_finite(values)
        if name is not None:
            raise ArtefactError(
                f"output {name!r} is not finite in half precision on item {index}; name nodes to keep in float32, or "
                "export fp32"
            )
    return result


def _reasons(
    model: ModelProto, structure: Structure, types: dict[str, int], half: HalfFormat, checks: dict[str, NodeCheck]
) -> Iterator[tuple[str, str]]:
    """Yield nodes that stay float32 and why; what is said of a node first is the reason that counts."""
    opset = opset_of(model)
    for name, node in structure.nodes.items():
        reason = obstacle(node, types, opset, half) or _lost_constant(structure, types, node, half)
        if reason:
            yield name, reason
        elif node.op_type in _ADDS_UP:
            yield name, "adds up many values"
    for name in _tail(structure):
        yield name, "makes an output: a last product, or behind it"
    for name, check in checks.items():
        node = structure.nodes[name]
        if check.largest * HEADROOM > half.largest:
            yield name, f"values up to {check.largest:.3g}, too near the end of the format at {half.largest:.3g}"
            for reader in structure.readers[node.output[0]]:
                yield (
                    reader,
                    f"reads values up to {check.largest:.3g}, too near the end of the format at {half.largest:.3g}",
                )
        elif check.error > LOSS * half.epsilon and node.op_type not in _ADDS_UP:
            yield name, f"would lose {check.error:.2g} of its result"
            for maker in _makers(structure, node):
                yield maker, f"is read by {name}, which would lose {check.error:.2g} of its result"


def _lost_constant(structure: Structure, types: dict[str, int], node: NodeProto, half: HalfFormat) -> str:
    for tensor in node.input:
        if types.get(tensor) != TensorProto.FLOAT or not structure.is_constant(tensor):
            continue
        values = structure.constant(tensor).astype(np.float32)
        if values.size and np.abs(values).max() > half.largest:
            return f"a constant of {np.abs(values).max():.3g}, the format ends at {half.largest:.3g}"
        rounded = values.astype(helper.tensor_dtype_to_np_dtype(half.element_type)).astype(np.float32)
        # A small number such as the one that keeps a divisor from zero does its work by not being zero.
        if values.size == 1 and values.any() and not rounded.any():
            return f"a constant of {values.reshape(-1)[0]:.3g} would become zero"
    return ""


def _tail(structure: Structure) -> list[str]:
    """List the nodes behind the last products before each output, these products included."""
    found: list[str] = []
    waiting = sorted(structure.outputs)
    while waiting:
        name = structure.producers.get(waiting.pop())
        if name is None or name in found:
            continue
        found.append(name)
        if structure.nodes[name].op_type not in _PRODUCTS:
            waiting.extend(structure.nodes[name].input)
    return found


def _makers(structure: Structure, node: NodeProto) -> Iterator[str]:
    """Yield who makes what a node reads, seen through operators that round nothing."""
    for tensor in node.input:
        name = structure.producers.get(tensor)
        if name is not None:
            yield name
            if structure.nodes[name].op_type in _EXACT:
                yield from _makers(structure, structure.nodes[name])


def _is_choice(node: NodeProto, types: dict[str, int]) -> bool:
    """Tell whether a node reads and makes float32, so that its format is a choice."""
    return all(any(types.get(tensor) == TensorProto.FLOAT for tensor in side) for side in (node.input, node.output))
