"""Pictures at the limits of what can be seen: where numbers overflow, cancel, or divide by next to nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iqa_calibration.images.items import Cropper
from iqa_runtime.contract import Contract
from iqa_runtime.scoring.patch_plans import example_size

_FLAT = {
    "a black picture": (0, 0, 0),
    "a white picture": (255, 255, 255),
    "a gray picture": (128, 128, 128),
    "a red picture": (255, 0, 0),
    "a green picture": (0, 255, 0),
    "a blue picture": (0, 0, 255),
}
_BRIGHT_PIXEL = "a single white pixel on black"

EXTREMES = (*_FLAT, _BRIGHT_PIXEL)
"""Names of the pictures that `extreme_items` cuts."""


def extreme_shape(contract: Contract) -> tuple[int, int, int]:
    """Return the shape of such a picture: that of a baked aligned reference, which prescribes it, or two crops wide.

    Where pictures are taken whole, it is `iqa_runtime.scoring.patch_plans.example_size`.
    """
    if contract.patch_plan.kind == "whole":
        return (*example_size(contract), 3)
    # Crops then lie inside as well as at the edge.
    side = 2 * contract.patch_plan.size
    return (*(contract.image_size or (side, side)), 3)


def extreme_items(contract: Contract) -> list[dict[str, NDArray[np.float32]]]:
    """Cut the first item of each of `EXTREMES`, compared with itself where there is a reference.

    One item tells as much as all: crops of a flat picture are alike, and the white pixel is in the middle of the first.
    """
    cropper = Cropper(contract)
    black = np.zeros(extreme_shape(contract), np.uint8)
    pictures = [np.full_like(black, color) for color in _FLAT.values()]
    subject = cropper.subject(black, black)
    top, left = subject.positions[0, 0].tolist()
    black[top + subject.item_size[0] // 2, left + subject.item_size[1] // 2] = 255
    return [cropper.item(cropper.subject(picture, picture), 0) for picture in (*pictures, black)]
