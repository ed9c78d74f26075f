"""The axes of a graph that a run decides on: the batch and, of whole pictures at their own size, height and width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from iqa_export.outputs import ExportError
from iqa_runtime.contract import OWN_SIZE, PatchPlan, TensorInput
from iqa_runtime.errors import UsageError
from iqa_runtime.kernels import MAX_SIDE
from iqa_runtime.scoring.patch_plans import own_size_example

_MAX_BATCH = 1024
_SPECIAL = 2
"""What PyTorch makes of a least size of 0 or 1, which it traces apart from all others; it means nothing."""


def example_shape(tensor: TensorInput, patch_plan: PatchPlan | None) -> tuple[int, ...]:
    """Return the shape of an item to trace a network with: an example where pictures come at their own size.

    Raises
    ------
    UsageError
        If they do, and there is no patch plan.
    """
    sizes = tensor.shape[1:]
    if tuple(sizes[-2:]) == OWN_SIZE:
        if patch_plan is None:
            raise UsageError(f"{tensor.name}: pictures at their own size need ``patch_plan``")
        sizes = (*sizes[:-2], *own_size_example(patch_plan))
    return tuple(int(size) for size in sizes)


def dynamic_axes(inputs: Sequence[TensorInput], patch_plan: PatchPlan | None) -> tuple[dict[int, Any], ...]:
    """Return the dynamic axes of each input as `torch.export` takes them; those of a pair are the same."""
    unit = (patch_plan.multiple if patch_plan is not None else None) or 1
    least = -(-((patch_plan.smallest if patch_plan is not None else None) or 1) // unit)
    sides = [Dim(name, min=least, max=MAX_SIDE // unit) for name in OWN_SIZE]
    height, width = (side if unit == 1 else unit * side for side in sides)
    batch = Dim("batch", min=1, max=_MAX_BATCH)
    return tuple(
        {0: batch, 2: height, 3: width} if tuple(tensor.shape[-2:]) == OWN_SIZE else {0: batch} for tensor in inputs
    )


def check_traced(program: ExportedProgram, inputs: Sequence[TensorInput], patch_plan: PatchPlan | None) -> None:
    """Hold what tracing made of pictures at their own size to the patch plan: any size from the least on.

    Raises
    ------
    ExportError
        If height or width became numbers, or the network takes no pictures as small as that.
    """
    if patch_plan is None or not all(tuple(tensor.shape[-2:]) == OWN_SIZE for tensor in inputs):
        return
    sides = _sides(program)
    fixed = [side for side in sides if not isinstance(side, torch.SymInt)]
    if fixed:
        raise ExportError(
            f"the network was traced for a side of {fixed[0]} pixels alone: somewhere it makes a number of height or "
            "width; take x.shape[-2:] as it comes, without int(), and pool with adaptive_avg_pool2d or mean"
        )
    unit = patch_plan.multiple or 1
    declared = -(-(patch_plan.smallest or 1) // unit)
    found = max(_least(program, sides), default=0)
    if found > max(declared, _SPECIAL):
        raise ExportError(
            f"the network takes pictures of {found * unit} pixels a side and more, and its patch plan says "
            f"{patch_plan.smallest or 'any'}; declare smallest={found * unit}"
        )


def _sides(program: ExportedProgram) -> list[Any]:
    """Return heights and widths of the pictures that a program takes: numbers, or symbols where they may be any."""
    names = set(program.graph_signature.user_inputs)
    nodes = (node for node in program.graph.nodes if node.op == "placeholder" and node.name in names)
    return [side for node in nodes for side in node.meta["val"].shape[2:]]


def _least(program: ExportedProgram, sides: Sequence[torch.SymInt]) -> list[int]:
    """Return the least numbers that tracing leaves to the symbols in heights and widths."""
    ranges = program.range_constraints
    symbols = [symbol for side in sides for symbol in side.node.expr.free_symbols]
    return [int(ranges[symbol].lower) for symbol in symbols if symbol in ranges]
