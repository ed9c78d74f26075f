"""Compare `load_image` with Pillow over a folder of files; print refusals and differences by kind.

    python tests/tools/sweep.py FOLDER [--list]

Pillow's picture is made by the rules of docs/images.md: turned upright, laid over white, 16 bits by their upper byte,
floats of 0 to 1. A file that Pillow reads counts as valid. Each file is read in this process, so give files one trusts.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from iqa_runtime.errors import IqaError
from iqa_runtime.images.formats import IMAGE_SUFFIXES, inspect_header
from iqa_runtime.images.loading import load_image

ROUNDING = 1  # levels: inks and chrominances are rounded differently by one decoder and the next
EXAMPLES = 3  # names printed of each kind


class UnclearError(Exception):
    """Pillow reads the file, but by no rule of ours."""


def pillow_picture(path: Path) -> tuple[str, NDArray[np.uint8]]:
    """Return the kind of a file, and its pixels as uint8 H x W x 3 RGB.

    Raises
    ------
    UnclearError
        If the samples have no range that could be 0 to 255.
    Exception
        Whatever Pillow raises on a file it cannot read.
    """
    with Image.open(path) as image:
        kind = f"{image.format} {image.mode}"
        image.load()
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        gray = np.asarray(upright).astype(np.uint16) >> 8
    elif upright.mode == "F":
        values = np.asarray(upright).astype(np.float64)
        if not ((values >= 0) & (values <= 1)).all():
            raise UnclearError("floats outside 0 to 1")
        gray = np.rint(255 * values)
    elif upright.mode == "I":
        raise UnclearError("32-bit integers")
    elif upright.has_transparency_data:
        samples = np.asarray(upright.convert("RGBA")).astype(np.float64)
        alpha = samples[..., 3:] / 255
        return kind, np.rint(samples[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    else:
        return kind, np.asarray(upright.convert("RGB"))
    return kind, np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2)


def reason(error: Exception, path: Path) -> str:
    """Return what an error says, without what differs from file to file."""
    said = str(error).replace(f"{path}: ", "").split(";")[0] if isinstance(error, IqaError) else type(error).__name__
    return re.sub(r"\d+", "N", said)[:100]


def compare(path: Path) -> tuple[str, str]:
    """Return the group of a file, and its kind in that group."""
    pillow: Exception | None = None
    kind, expected = "", np.zeros((0, 0, 3), np.uint8)
    try:
        kind, expected = pillow_picture(path)
    except Exception as error:  # Pillow raises what comes
        pillow = error
    try:
        found = load_image(path, color_space="stored")  # Pillow converts no colours
    except IqaError as error:
        if isinstance(pillow, UnclearError):
            return "refused, of no range Pillow knows", reason(error, path)
        return ("refused by both" if pillow else "refused, valid to Pillow"), f"{kind or '-'}: {reason(error, path)}"
    except Exception as error:  # a fault, whatever it is
        return "FAULT, no ImageError", f"{type(error).__name__}: {error}"
    if pillow:
        return "read, refused by Pillow", f"{inspect_header(path.read_bytes()).format}: {reason(pillow, path)}"
    if found.shape != expected.shape:
        return "of another size", f"{kind}"
    largest = int(np.abs(found.astype(int) - expected).max())
    if largest == 0:
        return "equal", kind
    return ("within rounding" if largest <= ROUNDING else "DIFFERENT"), f"{kind}: by {largest} at most"


def report(folder: Path, *, names: bool) -> str:
    """Compare all image files below a folder."""
    groups: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()):
        group, kind = compare(path)
        groups[group][kind].append(path)
    counts = {group: sum(map(len, kinds.values())) for group, kinds in groups.items()}
    lines = [f"{sum(counts.values())} files"]
    for group in sorted(counts, key=counts.__getitem__, reverse=True):
        lines.append(f"{counts[group]:6} {group}")
        for kind, paths in sorted(groups[group].items(), key=lambda entry: -len(entry[1])):
            shown = paths if names else paths[:EXAMPLES] if group != "equal" else []
            listed = ", ".join(str(path.relative_to(folder)) for path in shown)
            lines.append(f"{len(paths):12} {kind}" + (f" ({listed})" if listed else ""))
    return "\n".join([*lines, "", *shares(groups)])


def shares(groups: dict[str, dict[str, list[Path]]]) -> list[str]:
    """Tell by format how many of the files that Pillow reads are refused."""
    refused: dict[str, int] = defaultdict(int)
    valid: dict[str, int] = defaultdict(int)
    for group in ("equal", "within rounding", "DIFFERENT", "of another size", "refused, valid to Pillow"):
        for kind, paths in groups.get(group, {}).items():
            name = kind.split()[0]
            valid[name] += len(paths)
            refused[name] += len(paths) * group.startswith("refused")
    return [f"{name}: {refused[name]} of {valid[name]} valid files refused" for name in sorted(valid)]


def main() -> None:
    """Run the comparison that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--list", action="store_true", help="name every file, not some of each kind")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # Pillow's, about what it reads all the same
    print(report(arguments.folder, names=arguments.list))


if __name__ == "__main__":
    main()
