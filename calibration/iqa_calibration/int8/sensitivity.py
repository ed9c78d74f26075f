"""What it costs the score to compute one part of a network in integers, and what it saves."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from iqa_calibration.gate.agreement import spread_of
from iqa_calibration.graphs.runner import Feed, item_scores
from iqa_calibration.graphs.structure import Structure
from iqa_calibration.int8.observers import Range
from iqa_calibration.int8.placement import Placement, channel_axis
from iqa_calibration.int8.quantisation import quantise
from iqa_runtime.errors import ArtefactError, UsageError

MAX_PARTS = 48
"""Parts that are told apart, so that the cost stays bounded: each is a network of its own that runs over the items."""

Progress = Callable[[int, int], None]
"""Called with the number of parts measured so far, and of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """One part of a network.

    Attributes
    ----------
    part
        Name of the layer or block.
    nodes
        Its quantised products with constant weights, in the order of execution.
    effect
        Root mean square change of the score when this part alone is quantised, as a share of the spread of the float32
        scores over the same items, from their 5th to their 95th percentile; infinite if a score is not finite.
    macs
        Multiplications and additions of these products for one item.
    """

    part: str
    nodes: tuple[str, ...]
    effect: float
    macs: int


def measure_sensitivity(
    model: ModelProto,
    placement: Placement,
    ranges: Mapping[str, Range],
    items: Sequence[Feed],
    *,
    output: str = "score",
    threads: int = 1,
    progress: Progress | None = None,
) -> tuple[Sensitivity, ...]:
    """Quantise one part after another, all else in float32, and measure how that moves the score.

    A part is a layer. In a graph of more than `MAX_PARTS` layers it is a block: all layers whose names begin alike, up
    to one number of dots that is the same for the whole graph and the largest that makes no more than `MAX_PARTS`
    blocks. Where not even the first words of the names are few enough, as in a graph that knows no names, it is a run
    of neighbours in the order of execution. The names of layers and blocks are such as `keep_float` takes.

    The effect on the score is what counts: a layer can lose much that nothing behind it reads. Products of two
    activations are no parts, and float32 while parts are measured.

    Parameters
    ----------
    model
        The float32 graph that was planned.
    placement
        Where Q/DQ pairs go.
    ranges
        Range of every tensor of the placement.
    items
        What is scored; some degraded, so that the scores spread.
    output
        The output that is the score, one number an item.
    threads
        Items computed at once, each on one thread; no result depends on it.
    progress
        Is told of each part.

    Returns
    -------
    tuple of Sensitivity
        The part with the largest effect comes first.

    Raises
    ------
    UsageError
        If there are no items, or the float32 scores of all are alike; and as `quantise`.
    ArtefactError
        If a float32 score is not finite, or ONNX Runtime cannot run a graph.
    """
    if not items:
        raise UsageError("there are no items to measure sensitivity on; give at least one photograph")
    exact = item_scores(model, items, output, threads=threads)
    if not np.isfinite(exact).all():
        raise ArtefactError(
            f"the float32 {output} of item {int(np.argmin(np.isfinite(exact)))} is not finite; check the weights"
        )
    spread = spread_of(exact)
    if spread == 0:
        raise UsageError(
            "the float32 scores of the items are all alike, so no change can be compared with their "
            "spread; give photographs that differ in quality"
        )
    structure = Structure(model)
    parts = _parts(placement)
    measured = []
    for name, nodes in parts.items():
        others = [*placement.attention, *(node for node in placement.nodes if node not in nodes)]
        alone = quantise(model, placement, ranges, keep_float=others)
        change = item_scores(alone, items, output, threads=threads) - exact
        effect = float(np.sqrt(np.square(change).mean()) / spread)
        macs = sum(_macs(structure, node) for node in nodes)
        measured.append(
            Sensitivity(part=name, nodes=nodes, effect=effect if math.isfinite(effect) else math.inf, macs=macs)
        )
        if progress is not None:
            progress(len(measured), len(parts))
    return tuple(sorted(measured, key=lambda part: -part.effect))


def _parts(placement: Placement) -> dict[str, tuple[str, ...]]:
    """Divide the quantised products with constant weights into layers, blocks or runs."""
    paths = {node: placement.layers[node].split(".") for node in placement.nodes}
    for depth in range(max(map(len, paths.values()), default=1), 0, -1):
        blocks: defaultdict[str, list[str]] = defaultdict(list)
        for node, path in paths.items():
            blocks[".".join(path[:depth])].append(node)
        if len(blocks) <= MAX_PARTS:
            return {name: tuple(nodes) for name, nodes in blocks.items()}
    runs = (tuple(map(str, run)) for run in np.array_split(np.array(placement.nodes, dtype=object), MAX_PARTS))
    return {f"{run[0]} to {run[-1]}": run for run in runs}


def _macs(structure: Structure, name: str) -> int:
    """Count the multiplications and additions of a product; of one position where its shape cannot be inferred."""
    node = structure.nodes[name]
    shape = structure.constant(node.input[1]).shape
    axis = channel_axis(node, len(shape))
    depth = math.prod(shape[1:]) if axis == 0 else shape[-2]
    return depth * math.prod(structure.item_shapes.get(node.output[0], (shape[axis],)))
