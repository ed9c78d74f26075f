"""Time the patch kernels against writing the same bytes, and against what people use instead.

Five 224 x 224 crops of a photograph-sized image, ImageNet's normalisation, one thread unless a row says otherwise. The
contenders take turns, so that a change of clock or load meets all of them; medians are shown. The image stays in the
processor's cache and the output array is reused.

    python benchmarks/patches.py [--rounds 40] [--height 1000] [--width 1500]
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import time
from collections.abc import Callable
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from iqa_runtime import __version__, kernels
from iqa_runtime.benchmark.host import describe_host

SIDE = 224
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
STORE = "store loop (numpy.fill)"
WARM_UP, TIMED = 5, 5  # calls of a turn; the first ones find the caches and page tables as another contender left them
TOLERANCE = 1e-5  # the rivals compute in float32, with other roundings

Contender = Callable[[], object]


def kernel(
    name: str, image: NDArray[np.uint8], positions: NDArray[np.int64], out: NDArray[np.floating], threads: int
) -> Contender:
    def run() -> None:
        os.environ["IQA_KERNELS"] = name
        kernels.extract_patches(image, positions, (SIDE, SIDE), MEAN, STD, dtype=out.dtype, out=out, threads=threads)

    return run


def opencv(image: NDArray[np.uint8], positions: NDArray[np.int64]) -> Callable[[], NDArray[np.float32]]:
    parameters = cv2.dnn.Image2BlobParams()
    parameters.mean = tuple(255 * value for value in MEAN)
    parameters.scalefactor = tuple(1 / (255 * value) for value in STD)

    def run() -> NDArray[np.float32]:
        crops = [image[top : top + SIDE, left : left + SIDE] for top, left in positions]
        return cv2.dnn.blobFromImagesWithParams(crops, parameters)  # type: ignore[return-value]

    return run


def numpy_usual(image: NDArray[np.uint8], positions: NDArray[np.int64]) -> Callable[[], NDArray[np.float32]]:
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)

    def run() -> NDArray[np.float32]:
        crops = np.stack([image[top : top + SIDE, left : left + SIDE] for top, left in positions])
        normalised = (crops.astype(np.float32) / 255 - mean) / std
        return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))

    return run


def numpy_in_place(
    image: NDArray[np.uint8], positions: NDArray[np.int64], out: NDArray[np.float32]
) -> Callable[[], NDArray[np.float32]]:
    scale = (1 / (255 * np.array(STD))).astype(np.float32)
    shift = (-np.array(MEAN) / np.array(STD)).astype(np.float32)

    def run() -> NDArray[np.float32]:
        for patch, (top, left) in zip(out, positions, strict=True):
            for c in range(3):
                np.multiply(image[top : top + SIDE, left : left + SIDE, c], scale[c], out=patch[c])
                patch[c] += shift[c]
        return out

    return run


def numpy_table(
    image: NDArray[np.uint8], positions: NDArray[np.int64], out: NDArray[np.float32]
) -> Callable[[], NDArray[np.float32]]:
    tables = [((np.arange(256) / 255 - m) / s).astype(np.float32) for m, s in zip(MEAN, STD, strict=True)]

    def run() -> NDArray[np.float32]:
        for patch, (top, left) in zip(out, positions, strict=True):
            for c in range(3):
                np.take(tables[c], image[top : top + SIDE, left : left + SIDE, c], out=patch[c], mode="clip")
        return out

    return run


def measure(contenders: dict[str, Contender], rounds: int) -> dict[str, float]:
    """Return the median microseconds of every contender; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            for turn in range(WARM_UP + TIMED):
                start = time.perf_counter()
                contender()
                if turn >= WARM_UP:
                    times[name].append((time.perf_counter() - start) * 1e6)
    return {name: median(values) for name, values in times.items()}


def instruction_sets() -> tuple[str, ...]:
    try:
        from iqa_runtime import _kernels
    except ImportError:
        return ("numpy",)
    return (*_kernels.instruction_sets(), "numpy")


def contenders_for(dtype: type, height: int, width: int) -> dict[str, Contender]:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    bottom, right = height - SIDE, width - SIDE
    positions = np.array([[0, 0], [0, right], [bottom, 0], [bottom, right], [bottom // 2, right // 2]])
    out: NDArray[np.floating] = np.empty((len(positions), 3, SIDE, SIDE), dtype)
    contenders: dict[str, Contender] = {
        STORE: lambda: out.fill(1),
        "memset (libc)": lambda: ctypes.memset(out.ctypes.data, 0, out.nbytes),
    }
    for name in instruction_sets():
        contenders[f"kernel {name}"] = kernel(name, image, positions, out, threads=1)
    best = instruction_sets()[0]
    if best != "numpy":
        contenders[f"kernel {best}, 2 threads"] = kernel(best, image, positions, out, threads=2)
    if dtype is np.float32:
        expected = kernels.extract_patches(image, positions, (SIDE, SIDE), MEAN, STD)
        rivals = {
            "rival cv2.dnn.blobFromImagesWithParams": opencv(image, positions),
            "rival numpy, as usually written": numpy_usual(image, positions),
            "rival numpy, per channel in place": numpy_in_place(image, positions, np.empty_like(expected)),
            "rival numpy, table": numpy_table(image, positions, np.empty_like(expected)),
        }
        for rival in rivals.values():
            np.testing.assert_allclose(rival(), expected, atol=TOLERANCE)
        contenders.update(rivals)
    return contenders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="turns of every contender")
    parser.add_argument("--height", type=int, default=1000, help="of the image, at least 224")
    parser.add_argument("--width", type=int, default=1500, help="of the image, at least 224")
    options = parser.parse_args()
    if min(options.height, options.width) < SIDE or options.rounds < 1:
        parser.error(f"the image's sides must be at least {SIDE}, rounds at least 1")
    cv2.setNumThreads(1)

    host = describe_host()
    print(f"{host.processor} ({host.processor_model}), {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}")
    print(
        f"iqa-deploy {__version__}, Python {platform.python_version()}, numpy {np.__version__}, cv2 {cv2.__version__}"
    )
    print(f"5 crops of {SIDE} x {SIDE} from {options.width} x {options.height}, median of {options.rounds} x {TIMED}")
    for dtype in (np.float32, np.float16):
        times = measure(contenders_for(dtype, options.height, options.width), options.rounds)
        kernel_time = times[f"kernel {instruction_sets()[0]}"]
        print(f"\n{dtype.__name__:<42}{'µs':>10}{'× store loop':>14}{'× kernel':>10}")
        for name, microseconds in times.items():
            loses = "  faster than the kernel" if microseconds < kernel_time and not name.startswith("kernel") else ""
            relative = f"{microseconds / times[STORE]:>14.2f}{microseconds / kernel_time:>10.2f}"
            print(f"{name:<42}{microseconds:>10.1f}{relative}{loses}")


if __name__ == "__main__":
    main()
