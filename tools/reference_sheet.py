"""Make the sheet of photographs that the bundled cvrkd-edge compares with, from their sources in the Debian archive.

    apt-get download lomiri-wallpapers-16.04      # 20.04.0-2
    dpkg -x lomiri-wallpapers-16.04_*.deb sources
    python tools/reference_sheet.py sources/usr/share/backgrounds docs/models/cvrkd-edge-references.jpg

The five crops of the artefact's plan, the corners and the middle, each show another photograph, at the size it judges
at: so a score is the mean over five references. Needs Pillow; made with 13.0, another version may round differently.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

CROP = 224
WIDTH, HEIGHT = 3 * CROP, 2 * CROP
"""Corners do not overlap, and the middle lies in a column of its own; nothing is shrunk at this size."""
JUDGED_SIDE = 512
"""Shorter side, pixels, to which photographs are shrunk."""
CORNERS = {
    "friends_by_Aitzol_Berasategi.jpg": (0, 0),
    "Picture_0B_by_freespace.jpg": (WIDTH - CROP, 0),
    "aitzgorri_by_Aitzol_Berasategi.jpg": (0, HEIGHT - CROP),
    "life_by_Aitzol_Berasategi.jpg": (WIDTH - CROP, HEIGHT - CROP),
}
"""Left and top of each."""
MIDDLE = "Picture_1A_by_freespace.jpg"


def middle_of(photograph: Path, width: int, height: int) -> Image.Image:
    """Shrink a photograph to the size judged at, and cut out its middle."""
    image = Image.open(photograph).convert("RGB")
    scale = JUDGED_SIDE / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def main(sources: Path, sheet: Path) -> None:
    """Write the sheet."""
    image = Image.new("RGB", (WIDTH, HEIGHT))
    for file, place in CORNERS.items():
        image.paste(middle_of(sources / file, CROP, CROP), place)
    image.paste(middle_of(sources / MIDDLE, CROP, HEIGHT), (CROP, 0))
    image.save(sheet, quality=95, subsampling="4:4:4")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:3]))
