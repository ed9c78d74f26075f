"""Cutting and normalising crops: our kernels, what people use instead, and a plain write of the same bytes.

One thread each. In cache, image and output are the same in every call; out of cache, calls go round through so many
pairs of them that none is left in a cache when its turn comes. Of who makes its own outputs as many are kept.
"""

from __future__ import annotations

import ctypes
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime import kernels
from speed.kernel_contenders import ONE_THREAD, STORE, instruction_sets, kernel_parts, sample
from speed.packages import import_rival
from speed.turns import Contender, Work

SIDE = 224
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
TOLERANCE = 5e-3
"""Largest difference from our values that a rival may have: float16 resolves values of 2 to 4 to 2e-3, and most round
twice; in float32 they are within 1e-5."""

_COLD_BYTES = 256 * 2**20
"""Several times the last-level cache of the hosts this was written on."""
_CHECKED = 64

TUNED = "NumPy, tuned by us: channel by channel in place"

Pixels = NDArray[np.uint8]
Corners = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Image size in pixels, crops, type of the output, and whether caches are of use."""

    height: int
    width: int
    crops: int
    dtype: str = "float32"
    cold: bool = False

    @property
    def name(self) -> str:
        cache = "out of cache" if self.cold else "in cache"
        return f"{self.width} x {self.height}, {self.crops} crops, {self.dtype}, {cache}"


REFERENCE_CASE = Case(height=1000, width=1500, crops=5)
"""The one whose ratios are the goals."""

QUICK_CASES = (Case(height=512, width=512, crops=1), REFERENCE_CASE)

CASES = (
    Case(height=512, width=512, crops=1),
    REFERENCE_CASE,
    Case(height=1000, width=1500, crops=5, cold=True),
    Case(height=1000, width=1500, crops=5, dtype="float16"),
    Case(height=1000, width=1500, crops=5, dtype="float16", cold=True),
    Case(height=3000, width=4000, crops=20),
    Case(height=4000, width=6000, crops=64, cold=True),
    Case(height=4000, width=6000, crops=64, dtype="float16", cold=True),
)

LONG_CASES = (
    *CASES,
    Case(height=512, width=512, crops=1, cold=True),
    Case(height=3000, width=4000, crops=20, cold=True),
    Case(height=4000, width=6000, crops=5),
)
"""With those that say nothing new."""


def contenders(case: Case) -> list[Contender]:
    """Return who takes part in a case; in the reference case every instruction set this host has."""
    options = asdict(case)
    names = {
        "cv2.dnn.blobFromImagesWithParams": "opencv",
        "NumPy, as usually written": "numpy_usual",
        TUNED: "numpy_in_place",
        "torch, torchvision's steps imitated": "torch_operators",
        "kornia-rs, fused": "kornia",
        "NVIDIA DALI on the CPU": "dali",
    }
    found = [
        Contender(name="ours", role="ours", make="speed.patches:kernel", options=options),
        Contender(name=STORE, role="limit", make="speed.patches:store", options=options),
        Contender(name="memset (libc)", role="limit", make="speed.patches:memset", options=options),
    ]
    if case == REFERENCE_CASE:
        found += kernel_parts("speed.patches:kernel", options, instruction_sets())
    found += [
        Contender(name=name, role="rival", make=f"speed.patches:{function}", options=options, environment=ONE_THREAD)
        for name, function in names.items()
    ]
    return found


class Scene:
    """Images, positions and outputs of a case; several of them out of cache."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.case = case = Case(**options)
        self.dtype = np.dtype(case.dtype)
        random = np.random.default_rng(0)
        shape = (case.crops, 3, SIDE, SIDE)
        # Of an image only the crops are read.
        touched = int(np.prod(shape)) * (1 + self.dtype.itemsize)
        count = -(-_COLD_BYTES // touched) if case.cold else 1
        image = random.integers(0, 256, (case.height, case.width, 3), dtype=np.uint8)
        self.images = [image, *(image.copy() for _ in range(count - 1))]
        self.outs = [kernels.aligned_empty(shape, self.dtype) for _ in range(count)]
        for out in self.outs:
            # So that no call waits for the system to hand out the memory.
            out.fill(1)
        self.made: deque[NDArray[Any]] = deque(maxlen=count if case.cold else 0)
        corners = random.integers(0, (case.height - SIDE + 1, case.width - SIDE + 1), (case.crops, 2))
        self.positions: Corners = corners.astype(np.int64)

    def work(self, cut: Callable[[Pixels, NDArray[Any]], NDArray[Any]]) -> Work:
        """Return work that cuts the next image, and some of what it yields."""
        pairs = itertools.cycle(zip(self.images, self.outs, strict=True))
        checked = sample(cut(self.images[0], self.outs[0]), _CHECKED)
        return Work(call=lambda: self.made.append(cut(*next(pairs))), check=checked)

    def crops(self, image: Pixels) -> Iterator[Pixels]:
        for top, left in self.positions:
            yield image[top : top + SIDE, left : left + SIDE]


def kernel(options: dict[str, Any]) -> Work:
    scene = Scene(options)

    def cut(image: Pixels, out: NDArray[Any]) -> NDArray[Any]:
        return kernels.extract_patches(image, scene.positions, (SIDE, SIDE), MEAN, STD, dtype=scene.dtype, out=out)

    return scene.work(cut)


def store(options: dict[str, Any]) -> Work:
    outs = itertools.cycle(Scene(options).outs)
    return Work(call=lambda: next(outs).fill(1))


def memset(options: dict[str, Any]) -> Work:
    # An array's `ctypes` keeps it alive, its bare address would not.
    places = itertools.cycle([(out.ctypes, out.nbytes) for out in Scene(options).outs])

    def fill() -> None:
        place, size = next(places)
        ctypes.memset(place.data, 0, size)

    return Work(call=fill)


def opencv(options: dict[str, Any]) -> Work:
    import cv2

    cv2.setNumThreads(1)
    scene = Scene(options)
    parameters = cv2.dnn.Image2BlobParams()
    parameters.mean = tuple(255 * value for value in MEAN)
    parameters.scalefactor = tuple(1 / (255 * value) for value in STD)

    def cut(image: Pixels, _out: NDArray[Any]) -> NDArray[Any]:
        blob: NDArray[Any] = np.asarray(cv2.dnn.blobFromImagesWithParams(list(scene.crops(image)), parameters))
        return blob.astype(scene.dtype, copy=False)

    return scene.work(cut)


def numpy_usual(options: dict[str, Any]) -> Work:
    scene = Scene(options)
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)

    def cut(image: Pixels, _out: NDArray[Any]) -> NDArray[Any]:
        normalised = (np.stack(list(scene.crops(image))).astype(np.float32) / 255 - mean) / std
        return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2), dtype=scene.dtype)

    return scene.work(cut)


def numpy_in_place(options: dict[str, Any]) -> Work:
    scene = Scene(options)
    scale = (1 / (255 * np.array(STD))).astype(np.float32)
    shift = (-np.array(MEAN) / np.array(STD)).astype(np.float32)
    plane = np.empty((SIDE, SIDE), np.float32)

    def cut(image: Pixels, out: NDArray[Any]) -> NDArray[Any]:
        for patch, crop in zip(out, scene.crops(image), strict=True):
            for channel in range(3):
                np.multiply(crop[..., channel], scale[channel], out=plane)
                np.add(plane, shift[channel], out=patch[channel], casting="same_kind")
        return out

    return scene.work(cut)


def torch_operators(options: dict[str, Any]) -> Work:
    """Do as torchvision's to_tensor, crop, stack and normalize do, with the operators these call."""
    import torch

    torch.set_num_threads(1)
    scene = Scene(options)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    dtype = torch.float16 if scene.dtype == np.float16 else torch.float32

    def cut(image: Pixels, _out: NDArray[Any]) -> NDArray[Any]:
        patches = [torch.from_numpy(crop).permute(2, 0, 1).contiguous().float().div(255) for crop in scene.crops(image)]
        values: NDArray[Any] = torch.stack(patches).sub_(mean).div_(std).to(dtype).numpy()
        return values

    return scene.work(cut)


def kornia(options: dict[str, Any]) -> Work:
    """Use kornia-rs's one pass over a list of images: no resizing is left to do, crops must lie in one piece."""
    library = import_rival("kornia_rs")
    scene = Scene(options)

    def cut(image: Pixels, out: NDArray[Any]) -> NDArray[Any]:
        crops = [np.ascontiguousarray(crop) for crop in scene.crops(image)]
        made = library.pipeline.resize_normalize_to_tensor_batch(crops, (SIDE, SIDE), list(MEAN), list(STD))
        return np.stack(made, out=out, casting="same_kind")

    return scene.work(cut)


def dali(options: dict[str, Any]) -> Work:
    """Run a pipeline of one operator that crops and normalises; images come from outside without a copy."""
    library = import_rival("nvidia.dali")
    fn, types = import_rival("nvidia.dali.fn"), import_rival("nvidia.dali.types")
    scene = Scene(options)
    count = scene.case.crops
    spans = np.array([scene.case.height - SIDE, scene.case.width - SIDE], np.float32)
    places = (scene.positions / np.maximum(spans, 1)).astype(np.float32)
    pipeline = library.Pipeline(
        batch_size=count, num_threads=1, device_id=None, exec_dynamic=False, prefetch_queue_depth=1
    )
    with pipeline:
        image = fn.external_source(name="image", device="cpu", layout="HWC", no_copy=True)
        top = fn.external_source(name="top", device="cpu")
        left = fn.external_source(name="left", device="cpu")
        crops = fn.crop_mirror_normalize(
            image,
            crop=(SIDE, SIDE),
            crop_pos_y=top,
            crop_pos_x=left,
            mean=[255 * value for value in MEAN],
            std=[255 * value for value in STD],
            output_layout="CHW",
            dtype=types.FLOAT16 if scene.dtype == np.float16 else types.FLOAT,
        )
        pipeline.set_outputs(crops)
    pipeline.build()

    def cut(image: Pixels, _out: NDArray[Any]) -> NDArray[Any]:
        pipeline.feed_input("image", [image] * count)
        pipeline.feed_input("top", list(places[:, 0]))
        pipeline.feed_input("left", list(places[:, 1]))
        (made,) = pipeline.run()
        values: NDArray[Any] = made.as_array()
        return values

    return scene.work(cut)
