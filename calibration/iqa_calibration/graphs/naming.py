"""The names by which parts of a graph are kept in float: nodes, the layers they belong to, and blocks of layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches

from iqa_calibration.graphs.structure import Structure
from iqa_runtime.errors import UsageError


def layer_of(structure: Structure, name: str) -> str:
    """Name the layer of a node after its parameters, such as ``head.hidden``; the node itself where it has none.

    Exporters keep the name of a bias, but not of transposed weights, and the bias may be added by the next node.
    """
    node = structure.nodes[name]
    candidates = [structure.origin(tensor) for tensor in node.input]
    readers = structure.readers[node.output[0]]
    if len(readers) == 1 and structure.nodes[readers[0]].op_type == "Add":
        candidates += structure.nodes[readers[0]].input
    for tensor in candidates:
        prefix, dot, parameter = tensor.rpartition(".")
        if dot and parameter in ("weight", "bias") and structure.is_constant(tensor):
            return prefix
    return name


def kept_nodes(layers: Mapping[str, str], keep_float: Collection[str], does: str) -> set[str]:
    """Find the nodes that names to keep mean.

    Parameters
    ----------
    layers
        The layer of every node that there is a choice about.
    keep_float
        Nodes, layers, or blocks: a block is the beginning of a layer's name up to a dot.
    does
        What all these nodes do, for messages.

    Raises
    ------
    UsageError
        If a name is none of them.
    """
    kept: set[str] = set()
    for wanted in keep_float:
        found = {name for name, layer in layers.items() if wanted in (name, layer) or layer.startswith(f"{wanted}.")}
        if not found:
            near = get_close_matches(wanted, dict.fromkeys([*layers.values(), *layers]))
            hint = f"the nearest is {' or '.join(near)}" if near else "the report of a run without it has the names"
            raise UsageError(f"``keep_float={wanted}``: no node, layer or block of that name {does}; {hint}")
        kept |= found
    return kept
