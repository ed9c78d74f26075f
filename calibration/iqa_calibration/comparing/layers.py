"""Look into two ONNX graphs of one network: which tensors differ, and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from iqa_calibration.comparing.scores import Progress, check_comparable, part_of
from iqa_calibration.graphs.runner import Feed, Runner
from iqa_calibration.graphs.structure import Structure
from iqa_calibration.half.casting import element_types, emulated, is_half
from iqa_calibration.images.items import Cropper
from iqa_runtime.contract import Contract, read_contract
from iqa_runtime.errors import ArtefactError, UsageError

LAYER_ITEMS = 4
"""Items that tensors are compared on by default: rounding shows on one; more guard against an odd crop."""

_GROUP_ELEMENTS = 2**25
"""Elements of the tensors that one pass returns from each graph: 128 MiB of float32."""

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One tensor that both graphs have by the same name.

    Attributes
    ----------
    tensor, node, operator
        Its name, and the node of the first graph that makes it.
    relative
        Root mean square of the difference as a share of that of the first one's values; infinite if
        those are all zero, or one side is not finite.
    largest
        Largest absolute difference.
    shape
        For one item.
    """

    tensor: str
    node: str
    operator: str
    relative: float
    largest: float
    shape: tuple[int, ...]


def compare_layers(
    first: Path,
    second: Path,
    images: Sequence[str],
    references: str | Sequence[str] | None = None,
    *,
    items: int = LAYER_ITEMS,
    threads: int = 1,
    progress: Progress | None = None,
) -> tuple[tuple[LayerRow, ...], int]:
    """Run two ONNX graphs with all their tensors as outputs, and compare those of the same name, type and shape.

    A graph in half runs as hardware for it would, every half rounded where it is stored; bfloat16 tensors, which NumPy
    has no type for, are counted as apart. Differences of a tensor hold those of all before it.

    Parameters
    ----------
    first, second
        The artefacts, both ONNX.
    images, references
        As for `compare_scores`; the first crop of each of the first `items` images is used.
    items
        Items to compare on.
    threads
        Threads of ONNX Runtime.
    progress
        Is told of each pass.

    Returns
    -------
    rows, apart
        The worst first, by `LayerRow.relative`; and the float tensors of the first graph that have no partner.

    Raises
    ------
    UsageError
        If an artefact is no ONNX file, takes cached features of a reference, or `items` is below 1.
    ArtefactError
        If ONNX Runtime refuses a graph with all its tensors as outputs.
    IqaError
        Whatever is wrong with an image.
    """
    if items < 1:
        raise UsageError(f"items is {items}; tensors are compared on at least one")
    paths = (first, second)
    for path in paths:
        if path.suffix.lower() != ".onnx":
            raise UsageError(f"{path}: only ONNX files have tensors to look at; compare the ONNX files of both")
    contracts = [read_contract(path) for path in paths]
    check_comparable(*contracts)
    models = [onnx.load_model(path) for path in paths]
    models = [emulated(model) if is_half(model) else model for model in models]
    structures = [Structure(model) for model in models]
    common, apart = _partners(models, structures)
    feeds = [list(_feeds(contract, images, references, items)) for contract in contracts]
    sums = {name: np.zeros(2) for name in common}
    largest = dict.fromkeys(common, 0.0)
    groups = list(_groups(common))
    tell = part_of(progress, "comparing tensors", len(groups))
    for done, group in enumerate(groups, 1):
        runners = [Runner(model, threads=threads, extra_outputs=group) for model in models]
        for pair in zip(*feeds, strict=True):
            values = [runner.run(feed, group) for runner, feed in zip(runners, pair, strict=True)]
            for name in group:
                left, right = (np.asarray(value[name], np.float64) for value in values)
                with np.errstate(invalid="ignore"):  # infinities of the same sign
                    apart_by = right - left
                sums[name] += (np.square(apart_by).sum(), np.square(left).sum())
                largest[name] = max(largest[name], float(np.abs(apart_by).max(initial=0.0)))
        tell(done)
    rows = [_row(structures[0], name, common[name], sums[name].tolist(), largest[name]) for name in common]
    return tuple(sorted(rows, key=lambda row: -row.relative)), apart


def _partners(models: Sequence[ModelProto], structures: Sequence[Structure]) -> tuple[dict[str, tuple[int, ...]], int]:
    """Return the computed float tensors that both have, with their shapes, and how many the first has alone."""
    types = [element_types(model) for model in models]
    shapes = [structure.item_shapes for structure in structures]
    floats = [
        name
        for name in structures[0].producers
        if types[0].get(name) in _FLOATS and not structures[0].is_constant(name)
    ]
    common = {
        name: shapes[0][name]
        for name in floats
        if name in structures[1].producers
        and types[1].get(name) in _FLOATS
        and name in shapes[0]
        and shapes[0][name] == shapes[1].get(name)
    }
    if not common:
        raise ArtefactError("the two graphs have no tensor of the same name and shape; compare their scores alone")
    return common, len(floats) - len(common)


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
    contract: Contract, images: Sequence[str], references: str | Sequence[str] | None, items: int
) -> Iterator[Feed]:
    if contract.input("reference_features") is not None:
        raise UsageError(
            "an artefact with cached features of a reference has no whole graph to compare; give one without"
        )
    cropper = Cropper(contract)
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
