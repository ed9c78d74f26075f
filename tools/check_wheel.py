"""Test a wheel where it is installed, alone: ``python tools/check_wheel.py [--rows] PICTURE``.

What is imported is the installed package, whole as the wheel recorded it; kernels are compiled and have the bits of
their NumPy twins; the bundled model passes ``iqa-run --check`` and scores the picture. With ``--rows`` the rows of JPEG
files have to be decoded alone, too.
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import subprocess
import sys
import sysconfig
from hashlib import sha256
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from iqa_runtime import kernels

ABSENT = ("torch", "onnx", "scipy")


def check_place() -> None:
    """Fail where another copy is imported, or what a runtime must not bring."""
    site = Path(sysconfig.get_path("platlib")).resolve()
    if not Path(kernels.__file__).resolve().is_relative_to(site):
        sys.exit(f"{kernels.__file__}: not in {site}; run this from another folder and without PYTHONPATH")
    found = [name for name in ABSENT if find_spec(name)]
    if found:
        sys.exit(f"installed beside the runtime: {', '.join(found)}")


def check_files() -> None:
    """Fail where a file is missing, or is another one than the wheel recorded."""
    for file in metadata.files("iqa-deploy") or ():
        if file.hash is None:
            continue
        digest = sha256(Path(str(file.locate())).read_bytes()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            sys.exit(f"{file}: not as it was recorded")


def compute() -> list[bytes]:
    """Return what the chosen kernels make of noise."""
    noise = np.random.default_rng(7)
    curves = np.stack([np.linspace(0, 1, 256) ** power for power in (2.2, 1.8, 1.0)])
    tables = kernels.color_tables(curves, np.array([[1.2, -0.2, 0.0], [-0.05, 1.05, 0.0], [-0.02, -0.08, 1.1]]))
    found = []
    for height, width in ((1, 1), (7, 33), (64, 65), (129, 250)):
        image = noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
        positions = noise.integers(-40, 200, (5, 2))
        for dtype in (np.float32, np.float16):
            crops = kernels.extract_patches(
                image, positions, (31, 37), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), dtype=dtype, threads=2
            )
            found.append(crops.tobytes())
        found += [kernels.resize(image, size, "lanczos").tobytes() for size in ((5, 300), (200, 9))]
        kernels.to_srgb(image, tables)
        found.append(image.tobytes())
    return found


def check_kernels() -> None:
    """Fail where the twin would run, or a compiled kernel has other bits."""
    if kernels.instruction_set() == "numpy":
        sys.exit("the kernels are not compiled")
    from iqa_runtime import _kernels

    os.environ["IQA_KERNELS"] = "numpy"
    expected = compute()
    for name in _kernels.instruction_sets():
        os.environ["IQA_KERNELS"] = name
        if compute() != expected:
            sys.exit(f"{name}: other bits than the twin's")
        print(f"kernels: {name} has the twin's bits")
    del os.environ["IQA_KERNELS"]


def check_command(*arguments: str) -> None:
    """Fail where ``iqa-run`` does."""
    command = shutil.which("iqa-run", path=sysconfig.get_path("scripts"))
    if command is None:
        sys.exit("iqa-run is not installed")
    print("iqa-run", *arguments, flush=True)
    subprocess.run([command, *arguments], check=True)


def main() -> None:
    """Run every check."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", action="store_true")
    parser.add_argument("picture")
    given = parser.parse_args()
    check_place()
    check_files()
    check_kernels()
    if given.rows:
        from iqa_runtime import _jpeg_bands

        print(f"JPEG rows: libjpeg-turbo {_jpeg_bands.LIBJPEG_TURBO}")
    check_command("edge", "--check")
    check_command("edge", given.picture)


if __name__ == "__main__":
    main()
