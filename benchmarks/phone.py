"""A folder of phone photographs to scores: 12 megapixels in Display P3, beside what people write today.

Each contender is a command that scores all photographs with the edge model; they take turns, after one that does not
count, and the median of their times and their largest memory are shown. The photographs are those of the package,
enlarged, with grain.

    python benchmarks/phone.py [--photographs 200] [--rounds 3] [--threads 2] [--work build/benchmarks]

`before` is iqa-run as it was without a resize in the contract. The others are those of `speed/scripts.py`: they resize
with Pillow, after decoding all of the picture, and leave colours as they are.
"""

from __future__ import annotations

import argparse
import os
import platform
import struct
import sys
import time
from pathlib import Path
from statistics import median

from patches import processor
from PIL import Image, ImageCms
from speed.commands import iqa_run, make
from speed.jobs import NETWORKS, STYLES
from speed.photographs import make_photographs

from iqa_runtime import __version__

LONG_SIDE = 4000
# Display P3's colorants as an ICC profile has them, adapted to D50: red, green, blue.
P3 = {
    b"rXYZ": (0.51512, 0.24120, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.15710, 0.06657, 0.78407),
}
OURS = "iqa-run edge"


def p3_profile() -> bytes:
    """Return littleCMS's profile of sRGB with the colorants of Display P3, whose curves are the same."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", profile, 128)
    for index in range(count):
        name, offset, _ = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        if name in P3:
            struct.pack_into(">3i", profile, offset + 8, *(round(value * 65536) for value in P3[name]))
    return bytes(profile)


def tag(photograph: Path, profile: bytes, folder: Path) -> Path:
    """Put a profile into a JPEG file, behind its start marker."""
    data = photograph.read_bytes()
    body = b"ICC_PROFILE\0\1\1" + profile
    tagged = folder / photograph.name
    tagged.write_bytes(data[:2] + b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body + data[2:])
    return tagged


def commands(photographs: list[str], threads: int) -> dict[str, list[str]]:
    ours = iqa_run("edge", *photographs, "--format", "jsonl", "--threads", str(threads))
    found = {OURS: ours, "before (--resize none)": [*ours, "--resize", "none"]}
    for style, name in STYLES.items():
        arguments = [sys.executable, "-m", "speed.scripts", style, *NETWORKS["edge-nr"], str(threads), os.devnull]
        found[name] = [*arguments, *photographs]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=200, help="how many")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every contender")
    parser.add_argument("--threads", type=int, default=2, help="of everyone")
    parser.add_argument("--work", type=Path, default=Path("build/benchmarks"), help="where photographs are kept")
    options = parser.parse_args()
    folder = options.work / "phone-p3"
    folder.mkdir(parents=True, exist_ok=True)
    profile = p3_profile()
    plain = make_photographs(options.work / "phone-plain", options.photographs, (LONG_SIDE,))
    photographs = [str(tag(photograph, profile, folder)) for photograph in plain]
    with Image.open(plain[0]) as first:
        size = f"{first.width} x {first.height}"
    print(f"{processor()}, {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}")
    print(f"iqa-deploy {__version__}, Python {platform.python_version()}, {options.threads} threads")
    print(f"{options.photographs} photographs such as {size}, Display P3, median of {options.rounds} turns")
    works = {name: make({"arguments": arguments}) for name, arguments in commands(photographs, options.threads).items()}
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(options.rounds):
        for name, work in works.items():
            began = time.perf_counter()
            work.call()
            times[name].append(time.perf_counter() - began)
    print(f"\n{'':<34}{'s':>8}{'images/s':>10}{'x ours':>8}{'MB':>8}")
    for name, work in works.items():
        seconds = median(times[name])
        assert work.peak_megabytes is not None
        rate, ratio = options.photographs / seconds, seconds / median(times[OURS])
        print(f"{name:<34}{seconds:>8.1f}{rate:>10.1f}{ratio:>8.2f}{work.peak_megabytes():>8.0f}")


if __name__ == "__main__":
    main()
