"""iqa-run --measure: measures and their reasons in rows."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from iqa_run import lines, run
from iqa_runtime.measuring import MEASURED, measure
from video_files import gray_planes, write_video


@pytest.fixture(autouse=True)
def shots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A noisy JPEG, and a small black picture, in the working folder."""
    rng = np.random.default_rng(0)
    noisy = (np.add.outer(np.arange(256), np.arange(300)) / 4 + rng.normal(60, 9, (256, 300))).astype(np.uint8)
    Image.fromarray(noisy).save(tmp_path / "noisy.jpg", quality=98)
    Image.new("RGB", (60, 40)).save(tmp_path / "black.png")
    monkeypatch.chdir(tmp_path)


REASONS = {"black.png": ["underexposed", "small"], "noisy.jpg": ["noise"]}


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "table"])
def test_rows_of_every_format_have_the_measures(artefacts: Any, form: str) -> None:
    result = run(artefacts.mean(), "*.*g", "--measure", "--format", form)
    assert result.exit_code == 0
    expected = {path: measure(path).row() for path in REASONS}
    if form == "table":
        header, *_ = (line.split() for line in result.stdout.splitlines() if "sharpness" in line)
        assert header[2:9] == ["reasons", *MEASURED]
        (found,) = (line.split() for line in result.stdout.splitlines() if "noisy.jpg" in line)
        assert found[2:6] == ["noise", *(f"{expected['noisy.jpg'][name]:.3g}" for name in MEASURED[:3])]
    elif form == "csv":
        rows = {row["path"]: row for row in csv.DictReader(result.stdout.split("\n"))}
        assert {path: row["reasons"].split(",") for path, row in rows.items()} == REASONS
        for path, row in rows.items():
            cells = {name: row[f"measures.{name}"] for name in MEASURED}
            assert cells == {name: "" if value is None else str(value) for name, value in expected[path].items()}
    else:
        found = json.loads(result.stdout) if form == "json" else lines(result.stdout)
        assert {row["path"]: row["measures"] for row in found} == expected
        assert {row["path"]: row["reasons"] for row in found} == REASONS


def test_scores_are_those_without_measures(artefacts: Any) -> None:
    with_them, without = (lines(run(artefacts.mean(), *REASONS, *option).stdout) for option in (["--measure"], []))
    assert [row["score"] for row in with_them] == [row["score"] for row in without]
    assert [(row["measures"], row["reasons"]) for row in without] == [(None, None)] * 2
    assert run(artefacts.mean(), "--info", "--measure").exit_code == 2


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_resumed_run_measures_what_was_not(artefacts: Any, form: str) -> None:
    output = Path(f"rows.{form}")
    run(artefacts.mean(), "black.png", "--output", output)
    run(artefacts.mean(), "noisy.jpg", "--output", output, "--resume", "--measure")
    result = run(artefacts.mean(), *REASONS, "--output", output, "--resume", "--measure")
    assert "1 already scored, 1 left" in result.stderr
    text = output.read_text()
    rows = lines(text) if form == "jsonl" else csv.DictReader(text.split("\n"))
    measured = {row["path"]: row["measures"] if form == "jsonl" else row["measures.underexposed"] for row in rows}
    assert list(measured) == ["noisy.jpg", "black.png"]
    assert all(measured.values())
    assert "2 already scored, 0 left" in run(artefacts.mean(), *REASONS, "--output", output, "--resume").stderr


def test_frames_are_measured_and_the_whole_has_their_mean(artefacts: Any) -> None:
    pytest.importorskip("av")
    write_video(Path("clip.mkv"), [gray_planes(luma) for luma in [16] * 10 + [128] * 10], codec="ffv1")
    *frames, whole = lines(run(artefacts.mean(), "clip.mkv", "--every", "0.4", "--measure").stdout)
    assert [row["measures"]["underexposed"] for row in (*frames, whole)] == [1.0, 0.0, 0.5]
    assert [row["reasons"][0] for row in (*frames, whole)] == ["underexposed", "small", "underexposed"]
