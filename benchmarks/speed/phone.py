"""A folder of phone photographs to scores: 12 megapixels in Display P3, beside what people write today.

Each contender is a command that scores all photographs with the edge model. The scripts of `speed/scripts.py` resize
with Pillow, after decoding all of the picture, and leave colours as they are.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

from speed.colors import p3_profile
from speed.commands import command, iqa_run
from speed.jobs import NETWORKS, STYLES
from speed.photographs import PHONE_SIDE, make_photographs
from speed.turns import Contender

OURS, UNRESIZED = "ours: iqa-run edge", "iqa-run edge --resize none"


def phone_photographs(folder: Path, count: int, side: int = PHONE_SIDE) -> list[Path]:
    """Write JPEG photographs with the profile of Display P3 into a folder, unless they are there."""
    profile = p3_profile()
    tagged = folder / "tagged"
    tagged.mkdir(parents=True, exist_ok=True)
    plain = make_photographs(folder / "plain", count, (side,))
    return [_tag(photograph, profile, tagged) for photograph in plain if photograph.suffix == ".jpg"]


def _tag(photograph: Path, profile: bytes, folder: Path) -> Path:
    """Put a profile into a JPEG file, behind its start marker."""
    data = photograph.read_bytes()
    body = b"ICC_PROFILE\0\1\1" + profile
    tagged = folder / photograph.name
    tagged.write_bytes(data[:2] + b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body + data[2:])
    return tagged


def contenders(photographs: list[Path], threads: int) -> list[Contender]:
    names = [str(path) for path in photographs]
    ours = iqa_run("edge", *names, "--format", "jsonl", "--threads", str(threads))
    script = [sys.executable, "-m", "speed.scripts"]
    return [
        command(OURS, "ours", ours),
        command(UNRESIZED, "part", [*ours, "--resize", "none"]),
        *(
            command(name, "rival", [*script, style, *NETWORKS["edge-nr"], str(threads), os.devnull, *names])
            for style, name in STYLES.items()
        ),
    ]
