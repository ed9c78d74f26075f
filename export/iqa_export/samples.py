"""Items to check an export with: real photographs that are part of the package, noise, and what is no photograph.

Black, white and flat items feel a constant that photographs don't: an epsilon that keeps a division from 0 / 0. Whole
pictures that come at their own size have several, odd ones among them, the least one too where it is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_calibration.photographs import packaged_photographs, repeated
from iqa_runtime.contract import OWN_SIZE, Contract, PatchPlan, TensorInput
from iqa_runtime.errors import UsageError
from iqa_runtime.images.loading import DEFAULT_PIXEL_LIMIT, load_image
from iqa_runtime.scoring.crops import CropInput
from iqa_runtime.scoring.patch_plans import fitted_size, own_size_example, positions
from iqa_runtime.scoring.resizing import load_judged

NOISE_ITEMS = 2
_SEED = 20
_SMALL_SIDE = 32
"""Of the smallest picture at its own size, in pixels, where the patch plan has no least one."""
_MORE = ((0, 0), (37, 64), (64, 101), (101, 149), (150, 6), (96, 95))
"""By so many pixels the heights and widths of pictures at their own size exceed the least."""
_NOISE_LEVEL = 25.0
"""Standard deviation, in 8-bit steps, of the noise that makes a distorted copy of an aligned reference."""


Items = NDArray[Any] | list[NDArray[Any]]
"""Several items: an array whose first axis is theirs, or where they differ in shape a list."""


def sample_photographs() -> list[NDArray[np.uint8]]:
    """Decode the photographs of the package, sorted by name: each (H, W, 3) RGB."""
    return [load_image(photograph) for photograph in packaged_photographs()]


def plain_pictures(height: int, width: int) -> list[NDArray[np.uint8]]:
    """Draw what is no photograph: black, white, gray, saturated colours, a single pixel; each (H, W, 3) RGB."""
    black = np.zeros((height, width, 3), np.uint8)
    white, gray, point = black + np.uint8(255), black + np.uint8(128), black.copy()
    middle, centre = height // 2, width // 2
    point[middle, centre] = 255
    # Quarters of pure red, green, blue and yellow: channels at both ends of their range, edges between them.
    saturated = black.copy()
    saturated[:middle, :centre, 0] = saturated[:middle, centre:, 1] = saturated[middle:, :centre, 2] = 255
    saturated[middle:, centre:, :2] = 255
    return [black, white, gray, saturated, point]


def plain_inputs(contract: Contract) -> dict[str, Items]:
    """Make the inputs of the second part of a parity check: one item of each of `plain_pictures`.

    With a reference, each is compared with itself, then with the next one; otherwise as `sample_inputs`.
    """
    image = _image(contract)
    plan = contract.patch_plan
    own_size = image.shape[-2:] == OWN_SIZE
    height, width = own_size_example(plan) if own_size else (int(image.shape[-2]), int(image.shape[-1]))
    pictures = plain_pictures(height, width)
    if contract.task == "nr":
        return {"image": _items(pictures, image, plan)}
    others = pictures + pictures[1:] + pictures[:1]
    return {"image": _items(pictures * 2, image, plan), "reference": _items(others, image, plan)}


def sample_inputs(contract: Contract) -> dict[str, Items]:
    """Make the inputs of a parity check, one item for each packaged photograph, then `NOISE_ITEMS` of noise.

    Parameters
    ----------
    contract
        Tells crops and normalisation. With an aligned reference (task ``fr``) the image is a noisy copy of it; with a
        non-aligned one (``nar``) the reference is the next photograph.

    Returns
    -------
    dict
        ``image`` and, for tasks with a reference, ``reference``: items, normalised as the contract says, as one array
        or, where they differ in size, a list. A graph with cached features takes ``reference`` through its encoder; one
        with a baked reference has no use for it.
    """
    image = _image(contract)

    def items(pictures: list[NDArray[np.uint8]]) -> Items:
        limit, space = DEFAULT_PIXEL_LIMIT, image.color_space
        judged = [load_judged(pixels, image.resize, pixel_limit=limit, color_space=space) for pixels in pictures]
        return _items([loaded.pixels for loaded in judged], image, contract.patch_plan)

    random = np.random.RandomState(_SEED)
    photographs = sample_photographs()
    noise = [random.randint(0, 256, (*photographs[0].shape,)).astype(np.uint8) for _ in range(NOISE_ITEMS)]
    images = photographs + noise
    if image.shape[-2:] == OWN_SIZE:
        least = contract.patch_plan.smallest or max(_SMALL_SIDE, contract.patch_plan.multiple or 1)
        sizes = [(least + down, least + across) for down, across in _MORE]
        images = [repeated(pixels, *sizes[index % len(sizes)]) for index, pixels in enumerate(images)]
    if contract.task == "nr":
        return {"image": items(images)}
    if contract.task == "nar":
        return {"image": items(images), "reference": items(images[1:] + images[:1])}
    distorted = [
        np.clip(pixels + _NOISE_LEVEL * random.standard_normal(pixels.shape), 0, 255).astype(np.uint8)
        for pixels in images
    ]
    return {"image": items(distorted), "reference": items(images)}


def crop_items(pixels: NDArray[np.uint8], tensor: TensorInput, plan: PatchPlan) -> NDArray[Any]:
    """Make one image items of an input by a plan, as at run time: (items, 3, h, w), or (items, P, 3, h, w).

    Raises
    ------
    UsageError
        If the crops make no whole items.
    """
    crops = CropInput.of_tensor(tensor, plan)
    corners = positions(plan, *pixels.shape[:2])
    count, rest = divmod(len(corners), crops.per_item)
    if rest:
        raise UsageError(
            f"the patch plan gives {len(corners)} crops, an item takes {crops.per_item}; choose a multiple"
        )
    items = crops.buffer(count, fitted_size(plan, *pixels.shape[:2]))
    crops.fill(items, pixels, corners)
    return items


def _image(contract: Contract) -> TensorInput:
    image = contract.input("image")
    if image is None:
        raise ValueError("a contract without the input 'image'")
    return image


def _items(images: list[NDArray[np.uint8]], tensor: TensorInput, plan: PatchPlan) -> Items:
    """Make one item of each image: a crop at random, or all of it where the plan takes pictures whole."""
    if plan.kind != "whole":
        count = int(tensor.shape[1]) if tensor.layout == "NPCHW" else 1
        plan = PatchPlan(kind="random", size=int(tensor.shape[-1]), count=count, seed=_SEED)
    return together([crop_items(pixels, tensor, plan)[0] for pixels in images])


def together(items: Sequence[NDArray[Any]]) -> Items:
    """Return items as one array where all have one shape, else as a list."""
    return np.stack(items) if len({item.shape for item in items}) == 1 else list(items)
