"""Make the pictures of the documentation from the photographs of the examples: ``make pictures``.

    python tools/make_pictures.py docs/pictures

The table of a terminal, the report page and its heat map, as Chromium shows them. Needs Chromium and the extra ``dev``.
"""

from __future__ import annotations

import html
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import cv2
import numpy as np

from chromium import opened, started
from iqa_runtime.report.page import whole_page

PHOTOGRAPHS = "examples/photographs"
THRESHOLD = "0.4"
OPENED = "mountains_noise_2.jpg"
"""The one whose heat map is shown."""

QUALITY = 82
WIDTH = 1100


def score(*options: str) -> str:
    """Score the photographs, and return what the command writes."""
    command = [sys.executable, "-m", "iqa_runtime.commands.run", "edge", PHOTOGRAPHS, "--fail-under", THRESHOLD]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode != 3:  # some are worse than the threshold
        raise SystemExit(f"iqa-run ended with {done.returncode}: {done.stderr}")
    return done.stdout


def terminal(table: str) -> str:
    """Return a page with a table as a terminal shows it."""
    command = f"$ iqa-run edge {PHOTOGRAPHS} --fail-under {THRESHOLD}"
    lines = table.rstrip().splitlines()
    first = next(number for number, line in enumerate(lines) if line.split()[:1] == ["path"])
    # The heading is as long as it needs, and a terminal folds it.
    heading = textwrap.wrap(" ".join(lines[:first]), max(map(len, lines[first:])))
    style = (
        "display: inline-block; margin: 0; padding: 20px 24px; border-radius: 8px; background: #14171c; color: #e6e9ee"
    )
    text = html.escape("\n".join([command, *heading, "", *lines[first:]]))
    font = "font: 13px/1.45 'DejaVu Sans Mono', monospace"
    return whole_page("table", f'<pre style="{style}; {font}">{text}</pre>')


def save(png: bytes, path: Path) -> None:
    """Write a screenshot as WebP."""
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    cv2.imwrite(str(path), image, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])


def main(folder: Path) -> None:
    """Make all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made, started() as browser:
        table, page = Path(made, "table.html"), Path(made, "report.html")
        table.write_text(terminal(score("--format", "table", "--report", str(page))), encoding="utf-8")
        with opened(browser, table, width=WIDTH) as (shown, _):
            save(shown.locator("pre").screenshot(), folder / "table.webp")
        with opened(browser, page, width=WIDTH, height=760) as (shown, _):
            save(shown.screenshot(), folder / "report.webp")
            shown.locator("tbody tr", has_text=OPENED).click()
            shown.locator("#stage img").evaluate_all("all => Promise.all(all.map(each => each.decode()))")
            save(shown.locator("dialog").screenshot(), folder / "heatmap.webp")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
