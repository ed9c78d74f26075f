"""Decoding a JPEG for what the model looks at: its crops alone, or all of it at another size. One thread each."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.artefacts.opening import open_artefact
from iqa_runtime.images.loading import DEFAULT_PIXEL_LIMIT, load_image
from iqa_runtime.scoring.preparation import Preparer
from iqa_runtime.scoring.resizing import parse_resize, with_resize
from speed.turns import Contender, Work

SIDES = (1772, 3000, 4240, 6000)
"""Pixels of the longer side of photographs of 2, 6, 12 and 24 megapixels; of 3:2."""

FULL, CROPS = "all of the picture", "ours: five crops"
SHRUNK = "ours: a part of its size, then resized"
SHORTER = 512


def crop_contenders(photograph: Path) -> list[Contender]:
    """Return who gets five crops out of a photograph that is not resized."""
    return [
        _contender(FULL, "part", "full", photograph),
        _contender(CROPS, "ours", "prepare", photograph, resize="none"),
        _contender("Pillow, all of it", "rival", "pillow", photograph),
        _contender("OpenCV, all of it", "rival", "opencv", photograph),
    ]


def size_contenders(photograph: Path) -> list[Contender]:
    """Return who makes a photograph of a shorter side of 512."""
    return [
        _contender(FULL, "part", "full", photograph),
        _contender(SHRUNK, "ours", "prepare", photograph, resize=f"shorter:{SHORTER}:bicubic:draft"),
        _contender("ours: all of it, then resized", "ours", "prepare", photograph, resize=f"shorter:{SHORTER}"),
        _contender("Pillow: all of it, then resized", "rival", "pillow", photograph, shorter=SHORTER),
        _contender("Pillow: draft, then resized", "rival", "pillow", photograph, shorter=SHORTER, draft=True),
    ]


def _contender(name: str, role: Any, function: str, photograph: Path, **options: Any) -> Contender:
    options["photograph"] = str(photograph)
    return Contender(name=name, role=role, make=f"speed.decoding:{function}", options=options)


def full(options: dict[str, Any]) -> Work:
    data = Path(options["photograph"]).read_bytes()
    return Work(call=lambda: load_image(data))


def prepare(options: dict[str, Any]) -> Work:
    """Do all that comes before the model with an image of a folder."""
    data = Path(options["photograph"]).read_bytes()
    contract = with_resize(open_artefact(find_artefact("edge-nr")).contract, parse_resize(options["resize"]))
    preparer = Preparer(contract, contract.patch_plan, pixel_limit=DEFAULT_PIXEL_LIMIT)

    def call() -> None:
        prepared = preparer.prepare(data, None, crops_alone=True)
        if prepared.error is not None:
            raise prepared.error

    return _checked(call)


def pillow(options: dict[str, Any]) -> Work:
    from PIL import Image

    data = Path(options["photograph"]).read_bytes()
    shorter = options.get("shorter")

    def call() -> NDArray[np.uint8]:
        with Image.open(io.BytesIO(data)) as opened:
            scale = 1.0 if shorter is None else shorter / min(opened.size)
            width, height = (int(side * scale) for side in opened.size)
            if options.get("draft"):
                opened.draft("RGB", (width, height))
            image = opened.convert("RGB")
            return np.asarray(image if shorter is None else image.resize((width, height), Image.Resampling.BICUBIC))

    return _checked(call)


def opencv(options: dict[str, Any]) -> Work:
    import cv2

    cv2.setNumThreads(1)
    data = np.fromfile(options["photograph"], np.uint8)
    return _checked(lambda: cv2.imdecode(data, cv2.IMREAD_COLOR_RGB))


def _checked(call: Callable[[], object]) -> Work:
    """Call once, so that who fails has no row of times."""
    call()
    return Work(call=call)
