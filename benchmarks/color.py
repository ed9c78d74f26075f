"""Time the colour kernel against writing the same bytes, and against littleCMS.

A photograph of 12 megapixels in Display P3 is converted to sRGB, in place, by one thread. Contenders take turns, each
over so many copies of the picture that none is left in a cache when its turn comes; medians are shown.

    python benchmarks/color.py [--rounds 7] [--profile "Display P3.icc"]
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from patches import instruction_sets, processor
from PIL import Image, ImageCms

from iqa_runtime import __version__
from iqa_runtime.color.conversion import Conversion, conversion_of
from iqa_runtime.color.tags import ColorTag

HEIGHT, WIDTH = 3000, 4000
COPIES = 8  # 288 MB, several times the last-level cache of the hosts this was written on
PHOTOGRAPH = Path(__file__).parents[1] / "examples" / "photographs" / "mountains.jpg"
P3_CICP = (12, 13, 0, 1)
STORE = "store loop (numpy.fill)"

Pixels = NDArray[np.uint8]


def kernel(name: str, conversion: Conversion) -> Callable[[Pixels], object]:
    def run(pixels: Pixels) -> object:
        os.environ["IQA_KERNELS"] = name
        return conversion.apply(pixels)

    return run


def littlecms(profile: bytes) -> Callable[[Image.Image], object]:
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        "RGB",
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    return lambda picture: ImageCms.applyTransform(picture, transform, inPlace=True)


def seconds(run: Callable[[Any], object], make: Callable[[], Any]) -> float:
    """Return what a call takes, over copies that are made anew."""
    copies = [make() for _ in range(COPIES)]
    start = time.perf_counter()
    for copy in copies:
        run(copy)
    return (time.perf_counter() - start) / COPIES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="turns of every contender")
    parser.add_argument("--profile", type=Path, help="of Display P3, for littleCMS; without one it takes no part")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    photograph = cv2.imread(str(PHOTOGRAPH), cv2.IMREAD_COLOR_RGB)
    if photograph is None:
        parser.error(f"{PHOTOGRAPH} cannot be read")
    pixels = np.asarray(cv2.resize(photograph, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)
    conversion = conversion_of(ColorTag(cicp=P3_CICP), "RGB")

    contenders: dict[str, tuple[Callable[[Any], object], Callable[[], Any]]] = {
        STORE: (lambda copy: copy.fill(1), pixels.copy),
        "read and write in place (numpy.invert)": (lambda copy: np.invert(copy, out=copy), pixels.copy),
    }
    for name in instruction_sets():
        contenders[f"kernel {name}"] = kernel(name, conversion), pixels.copy
    if options.profile:
        picture = Image.fromarray(pixels)
        contenders["rival littleCMS (Pillow, in place)"] = littlecms(options.profile.read_bytes()), picture.copy

    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, (run, make) in contenders.items():
            times[name].append(seconds(run, make))
    print(f"{processor()}, {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}")
    print(f"iqa-deploy {__version__}, Python {platform.python_version()}, numpy {np.__version__}")
    print(f"{WIDTH} x {HEIGHT}, Display P3 to sRGB, median of {options.rounds} x {COPIES}, out of cache\n")
    store = median(times[STORE])
    print(f"{'':<40}{'ms':>8}{'ns/pixel':>10}{'× store loop':>14}")
    for name, values in times.items():
        value = median(values)
        print(f"{name:<40}{value * 1e3:>8.1f}{value * 1e9 / HEIGHT / WIDTH:>10.2f}{value / store:>14.1f}")


if __name__ == "__main__":
    main()
