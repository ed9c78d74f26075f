"""benchmarks/other_references.py: which images count for what, and one row a reference."""

import csv
import json
import sys
from pathlib import Path

import other_references
import pytest

from iqa_training.datasets.base import Sample

PHOTOGRAPHS = Path(__file__).parents[2] / "examples" / "photographs"
LADDER = ["stream_jpeg_1.jpg", "stream_jpeg_2.jpg", "stream_jpeg_3.jpg"]


def test_groups():
    kinds = ["jpeg", "mean_shift", "gaussian_blur", "jpeg"]
    samples = [Sample(Path("x"), None, 0.5, 0.5, "a", kind, None) for kind in kinds]
    assert other_references.groups(samples) == {
        "all": [0, 1, 2, 3],
        "common": [0, 2, 3],
        "gaussian_blur": [2],
        "jpeg": [0, 3],
        "mean_shift": [1],
    }


@pytest.mark.parametrize("given", [True, False])
def test_each_photograph_is_the_reference_of_all_images(tmp_path, monkeypatch, given):
    with (tmp_path / "mos.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["distorted", "reference", "mos", "type"])
        rows.writerows([PHOTOGRAPHS / name, "", 3 - step, "jpeg"] for step, name in enumerate(LADDER))
    folder, report = tmp_path / "references", tmp_path / "report.json"
    folder.mkdir()
    for name in ("drum.jpg", "mountains.jpg"):
        (folder / name).write_bytes((PHOTOGRAPHS / name).read_bytes())
    arguments = ["x", "cvrkd-edge-any", "--root", str(tmp_path), "--output", str(report), "--threads", "1"]
    monkeypatch.setattr(sys, "argv", [*arguments, *(["--references", str(folder)] if given else [])])
    other_references.main()
    found = json.loads(report.read_text())
    # Three qualities of one photograph, in the order of their scores.
    assert found["groups"]["all"]["srcc"] == [1.0] * (2 if given else 1)
    assert (found["groups"]["jpeg"]["n"], found["groups"]["all"]["std"]) == (3, 0.0)
    assert len(found["references_sha256"]) == (2 if given else 0)
