"""A folder of phone photographs to scores: 12 megapixels in Display P3, beside what people write today.

Each contender is a process of its own that scores all photographs with the edge model; they take turns, and the median
of their times and their largest memory are shown. The photographs are those of the package, enlarged, with grain.

    python benchmarks/phone.py [--photographs 200] [--rounds 3] [--threads 2] [--work build/benchmarks]

`before` is iqa-run as it was without a resize in the contract. `PyTorch script` opens with Pillow, converts colours
with littleCMS, resizes with Pillow and runs the network as written; `pyiqa's way` makes a float tensor of the whole
picture, resizes that in PyTorch with antialiasing, and leaves colours as they are.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from patches import processor
from PIL import Image, ImageCms
from speed.commands import iqa_run
from speed.photographs import make_photographs

from iqa_runtime import __version__, read_contract
from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.scoring.patch_plans import positions
from iqa_runtime.scoring.resizing import resized_size

LONG_SIDE = 4000
# Display P3's colorants as an ICC profile has them, adapted to D50: red, green, blue.
P3 = {
    b"rXYZ": (0.51512, 0.24120, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.15710, 0.06657, 0.78407),
}
STYLES = ("PyTorch script", "pyiqa's way")


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


def contenders(folder: Path, threads: int) -> dict[str, list[str]]:
    command = iqa_run("edge", str(folder), "--format", "jsonl", "--threads", str(threads))
    found = {"iqa-run edge": command, "before (--resize none)": [*command, "--resize", "none"]}
    for style in STYLES:
        found[style] = [sys.executable, __file__, "--style", style, str(folder), "--threads", str(threads)]
    return found


def run(command: list[str]) -> tuple[float, float]:
    """Return the seconds that a command takes, and the most memory it has at once, in MB."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if os.waitstatus_to_exitcode(status):
        assert process.stderr is not None
        raise SystemExit(f"{' '.join(command)}: {process.stderr.read().decode()[-400:]}")
    return seconds, usage.ru_maxrss / 1024


def score(style: str, folder: Path, threads: int) -> None:
    """Score a folder as people do in PyTorch, one photograph after the other."""
    import torch
    from speed.scripts import Script

    script = Script("script", "yoto", "edge", "nr", threads)
    system = script._system
    how = next(tensor.resize for tensor in read_contract(find_artefact("edge")).inputs)
    assert how is not None
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (system.mean, system.std))
    srgb = ImageCms.createProfile("sRGB")

    def read_script(path: Path) -> torch.Tensor:
        with Image.open(path) as opened:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(opened.info["icc_profile"]))
            picture = ImageCms.profileToProfile(opened, profile, srgb, ImageCms.Intent.RELATIVE_COLORIMETRIC)
        assert picture is not None
        height, width = resized_size(how, picture.height, picture.width)
        pixels = np.array(picture.resize((width, height), Image.Resampling.BICUBIC))
        return torch.from_numpy(pixels).permute(2, 0, 1).float().div(255)

    def read_pyiqa(path: Path) -> torch.Tensor:
        with Image.open(path) as opened:
            picture = torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1).contiguous().float().div(255)
        size = resized_size(how, *picture.shape[1:])
        return torch.nn.functional.interpolate(picture[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)

    read: Callable[[Path], torch.Tensor] = read_script if style == STYLES[0] else read_pyiqa
    side = system.crop
    with torch.inference_mode():
        for path in sorted(folder.iterdir()):
            picture = read(path)
            corners = positions(system.patch_plan, *picture.shape[1:]).tolist()
            crops = torch.stack([picture[:, top : top + side, left : left + side] for top, left in corners])
            value = float(script._network((crops - mean) / std)[0].double().mean())
            print(json.dumps({"path": str(path), "score": value}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--style", choices=STYLES, help=argparse.SUPPRESS)
    parser.add_argument("--photographs", type=int, default=200, help="how many")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every contender")
    parser.add_argument("--threads", type=int, default=2, help="of everyone")
    parser.add_argument("--work", type=Path, default=Path("build/benchmarks"), help="where photographs are kept")
    options = parser.parse_args()
    if options.style:
        score(options.style, options.folder, options.threads)
        return
    folder = options.work / f"phone-{options.photographs}"
    folder.mkdir(parents=True, exist_ok=True)
    plain = make_photographs(options.work / "phone-plain", options.photographs, (LONG_SIDE,))
    profile = p3_profile()
    for photograph in plain:
        tag(photograph, profile, folder)
    with Image.open(plain[0]) as first:
        size = f"{first.width} x {first.height}"
    print(f"{processor()}, {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}")
    print(f"iqa-deploy {__version__}, Python {platform.python_version()}, {options.threads} threads")
    print(f"{options.photographs} photographs such as {size}, Display P3, median of {options.rounds} turns\n")
    measured: dict[str, list[tuple[float, float]]] = {}
    for _ in range(options.rounds):
        for name, command in contenders(folder, options.threads).items():
            measured.setdefault(name, []).append(run(command))
    ours = median(seconds for seconds, _ in measured["iqa-run edge"])
    print(f"\n{'':<26}{'s':>8}{'images/s':>10}{'x ours':>8}{'MB':>8}")
    for name, values in measured.items():
        seconds, memory = median(value for value, _ in values), max(value for _, value in values)
        print(f"{name:<26}{seconds:>8.1f}{options.photographs / seconds:>10.1f}{seconds / ours:>8.2f}{memory:>8.0f}")


if __name__ == "__main__":
    main()
