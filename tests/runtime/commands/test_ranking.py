"""iqa-run --best-of: groups and ranks in rows."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from iqa_run import gray, lines, run
from iqa_runtime.commands.resuming import read_rows
from iqa_runtime.commands.rows import Format
from iqa_runtime.measuring import measure
from video_files import gray_planes, write_video

BURSTS = {"a/x_1.png": 51, "a/x_2.png": 204, "a/x_3.png": 204, "a/y_1.png": 102, "b/x_1.png": 60, "b/plain.png": 250}
RANKS = {"a/x_1.png": 3, "a/x_2.png": 1, "a/x_3.png": 2, "a/y_1.png": 1, "b/x_1.png": 1, "b/plain.png": None}
BY = "{group}_*.png"


@pytest.fixture(autouse=True)
def bursts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BURSTS.items():
        gray(tmp_path / name, value)
    monkeypatch.chdir(tmp_path)


def ranked(rows: list[dict[str, Any]]) -> dict[str, int | None]:
    return {row["path"]: row["rank"] and int(row["rank"]) for row in rows}


@pytest.mark.parametrize("to_file", [True, False])
@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "table"])
def test_rows_of_every_format_are_ranked_in_their_groups(artefacts: Any, form: str, to_file: bool) -> None:
    output = ("--output", f"rows.{form}") if to_file else ()
    result = run(artefacts.mean(), "a", "b", "--best-of", BY, "--format", form, *output)
    assert result.exit_code == 0
    text = Path(output[1]).read_text() if to_file else result.stdout
    if form == "table":
        found = re.findall(r"^ *(\S+\.png) .* (a/x|a/y|b/x) +(\d)( best)? ", text, re.MULTILINE)
        assert {path: int(rank) for path, _, rank, _ in found} == {path: rank for path, rank in RANKS.items() if rank}
        assert {path for path, _, _, best in found if best} == {path for path, rank in RANKS.items() if rank == 1}
        return
    readers = {"json": json.loads, "jsonl": lines, "csv": lambda text: list(csv.DictReader(text.split("\n")))}
    rows = readers[form](text)
    assert ranked(rows) == {path: rank or (None if form != "csv" else "") for path, rank in RANKS.items()}
    assert {row["path"]: row["group"] for row in rows}["a/x_1.png"] == "a/x"
    assert [row["path"] for row in rows] == sorted(BURSTS)


def test_lower_may_be_better_and_errors_have_no_rank(artefacts: Any) -> None:
    Path("a/z.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    options = ("--reference", "a/x_1.png", "--best-of", "folders")
    result = run(artefacts.difference(), "a", *options)
    assert result.exit_code == 1
    rows = lines(result.stdout)
    assert ranked(rows) == {"a/x_1.png": 1, "a/x_2.png": 3, "a/x_3.png": 4, "a/y_1.png": 2, "a/z.png": None}
    assert {row["group"] for row in rows} == {"a"}


def test_without_the_option_nothing_is_ranked(artefacts: Any) -> None:
    assert {(row["group"], row["rank"]) for row in lines(run(artefacts.mean(), "a").stdout)} == {(None, None)}


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_resumed_run_ranks_all_rows_of_the_file(artefacts: Any, form: str) -> None:
    output = Path(f"rows.{form}")
    for inputs in (("a/x_1.png", "b"), ("a", "b")):
        result = run(artefacts.mean(), *inputs, "--best-of", BY, "--output", output, "--resume")
        assert result.exit_code == 0
    assert "3 already scored, 3 left" in result.stderr
    text = output.read_text()
    rows = lines(text) if form == "jsonl" else list(csv.DictReader(text.split("\n")))
    assert ranked(rows) == {path: rank or (None if form != "csv" else "") for path, rank in RANKS.items()}


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_files_with_typed_columns_are_ranked_measured_and_resumed(artefacts: Any, form: str) -> None:
    pytest.importorskip("pyarrow")
    for inputs in (("a/x_1.png", "b"), ("a", "b")):
        options = ("--best-of", BY, "--measure", "--output", f"rows.{form}", "--resume")
        result = run(artefacts.mean(), *inputs, *options)
        assert result.exit_code == 0
    assert "3 already scored, 3 left" in result.stderr
    rows = read_rows(Path(f"rows.{form}"), Format(form))
    assert len(rows) == len(BURSTS)
    assert ranked(rows) == RANKS
    for row in rows:
        assert row["measures"] == measure(row["path"]).row()


def test_a_file_grows_row_by_row_before_it_is_ranked(artefacts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a crash costs no row: here, of the ranking itself."""
    with monkeypatch.context() as patched:
        patched.setattr("iqa_runtime.commands.ranking.ranked", _crash)
        with pytest.raises(ZeroDivisionError):
            run(artefacts.mean(), "a", "b", "--best-of", BY, "--output", "rows.jsonl")
    assert ranked(lines(Path("rows.jsonl").read_text())) == dict.fromkeys(sorted(BURSTS))
    result = run(artefacts.mean(), "a", "b", "--best-of", BY, "--output", "rows.jsonl", "--resume")
    assert "6 already scored, 0 left" in result.stderr


def _crash(*_: object) -> None:
    raise ZeroDivisionError


def test_videos_are_ranked_and_their_frames_are_not(artefacts: Any) -> None:
    pytest.importorskip("av")
    write_video(Path("b/clip.mkv"), [gray_planes(191)] * 12, codec="ffv1")
    rows = lines(run(artefacts.mean(), "b", "--every", "0.4", "--best-of", "folders").stdout)
    assert ranked(rows) == {
        "b/clip.mkv#t=0.000": None,
        "b/clip.mkv#t=0.400": None,
        "b/clip.mkv": 2,
        "b/plain.png": 1,
        "b/x_1.png": 3,
    }


def test_what_is_no_pattern_is_a_usage_error(artefacts: Any) -> None:
    for by in ("folder", "", "IMG_*.jpg"):
        result = run(artefacts.mean(), "a", "--best-of", by)
        assert (result.exit_code, result.stdout, "--best-of" in result.stderr) == (2, "", True)
    assert run(artefacts.mean(), "--check", "--best-of", "folders").exit_code == 2
