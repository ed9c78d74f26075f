"""Look into two artefacts of one network: which tensors differ, and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod

import numpy as np

from iqa_calibration.comparing.scores import Progress, check_comparable, part_of
from iqa_calibration.comparing.sources import Graph, TensorSource, check_sides, tensor_source
from iqa_calibration.graphs.runner import Feed
from iqa_calibration.graphs.structure import Structure
from iqa_calibration.images.items import Cropper
from iqa_runtime.artefacts.opening import Artefact
from iqa_runtime.contract import Contract
from iqa_runtime.errors import ArtefactError, UsageError
from iqa_runtime.images.header import Frame

LAYER_ITEMS = 4
"""Items that tensors are compared on by default: rounding shows on one; more guard against an odd crop."""

_GROUP_ELEMENTS = 2**25
"""Elements of the tensors that one pass returns from each side: 128 MiB of float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One tensor that both sides have by the same name.

    Attributes
    ----------
    tensor, node, operator
        Its name, and the node that makes it in the ONNX graph; in the first one's, if both are ONNX files.
    relative
        Root mean square of the difference as a share of that of the first one's values; infinite if
        those are all zero, or one side is not finite.
    largest
        Largest absolute difference.
    shape
        For one item; the last one where pictures have their own size.
    """

    tensor: str
    node: str
    operator: str
    relative: float
    largest: float
    shape: tuple[int, ...]


def compare_layers(
    first: Artefact,
    second: Artefact,
    images: Sequence[str],
    references: str | Sequence[str] | None = None,
    *,
    backends: tuple[str | None, str | None] = (None, None),
    devices: tuple[str | None, str | None] = (None, None),
    frame: Frame | None = None,
    items: int = LAYER_ITEMS,
    threads: int = 1,
    progress: Progress | None = None,
) -> tuple[tuple[LayerRow, ...], int]:
    """Run two artefacts with all that is inside as outputs, and compare float tensors of the same name and shape.

    An ONNX graph runs on ONNX Runtime's CPU provider, one in half as hardware for it would, every half rounded where it
    is stored; bfloat16 tensors, which NumPy has no type for, are counted as apart. An engine shows what was marked when
    it was built, and the backend ``pytorch`` the nodes that were exported. Differences of a tensor hold those of all
    before it.

    Parameters
    ----------
    first, second
        The artefacts; at least one an ONNX file, which names the nodes.
    images, references
        As for `compare_scores`; the first crop of each of the first `items` images is used.
    backends, devices
        What runs each, and where, as in `Scorer`. Any backend that shows no tensors stands for ONNX Runtime's.
    frame
        As in `Scorer`.
    items
        Items to compare on.
    threads
        Threads of a backend; ONNX Runtime takes one, as its sums then do not depend on how many there are.
    progress
        Is told of each pass.

    Returns
    -------
    rows, apart
        The worst first, by `LayerRow.relative`; and the float tensors of the ONNX graph that have no partner.

    Raises
    ------
    UsageError
        If no artefact is an ONNX file, an engine was built without ``--mark-layers``, one takes cached features of a
        reference, or `items` is below 1.
    ArtefactError
        If ONNX Runtime refuses a graph with all its tensors as outputs.
    IqaError
        Whatever is wrong with an image, or a backend refuses.
    """
    if items < 1:
        raise UsageError(f"items is {items}; tensors are compared on at least one")
    artefacts = (first, second)
    check_sides(artefacts)
    check_comparable(first.contract, second.contract)
    graphs = [Graph(artefact.graph.take()) if artefact.engine is None else None for artefact in artefacts]
    graph = next(graph for graph in graphs if graph is not None)
    feeds = [list(_feeds(artefact.contract, images, references, items, frame)) for artefact in artefacts]
    with ExitStack() as opened:
        sources = [
            opened.enter_context(tensor_source(artefact, graph, backend=backend, device=device, threads=threads))
            for artefact, graph, backend, device in zip(artefacts, graphs, backends, devices, strict=True)
        ]
        common = _partners(graph, sources, own_size=first.contract.has_own_size)
        sums = {name: np.zeros(2) for name in common}
        largest = dict.fromkeys(common, 0.0)
        groups = list(_groups(common))
        tell = part_of(progress, "comparing tensors", len(groups))
        for done, group in enumerate(groups, 1):
            runs = [source.prepare(group) for source in sources]
            for pair in zip(*feeds, strict=True):
                values = [run(feed) for run, feed in zip(runs, pair, strict=True)]
                for name in group:
                    left, right = (np.asarray(value[name], np.float64) for value in values)
                    with np.errstate(invalid="ignore"):  # infinities of the same sign
                        apart_by = right - left
                    common[name] = left.shape
                    sums[name] += (np.square(apart_by).sum(), np.square(left).sum())
                    largest[name] = max(largest[name], float(np.abs(apart_by).max(initial=0.0)))
            tell(done)
    rows = [_row(graph.structure, name, common[name], sums[name].tolist(), largest[name]) for name in common]
    return tuple(sorted(rows, key=lambda row: -row.relative)), len(graph.floats) - len(common)


def _partners(graph: Graph, sources: Sequence[TensorSource], *, own_size: bool) -> dict[str, tuple[int, ...]]:
    """Return the tensors of the graph that both sides give, and shapes; examples where pictures have their own size."""
    first, second = (source.shapes for source in sources)
    common = {
        name: tuple(first[name])
        for name in graph.floats
        if name in first
        and name in second
        and (len(first[name]) == len(second[name]) if own_size else tuple(first[name]) == tuple(second[name]))
    }
    if not common:
        raise ArtefactError("the two have no tensor of the same name and shape; compare their scores alone")
    return common


def _groups(shapes: dict[str, tuple[int, ...]]) -> Iterator[list[str]]:
    """Split tensors into passes that fit in memory."""
    group: list[str] = []
    elements = 0
    for name, shape in shapes.items():
        if group and elements + prod(shape) > _GROUP_ELEMENTS:
            yield group
            group, elements = [], 0
        group.append(name)
        elements += prod(shape)
    yield group


def _feeds(
    contract: Contract, images: Sequence[str], references: str | Sequence[str] | None, items: int, frame: Frame | None
) -> Iterator[Feed]:
    if contract.input("reference_features") is not None:
        raise UsageError(
            "an artefact with cached features of a reference has no whole graph to compare; give one without"
        )
    cropper = Cropper(contract, frame)
    for index, image in enumerate(images[:items]):
        reference = references if references is None or isinstance(references, str) else references[index]
        yield cropper.item(cropper.subject(image, reference), 0)


def _row(structure: Structure, name: str, shape: tuple[int, ...], sums: Sequence[float], largest: float) -> LayerRow:
    node = structure.producers[name]
    difference, reference = sums
    relative = math.sqrt(difference / reference) if reference > 0 else math.inf
    if difference == 0:
        relative = 0.0
    elif math.isnan(relative):
        relative = math.inf
    return LayerRow(
        tensor=name,
        node=node,
        operator=structure.nodes[node].op_type,
        relative=relative,
        largest=largest,
        shape=shape,
    )
