"""Patch plans: where the crops of an image lie, and how large a picture is that is taken whole.

Positions depend on the plan and the size of the image alone, so that the same file always gets the same crops. A side
shorter than the crop has one offset, ``-((size - side) // 2)``: the crop hangs over both edges alike and
`iqa_runtime.kernels` fills what lies outside by reflection.

=========== =========================================================================================================
``five``    The four corners, then the centre (top ``height // 2 - size // 2``, left alike), as YOTO's authors average
            them; when a side equals the crop, corners coincide and still count.
``grid``    Every `stride` pixels, row by row; the last row and column are moved in to the edge, so that the crops cover
            the whole image.
``random``  `count` crops, uniform over the image, from a generator whose stream NumPy has frozen.
``uniform`` `count` crops in even rows and columns from edge to edge; of all grids of so many crops the one whose shape
            is nearest to the image's (our choice).
``center``  One crop in the middle.
``whole``   No crop: the picture is the item, at the size of the input or at its own, `fitted_size`.
=========== =========================================================================================================
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.contract import Contract, PatchPlan
from iqa_runtime.errors import ArtefactError, ImageError, UsageError
from iqa_runtime.kernels import MAX_SIDE

MAX_CROPS = 1_000_000
"""Most crops of one image: what a mistyped stride or count would ask beyond this could neither be held nor awaited."""

_EXAMPLE_MORE = (64, 100)  # pixels
_MAX_SEED = 2**32 - 1
_SPELLING = re.compile(
    r"(?P<kind>five|center|grid|random|uniform)(?::(?P<first>[0-9]{1,10}))?(?::(?P<second>[0-9]{1,10}))?"
)


def check_patch_plan(plan: PatchPlan) -> PatchPlan:
    """Return `plan` if it can be followed.

    Raises
    ------
    UsageError
        If a field its kind needs is missing or out of range, or one of another kind is set.
    """
    whole = plan.kind == "whole"
    if whole != (plan.size == 0) or plan.size < 0:
        least = "is 0: it has none" if whole else "must be at least 1 pixel"
        raise UsageError(f"patch plan {plan.kind!r}: size is {plan.size}; it {least}")
    needed = {"grid": {"stride"}, "random": {"count", "seed"}, "uniform": {"count"}}.get(plan.kind, set())
    others = () if whole else ("multiple", "fit", "smallest")
    for field in ("count", "seed", "stride", *others):
        if (getattr(plan, field) is not None) != (field in needed):
            raise UsageError(f"patch plan {plan.kind!r}: {field} is {'missing' if field in needed else 'of no use'}")
    if plan.stride is not None and not 1 <= plan.stride <= plan.size:
        raise UsageError(
            f"patch plan 'grid': stride is {plan.stride}; it must be 1 to {plan.size} (the crop's side), "
            "or parts of the image would go unseen"
        )
    if plan.count is not None and not 1 <= plan.count <= MAX_CROPS:
        raise UsageError(f"patch plan {plan.kind!r}: count is {plan.count}; it must be 1 to {MAX_CROPS}")
    if plan.seed is not None and not 0 <= plan.seed <= _MAX_SEED:
        raise UsageError(f"patch plan 'random': seed is {plan.seed}; it must be 0 to {_MAX_SEED}")
    return plan


def parse_patch_plan(text: str, base: PatchPlan) -> PatchPlan:
    """Read a plan as it is written on a command line.

    Parameters
    ----------
    text
        ``five``, ``center``, ``grid`` (crops side by side), ``grid:STRIDE``, ``random:COUNT`` (seed 0),
        ``random:COUNT:SEED`` or ``uniform:COUNT``.
    base
        The plan of the contract; its crop size stays.

    Raises
    ------
    UsageError
        If the text is none of these, a number is out of range, or `base` takes pictures whole.
    """
    if base.kind == "whole":
        raise UsageError(f"``crops={text}``: pictures are taken whole here, and no crops are cut; leave it out")
    match = _SPELLING.fullmatch(text)
    kind, first, second = match.group("kind", "first", "second") if match else (None, None, None)
    size = base.size
    if kind == "five" and first is None:
        plan = PatchPlan(kind="five", size=size)
    elif kind == "center" and first is None:
        plan = PatchPlan(kind="center", size=size)
    elif kind == "grid" and second is None:
        plan = PatchPlan(kind="grid", size=size, stride=int(first or size))
    elif kind == "random" and first is not None:
        plan = PatchPlan(kind="random", size=size, count=int(first), seed=int(second or 0))
    elif kind == "uniform" and first is not None and second is None:
        plan = PatchPlan(kind="uniform", size=size, count=int(first))
    else:
        raise UsageError(
            f"``crops={text}``: no patch plan; write five, center, grid, grid:STRIDE, random:COUNT, "
            "random:COUNT:SEED or uniform:COUNT"
        )
    try:
        return check_patch_plan(plan)
    except UsageError as error:
        raise UsageError(f"``crops={text}``: {error}") from error


def choose_patch_plan(path: Path, contract: Contract, crops: str | PatchPlan | None) -> PatchPlan:
    """Return the plan that was asked for, or else the one of the artefact at `path`.

    Raises
    ------
    UsageError
        If it cannot be followed, or the crops of the artefact are fixed or of another size.
    ArtefactError
        If the artefact's own plan cannot be followed.
    """
    if crops is None:
        try:
            return check_patch_plan(contract.patch_plan)
        except UsageError as error:
            raise ArtefactError(f"{path}: contract, plan: {error}; export the model again") from error
    if contract.baked_reference is not None and contract.task == "fr":
        raise UsageError("``crops``: those of the reference inside this artefact are fixed; leave it out")
    if contract.patch_plan.kind == "whole":
        raise UsageError("``crops``: this artefact takes pictures whole and cuts no crops; leave it out")
    plan = parse_patch_plan(crops, contract.patch_plan) if isinstance(crops, str) else check_patch_plan(crops)
    if plan.size != contract.patch_plan.size:
        raise UsageError(f"``crops``: of {plan.size} pixels; this artefact takes {contract.patch_plan.size}")
    return plan


def format_patch_plan(plan: PatchPlan) -> str:
    """Write a plan the way `parse_patch_plan` reads it; the crop size is not part of it."""
    fields = {"grid": (plan.stride,), "random": (plan.count, plan.seed), "uniform": (plan.count,)}
    numbers = fields.get(plan.kind, ())
    return ":".join([plan.kind, *map(str, numbers)])


def positions(plan: PatchPlan, height: int, width: int) -> NDArray[np.int64]:
    """Return the top left corners of all crops of an image; of one that is taken whole, its own.

    Parameters
    ----------
    plan
        What crops to cut.
    height, width
        Size of the image in pixels, at least 1 each.

    Returns
    -------
    NDArray[np.int64]
        Shape (N, 2), rows of (top, left), negative where the image is smaller than a crop.

    Raises
    ------
    UsageError
        If the plan cannot be followed, the image is empty, or there would be more than `MAX_CROPS` crops.
    """
    check_patch_plan(plan)
    if height < 1 or width < 1:
        raise UsageError(f"an image of {width} x {height} pixels has no crops")
    if plan.kind == "whole":
        return np.zeros((1, 2), dtype=np.int64)
    if plan.kind == "grid" and plan.stride is not None:
        tops, lefts = (_grid_offsets(side, plan.size, plan.stride) for side in (height, width))
        if len(tops) * len(lefts) > MAX_CROPS:
            raise UsageError(
                f"crops {format_patch_plan(plan)}: an image of {width} x {height} would have "
                f"{len(tops) * len(lefts)} crops, more than {MAX_CROPS}; choose a longer stride"
            )
        return np.array([(top, left) for top in tops for left in lefts], dtype=np.int64)
    if plan.kind == "random":
        # RandomState, because NumPy promises to keep its stream for ever; that of default_rng may change.
        generator = np.random.RandomState(plan.seed)
        columns = [_random_offsets(generator, side, plan.size, plan.count or 1) for side in (height, width)]
        return np.stack(columns, axis=1)
    if plan.kind == "uniform":
        down, across = _grid_shape(plan.count or 1, height, width)
        tops, lefts = _even_offsets(height, plan.size, down), _even_offsets(width, plan.size, across)
        return np.array([(top, left) for top in tops for left in lefts], dtype=np.int64)
    (top, bottom, middle), (left, right, centre) = (_edge_offsets(side, plan.size) for side in (height, width))
    if plan.kind == "center":
        return np.array([(middle, centre)], dtype=np.int64)
    return np.array([(top, left), (top, right), (bottom, left), (bottom, right), (middle, centre)], dtype=np.int64)


def fitted_size(plan: PatchPlan, height: int, width: int) -> tuple[int, int]:
    """Return height and width of an item: of a crop or, of a picture taken whole, as the network takes it.

    Parameters
    ----------
    plan
        Where crops lie, or how pictures are fitted.
    height, width
        Of the picture at the size it is judged at, in pixels.

    Raises
    ------
    ImageError
        If a picture taken whole is too small for the network, or a side of it too long.
    """
    if plan.kind != "whole":
        return plan.size, plan.size
    multiple = plan.multiple or 1
    if plan.fit == "crop":
        fitted = height // multiple * multiple, width // multiple * multiple
    else:
        fitted = -(-height // multiple) * multiple, -(-width // multiple) * multiple
    units = -(-(plan.smallest or 1) // multiple)
    least = units * multiple if plan.fit == "crop" else (units - 1) * multiple + 1
    if min(height, width) < least:
        raise ImageError(
            f"{width} x {height} pixels: too small for this network, which takes {least} x {least} and more; give a "
            f"larger picture, or enlarge it: ``resize=shorter:{least}``"
        )
    if max(fitted) > MAX_SIDE:
        raise ImageError(f"{width} x {height} pixels: sides of up to {MAX_SIDE} pixels can be taken whole; crop it")
    return fitted


def example_size(contract: Contract) -> tuple[int, int]:
    """Return height and width of a picture to try an artefact with: more than a crop, and not square if it need not be.

    Parameters
    ----------
    contract
        Of the artefact.
    """
    plan, shape = contract.patch_plan, contract.inputs[0].shape
    if contract.image_size is not None:
        return contract.image_size
    if plan.kind != "whole":
        return plan.size + plan.size // 2, 2 * plan.size
    return own_size_example(plan) if contract.has_own_size else (int(shape[-2]), int(shape[-1]))


def own_size_example(plan: PatchPlan) -> tuple[int, int]:
    """Return height and width of a picture to try a network with that takes pictures at their own size, as fitted."""
    least = max(plan.smallest or 1, plan.multiple or 1)
    return fitted_size(plan, least + _EXAMPLE_MORE[0], least + _EXAMPLE_MORE[1])


def _overhang(side: int, size: int) -> int:
    return -((size - side) // 2)


def _edge_offsets(side: int, size: int) -> tuple[int, int, int]:
    """First, last and middle offset."""
    if side < size:
        return (_overhang(side, size),) * 3
    return 0, side - size, side // 2 - size // 2


def _grid_offsets(side: int, size: int, stride: int) -> list[int]:
    if side < size:
        return [_overhang(side, size)]
    last = side - size
    return [*range(0, last, stride), last]


def _random_offsets(generator: np.random.RandomState, side: int, size: int, count: int) -> NDArray[np.int64]:
    if side < size:
        return np.full(count, _overhang(side, size), dtype=np.int64)
    return generator.randint(0, side - size + 1, size=count, dtype=np.int64)


def _grid_shape(count: int, height: int, width: int) -> tuple[int, int]:
    """Divide a number into rows and columns, in the ratio nearest to that of height and width."""
    divisors = [rows for rows in range(1, math.isqrt(count) + 1) if count % rows == 0]
    shapes = [(rows, count // rows) for rows in divisors] + [(count // rows, rows) for rows in divisors]
    return min(shapes, key=lambda shape: abs(math.log(shape[0] * width / (shape[1] * height))))


def _even_offsets(side: int, size: int, count: int) -> list[int]:
    if side < size or count == 1:
        return [_overhang(side, size) if side < size else (side - size) // 2] * count
    return [index * (side - size) // (count - 1) for index in range(count)]
