"""Crops to check an export with: real photographs that are part of the package, noise, and what is no photograph.

Black, white and flat crops feel a constant that photographs don't: an epsilon that keeps a division from 0 / 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_calibration.photographs import packaged_photographs
from iqa_runtime.contract import Contract, PatchPlan, TensorInput
from iqa_runtime.errors import UsageError
from iqa_runtime.images.loading import DEFAULT_PIXEL_LIMIT, load_image
from iqa_runtime.scoring.crops import CropInput
from iqa_runtime.scoring.patch_plans import positions
from iqa_runtime.scoring.resizing import load_judged

NOISE_ITEMS = 2
_SEED = 20
_NOISE_LEVEL = 25.0
"""Standard deviation, in 8-bit steps, of the noise that makes a distorted copy of an aligned reference."""


def sample_photographs() -> list[NDArray[np.uint8]]:
    """Decode the photographs of the package, sorted by name: each (H, W, 3) RGB."""
    return [load_image(photograph) for photograph in packaged_photographs()]


def plain_pictures(side: int) -> list[NDArray[np.uint8]]:
    """Draw what is no photograph: black, white, gray, saturated colours, a single pixel; each (side, side, 3) RGB."""
    black = np.zeros((side, side, 3), np.uint8)
    white, gray, point = black + np.uint8(255), black + np.uint8(128), black.copy()
    point[side // 2, side // 2] = 255
    # Quarters of pure red, green, blue and yellow: channels at both ends of their range, edges between them.
    saturated, half = black.copy(), side // 2
    saturated[:half, :half, 0] = saturated[:half, half:, 1] = saturated[half:, :half, 2] = 255
    saturated[half:, half:, :2] = 255
    return [black, white, gray, saturated, point]


def plain_inputs(contract: Contract) -> dict[str, NDArray[Any]]:
    """Cut the inputs of the second part of a parity check: one item of each of `plain_pictures`.

    With a reference, each is compared with itself, then with the next one; otherwise as `sample_inputs`.
    """
    image = _image(contract)
    pictures = plain_pictures(int(image.shape[-1]))
    if contract.task == "nr":
        return {"image": _items(pictures, image)}
    others = pictures + pictures[1:] + pictures[:1]
    return {"image": _items(pictures * 2, image), "reference": _items(others, image)}


def sample_inputs(contract: Contract) -> dict[str, NDArray[Any]]:
    """Cut the inputs of a parity check, one item for each packaged photograph, then `NOISE_ITEMS` of noise.

    Parameters
    ----------
    contract
        Tells crops and normalisation. With an aligned reference (task ``fr``) the image is a noisy copy of it; with a
        non-aligned one (``nar``) the reference is the next photograph.

    Returns
    -------
    dict
        ``image`` and, for tasks with a reference, ``reference``: crops, normalised as the contract says. A graph with
        cached features takes ``reference`` through its encoder; one with a baked reference has no use for it.
    """
    image = _image(contract)

    def items(pictures: list[NDArray[np.uint8]]) -> NDArray[Any]:
        limit, space = DEFAULT_PIXEL_LIMIT, image.color_space
        judged = [load_judged(pixels, image.resize, pixel_limit=limit, color_space=space) for pixels in pictures]
        return _items([loaded.pixels for loaded in judged], image)

    random = np.random.RandomState(_SEED)
    photographs = sample_photographs()
    noise = [random.randint(0, 256, (*photographs[0].shape,)).astype(np.uint8) for _ in range(NOISE_ITEMS)]
    images = photographs + noise
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
    """Cut one image by a plan into items of a crop input, as at run time: (items, 3, h, w), or (items, P, 3, h, w).

    Raises
    ------
    UsageError
        If the crops make no whole items.
    """
    crops = CropInput.of_tensor(tensor, plan.size)
    corners = positions(plan, *pixels.shape[:2])
    count, rest = divmod(len(corners), crops.per_item)
    if rest:
        raise UsageError(
            f"the patch plan gives {len(corners)} crops, an item takes {crops.per_item}; choose a multiple"
        )
    items = crops.buffer(count)
    crops.fill(items, pixels, corners)
    return items


def _image(contract: Contract) -> TensorInput:
    image = contract.input("image")
    if image is None:
        raise ValueError("a contract without the input 'image'")
    return image


def _items(images: list[NDArray[np.uint8]], tensor: TensorInput) -> NDArray[Any]:
    """Cut one item out of each image."""
    count = int(tensor.shape[1]) if tensor.layout == "NPCHW" else 1
    plan = PatchPlan(kind="random", size=int(tensor.shape[-1]), count=count, seed=_SEED)
    return np.concatenate([crop_items(pixels, tensor, plan) for pixels in images])
