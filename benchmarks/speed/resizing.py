"""Resizing a photograph of 12 megapixels to a shorter side of 512: our kernel, and what people use instead.

One thread each. OpenCV's INTER_AREA, which weighs pixels by what the box covers of them, stands beside
the box filter. PyTorch is `torch.nn.functional.interpolate` with
antialias=True on uint8 in channels-last memory, its quickest form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime import kernels
from speed.kernel_contenders import ONE_THREAD, instruction_sets, kernel_parts, sample
from speed.packages import import_rival
from speed.photographs import PHONE_SIDE, make_pixels
from speed.turns import Contender, Work

SHORTER = 512
TOLERANCE = 1.0
"""Levels: a rival that rounds otherwise stays within one, another filter does not."""

PILLOW = "Pillow"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A filter, and the longer side of the photograph in pixels."""

    filter: str
    side: int = PHONE_SIDE

    @property
    def name(self) -> str:
        return f"{self.filter}, {self.side} pixels to a shorter side of {SHORTER}"


CASES = tuple(Case(filter=name) for name in ("box", "bilinear", "bicubic", "lanczos"))


def contenders(case: Case) -> list[Contender]:
    """Return who takes part: everyone that has the filter, and ours with each instruction set but NumPy's twin."""
    rivals = {PILLOW: "pillow"}
    if case.filter == "box":
        rivals["OpenCV, INTER_AREA"] = "opencv"
    else:
        rivals["kornia-rs"] = "kornia"
    if case.filter in ("bilinear", "bicubic"):
        rivals["PyTorch, antialias"] = "pytorch"
    options = asdict(case)
    return [
        Contender(name="ours", role="ours", make="speed.resizing:kernel", options=options),
        *kernel_parts("speed.resizing:kernel", options, instruction_sets()[1:-1]),
        *(
            Contender(
                name=name, role="rival", make=f"speed.resizing:{function}", options=options, environment=ONE_THREAD
            )
            for name, function in rivals.items()
        ),
    ]


def kernel(options: dict[str, Any]) -> Work:
    image, size = _scene(options)
    return _work(lambda: kernels.resize(image, size, options["filter"]))


def pillow(options: dict[str, Any]) -> Work:
    from PIL import Image

    image, (height, width) = _scene(options)
    opened, resampling = Image.fromarray(image), Image.Resampling[options["filter"].upper()]
    return _work(lambda: np.asarray(opened.resize((width, height), resampling)))


def opencv(options: dict[str, Any]) -> Work:
    import cv2

    cv2.setNumThreads(1)
    image, (height, width) = _scene(options)
    return _work(lambda: np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8))


def pytorch(options: dict[str, Any]) -> Work:
    import torch

    torch.set_num_threads(1)
    image, size = _scene(options)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None]  # channels last, as decoded

    def resize() -> Pixels:
        resized = torch.nn.functional.interpolate(tensor, size, mode=options["filter"], antialias=True)
        return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())

    return _work(resize)


def kornia(options: dict[str, Any]) -> Work:
    library = import_rival("kornia_rs.imgproc")
    image, size = _scene(options)
    return _work(lambda: np.asarray(library.resize(image, size, options["filter"], antialias=True)))


def _scene(options: dict[str, Any]) -> tuple[Pixels, tuple[int, int]]:
    """Return the photograph, and the height and width it shall have."""
    image = make_pixels(options["side"])
    height, width = image.shape[:2]
    shorter = min(height, width)
    return image, (height * SHORTER // shorter, width * SHORTER // shorter)


def _work(resize: Callable[[], Pixels]) -> Work:
    return Work(call=resize, check=sample(resize()))
