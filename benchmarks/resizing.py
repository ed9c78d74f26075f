"""Time the resize kernel against what people use instead.

A photograph-sized picture to a shorter side of 512, one thread. The contenders take turns, so that a change of clock or
load meets all of them; medians are shown. What gives other pixels says by how much.

    python benchmarks/resizing.py [--rounds 15] [--height 3000] [--width 4000]

OpenCV's INTER_AREA stands beside the box filter, kornia-rs beside the bilinear one, which it applies without
antialiasing: it looks at four pixels of an output, whatever the scale. PyTorch is `torch.nn.functional.interpolate`
with antialias=True on uint8 in channels-last memory, its quickest form.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
from importlib import import_module

import cv2
import numpy as np
from numpy.typing import NDArray
from patches import Contender, instruction_sets, measure, processor
from PIL import Image
from PIL import __version__ as pillow_version

from iqa_runtime import __version__, kernels

SHORTER = 512
FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

Picture = NDArray[np.uint8]


def kernel(name: str, image: Picture, size: tuple[int, int], resampling: str) -> Callable[[], Picture]:
    def run() -> Picture:
        os.environ["IQA_KERNELS"] = name
        return kernels.resize(image, size, resampling)

    return run


def pillow(image: Picture, size: tuple[int, int], resampling: str) -> Callable[[], Picture]:
    opened = Image.fromarray(image)
    return lambda: np.asarray(opened.resize(size[::-1], FILTERS[resampling]))


def opencv(image: Picture, size: tuple[int, int]) -> Callable[[], Picture]:
    return lambda: cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)


def pytorch(image: Picture, size: tuple[int, int], resampling: str) -> Callable[[], Picture] | None:
    try:
        torch = import_module("torch")
    except ImportError:
        return None
    torch.set_num_threads(1)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None]  # channels last, as decoded

    def run() -> Picture:
        resized = torch.nn.functional.interpolate(tensor, size, mode=resampling, antialias=True)
        return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())

    return run


def kornia(image: Picture, size: tuple[int, int]) -> Callable[[], Picture] | None:
    try:
        library = import_module("kornia_rs.imgproc")
    except ImportError:
        return None
    return lambda: np.asarray(library.resize(image, size, "bilinear"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="turns of every contender")
    parser.add_argument("--height", type=int, default=3000, help="of the picture")
    parser.add_argument("--width", type=int, default=4000, help="of the picture")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    image = photograph(options.height, options.width)
    ratio = SHORTER / min(options.height, options.width)
    size = int(options.height * ratio), int(options.width * ratio)
    print(f"{processor()}, {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}")
    print(f"iqa-deploy {__version__}, Pillow {pillow_version}, cv2 {cv2.__version__}, numpy {np.__version__}")
    print(f"{options.width} x {options.height} to {size[1]} x {size[0]}, median of {options.rounds} turns")
    for resampling in FILTERS:
        expected = kernels.resize(image, size, resampling)
        contenders: dict[str, Callable[[], Picture] | None] = {
            f"kernel {name}": kernel(name, image, size, resampling) for name in instruction_sets()[:-1]
        }
        contenders["Pillow"] = pillow(image, size, resampling)
        if resampling == "box":
            contenders["OpenCV INTER_AREA"] = opencv(image, size)
        if resampling in ("bilinear", "bicubic"):
            contenders["PyTorch, antialias"] = pytorch(image, size, resampling)
        if resampling == "bilinear":
            contenders["kornia-rs"] = kornia(image, size)
        here: dict[str, Contender] = {name: run for name, run in contenders.items() if run is not None}
        times = measure(here, options.rounds)
        best = times[f"kernel {instruction_sets()[0]}"]
        print(f"\n{resampling:<24}{'ms':>8}{'× kernel':>10}  largest difference")
        for name, microseconds in times.items():
            run = contenders[name]
            assert run is not None
            difference = np.abs(run().astype(int) - expected).max()
            loses = "  faster than the kernel" if microseconds < best and not name.startswith("kernel") else ""
            print(f"{name:<24}{microseconds / 1000:>8.1f}{microseconds / best:>10.2f}{difference:>6}{loses}")


def photograph(height: int, width: int) -> Picture:
    """Make soft shapes with grain: values of all levels, neighbours alike."""
    generator = np.random.default_rng(0)
    soft = cv2.resize(
        generator.integers(0, 256, (height // 64 + 2, width // 64 + 2, 3), dtype=np.uint8), (width, height)
    )
    grain = generator.integers(-8, 9, (height, width, 3), dtype=np.int16)
    return np.clip(soft.astype(np.int16) + grain, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
