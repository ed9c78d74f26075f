"""Count how many damaged files are refused, by format and kind of damage: the table of docs/images.md.

One photograph is written in every format, then damaged at seeded random places; a file counts as refused where
`load_image` raises an `ImageError`.

    python benchmarks/damage.py [--files 60]
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import PIL
import pillow_heif
import simplejpeg
from PIL import Image, features

from iqa_runtime import ImageError, __version__
from iqa_runtime.images.loading import load_image

PHOTOGRAPH = Path(__file__).parents[1] / "examples" / "photographs" / "mountains.jpg"
QUALITY = 90
BYTES = 512  # a disk sector

KINDS: dict[str, dict[str, Any]] = {
    "PNG": {"format": "PNG"},
    "WebP lossless": {"format": "WEBP", "lossless": True},
    "WebP lossy": {"format": "WEBP", "quality": QUALITY},
    "JPEG with restart markers": {"format": "JPEG", "quality": QUALITY, "restart_marker_rows": 1},
    "JPEG, baseline": {"format": "JPEG", "quality": QUALITY},
    "JPEG, progressive": {"format": "JPEG", "quality": QUALITY, "progressive": True},
    "TIFF, Deflate": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
    "TIFF, JPEG": {"format": "TIFF", "compression": "jpeg", "quality": QUALITY},
    "TIFF, LZW": {"format": "TIFF", "compression": "tiff_lzw"},
    "TIFF, PackBits": {"format": "TIFF", "compression": "packbits"},
    "TIFF, uncompressed": {"format": "TIFF"},
    "BMP": {"format": "BMP"},
    "PNM": {"format": "PPM"},
    "GIF": {"format": "GIF"},
    "AVIF": {"format": "AVIF", "quality": QUALITY},
    "HEIC": {"format": "HEIF", "quality": QUALITY},
    "JPEG XL, lossless": {"format": "JXL"},
    "JPEG XL, lossy": {"format": "JXL", "level": QUALITY},
    "JPEG 2000, lossless": {"format": "JPEG2000"},
    "JPEG 2000, lossy": {"format": "JPEG2000", "irreversible": True, "quality_layers": [10]},
}


def encoded(photograph: Image.Image, **options: Any) -> bytes:
    if options["format"] == "JXL":
        data: bytes = imagecodecs.jpegxl_encode(np.asarray(photograph), level=options.get("level"))
        return data
    buffer = io.BytesIO()
    photograph.save(buffer, **options)
    return buffer.getvalue()


def cut(data: bytes, generator: random.Random) -> bytes:
    return data[: generator.randrange(len(data) - 1)]


def removed(data: bytes, generator: random.Random) -> bytes:
    place = generator.randrange(len(data) - BYTES)
    return data[:place] + data[place + BYTES :]


def zeroed(data: bytes, generator: random.Random) -> bytes:
    place = generator.randrange(len(data) - BYTES)
    return data[:place] + bytes(BYTES) + data[place + BYTES :]


def flipped(data: bytes, generator: random.Random) -> bytes:
    place = generator.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << generator.randrange(8)]) + data[place + 1 :]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut": cut,
    f"{BYTES} bytes removed": removed,
    f"{BYTES} bytes set to zero": zeroed,
    "one bit flipped": flipped,
}


def is_refused(data: bytes) -> bool:
    try:
        load_image(data)
    except ImageError:
        return True
    return False


def measure(data: bytes, files: int) -> list[float]:
    shares = []
    for damage in DAMAGES.values():
        generator = random.Random(0)
        shares.append(sum(is_refused(damage(data, generator)) for _ in range(files)) / files)
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=60, help="damaged files of each kind")
    files = parser.parse_args().files
    pillow_heif.register_heif_opener()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # OpenCV comments on what it decodes all the same
    with Image.open(PHOTOGRAPH) as image:
        photograph = image.convert("RGB")
    print(
        f"iqa-deploy {__version__}, Python {platform.python_version()}, NumPy {np.__version__}, OpenCV "
        f"{cv2.__version__}, simplejpeg {simplejpeg.__version__}; files written by Pillow {PIL.__version__}, libtiff "
        f"{features.version('libtiff')}, libwebp {features.version('webp')}, "
        f"libavif {features.version('avif')}, OpenJPEG {features.version('jpg_2000')}, "
        f"libheif {pillow_heif.libheif_version()}, {imagecodecs.jpegxl_version()}"
    )
    print(f"{PHOTOGRAPH.name}, {photograph.width} x {photograph.height}, {files} files each\n")
    print("| file |", " | ".join(DAMAGES), "|")
    print("| --- " * (len(DAMAGES) + 1) + "|")
    for name, options in KINDS.items():
        data = encoded(photograph, **options)
        print(f"| {name} |", " | ".join(f"{share:.0%}" for share in measure(data, files)), "|", flush=True)


if __name__ == "__main__":
    main()
