"""Videos on the command line: rows of frames and of the whole."""

import csv
import io
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars
import pytest

from command_line import invoke
from iqa_runtime import Scorer
from iqa_runtime.commands import clips
from iqa_runtime.commands.rows import CLIP_KEYS, KEYS, columns
from iqa_runtime.commands.run import main
from iqa_runtime.video import ClipFrame, read_frames
from video_files import gray_planes, moving_planes, write_video

TOLERANCE = 0.002
"""Of a mean brightness of 0 to 1: half a level of the RGB that a luma becomes."""

LUMAS = [40 + 6 * k for k in range(30)]


def brightness(luma: float) -> float:
    return (luma - 16) / 219


def run(*arguments: Any, **options: Any) -> Any:
    return invoke(main, *arguments, **options)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.split("\n")[:-1]]


@pytest.fixture
def shots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A video that gets brighter, at 25 frames a second, between two images; they lie in the working folder."""
    folder = tmp_path / "shots"
    folder.mkdir()
    for name, value in (("a.png", 51), ("z.png", 204)):
        cv2.imwrite(str(folder / name), np.full((48, 64, 3), value, np.uint8))
    write_video(folder / "clip.mkv", [gray_planes(luma) for luma in LUMAS], codec="ffv1")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.usefixtures("shots")
def test_a_video_gives_a_row_a_frame_and_one_for_the_whole(artefacts: Any) -> None:
    result = run(artefacts.mean(), "shots", "--every", 0.4, "--format", "jsonl")
    assert result.exit_code == 0
    rows = lines(result.stdout)
    assert [row["path"] for row in rows] == [
        "shots/a.png",
        *(f"shots/clip.mkv#t={time}" for time in ("0.000", "0.400", "0.800")),
        "shots/clip.mkv",
        "shots/z.png",
    ]
    frames = [brightness(LUMAS[k]) for k in (0, 10, 20)]
    scores = [0.2, *frames, sum(frames) / 3, 0.8]
    assert [row["score"] for row in rows] == pytest.approx(scores, abs=TOLERANCE)
    clip = rows[4]
    # The 5th percentile of three numbers lies a tenth of the way from the least to the next.
    given = [row["score"] for row in rows[1:4]]
    assert clip["score"] == pytest.approx(sum(given) / 3)
    assert clip["p05"] == pytest.approx(0.9 * given[0] + 0.1 * given[1])
    assert [row["p05"] for row in rows if row is not clip] == [None] * 5
    assert (clip["width"], clip["height"], clip["color"], clip["patches"]) == (64, 48, "sRGB", 15)
    assert clip["artefact"] == f"{rows[0]['artefact']}:every:0.4"
    assert "5 images and frames, 0 failed; 1 video, 0 failed" in result.stderr


def test_videos_of_a_table_are_called_as_it_has_them(artefacts: Any, shots: Path) -> None:
    (shots / "t.csv").write_text("id,file\n1,clip.mkv\n2,a.png\n")
    columns = ("--from", "shots/t.csv", "--column", "file", "--id-column", "id")
    rows = lines(run(artefacts.mean(), *columns, "--every", 0.4, "--format", "jsonl").stdout)
    assert [row["path"] for row in rows] == ["1#t=0.000", "1#t=0.400", "1#t=0.800", "1", "2"]
    compared = ("--reference-column", "file", "--every", 0.4, "--output", "rows.parquet")
    assert run(artefacts.difference(), *columns, *compared).exit_code == 0
    by_polars = polars.read_parquet("rows.parquet")
    assert by_polars["path"].to_list() == [row["path"] for row in rows]
    assert by_polars["p05"].to_list() == [None, None, None, 0.0, None]


@pytest.mark.usefixtures("shots")
def test_every_format_has_the_same_rows(artefacts: Any) -> None:
    texts = {
        form: run(artefacts.mean(), "shots", "--every", 0.4, "--format", form).stdout
        for form in ("json", "jsonl", "csv", "table")
    }
    rows = json.loads(texts["json"])
    in_csv = list(csv.DictReader(io.StringIO(texts["csv"], newline="")))
    assert all(tuple(row) == CLIP_KEYS for row in [*rows, *lines(texts["jsonl"])])
    assert all(tuple(row) == columns(CLIP_KEYS) for row in in_csv)
    for key in ("path", "score", "p05"):
        as_text = ["" if row[key] is None else str(row[key]) for row in rows]
        assert [row[key] for row in in_csv] == as_text
        assert [row[key] for row in lines(texts["jsonl"])] == [row[key] for row in rows]
    table = texts["table"].split("\n")
    assert any({"path", "score", "p05"} <= set(line.split()) for line in table)
    (whole,) = (line.split() for line in table if line.split()[:1] == ["shots/clip.mkv"])
    assert whole[1:3] == [f"{rows[4]['score']:.4f}", f"{rows[4]['p05']:.4f}"]


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize(("gain", "counts"), [(1.2, [0, 0, 3, 0]), (1.4, [0, 3, 3, 3])])
def test_reasons_of_the_whole_are_of_the_mean_over_the_frames(artefacts: Any, gain: float, counts: list[int]) -> None:
    """Gains of 1.2 and 1.4 of frames of 0.11, 0.38 and 0.66, whose mean is 0.385: on both sides of a half."""
    model = artefacts.naming(gain=gain)
    rows = lines(run(model, "shots/clip.mkv", "--every", 0.4, "--format", "jsonl").stdout)
    assert [len(row["reasons"]) for row in rows] == counts
    assert {name for row in rows for name in row["reasons"]} == {"red", "green", "blue"}


@pytest.mark.usefixtures("shots")
def test_frames_have_the_scores_of_their_pixels(artefacts: Any, tmp_path: Path) -> None:
    path = write_video(tmp_path / "moving.mp4", moving_planes(12))
    rows = lines(run(artefacts.mean(), path, "--every", 0.2, "--threads", 2, "--format", "jsonl").stdout)
    with Scorer(artefacts.mean(), threads=1) as scorer:
        alone = [scorer.score(frame.pixels).value for frame in read_frames(path, every=0.2)]
    assert len(alone) == 3
    assert [row["score"] for row in rows[:-1]] == alone


@pytest.mark.usefixtures("shots")
def test_without_every_folders_pass_videos_over_and_a_named_one_fails(artefacts: Any) -> None:
    rows = lines(run(artefacts.mean(), "shots", "--format", "jsonl").stdout)
    assert [row["path"] for row in rows] == ["shots/a.png", "shots/z.png"]
    assert all(tuple(row) == KEYS for row in rows)
    result = run(artefacts.mean(), "shots/clip.mkv", "--format", "jsonl")
    assert result.exit_code == 1
    assert lines(result.stdout)[0]["error"].endswith(
        "a Matroska or WebM video; a score is of one image: score its frames (--every 1)"
    )


def test_videos_that_are_not_read_are_rows_in_a_folder(artefacts: Any, shots: Path) -> None:
    (shots / "old.avi").write_bytes(b"RIFF\x00\x10\x00\x00AVI LIST")
    result = run(artefacts.mean(), "shots", "--every", 10, "--format", "jsonl")
    errors = {row["path"]: row["error"] for row in lines(result.stdout) if row["error"]}
    assert result.exit_code == 1
    assert list(errors) == ["shots/old.avi"]
    assert "an AVI video" in errors["shots/old.avi"]


def test_a_damaged_video_has_no_score_and_costs_no_other_its_own(artefacts: Any, shots: Path) -> None:
    (shots / "clip.mkv").unlink()
    clip = write_video(shots / "clip.mp4", moving_planes(40), options={"g": "10"}, movflags="faststart")
    clean = clip.read_bytes()
    frames = run(artefacts.mean(), clip, "--every", 0.2, "--format", "jsonl").stdout
    clip.write_bytes(clean[: len(clean) // 2])
    cut = lines(run(artefacts.mean(), "shots", "--every", 0.2, "--format", "jsonl").stdout)
    assert [(row["path"], row["score"] is None) for row in cut] == [
        ("shots/a.png", False),
        ("shots/clip.mp4", True),
        ("shots/z.png", False),
    ]
    assert "truncated" in cut[1]["error"]
    place = (clean.index(b"mdat") + 3 * len(clean)) // 4
    clip.write_bytes(clean[:place] + bytes(200) + clean[place + 200 :])
    result = run(artefacts.mean(), "shots", "--every", 0.2, "--format", "jsonl")
    damaged = lines(result.stdout)
    assert result.exit_code == 1
    (whole,) = (row for row in damaged if row["path"] == "shots/clip.mp4")
    assert (whole["score"], whole["p05"], whole["patches"]) == (None, None, 0)
    before = {row["path"]: row["score"] for row in damaged if row["path"].startswith("shots/clip.mp4#")}
    known = {f"shots/clip.mp4#{row['path'].rpartition('#')[2]}": row["score"] for row in lines(frames)}
    assert before
    assert before.items() <= known.items()
    assert f"frames up to {list(before)[-1]} stand" in whole["error"]
    assert "1 video, 1 failed" in result.stderr


def test_a_frame_without_a_score_leaves_the_video_without_one(artefacts: Any, shots: Path) -> None:
    # The score is not a number where the mean is below 1/2.
    rows = lines(run(artefacts.unsound(), shots / "clip.mkv", "--every", 0.4, "--format", "jsonl").stdout)
    assert [row["score"] is None for row in rows] == [True, True, False, True]
    assert "2 of 3 frames failed: output 'score' of crop 1 is not finite" in rows[-1]["error"]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
@pytest.mark.usefixtures("shots")
def test_resume_takes_a_video_up_from_its_beginning(artefacts: Any, name: str) -> None:
    model = artefacts.mean()
    run(model, "shots", "--every", 0.4, "--output", name)
    whole = Path(name).read_text()
    again = run(model, "shots", "--every", 0.4, "--output", name, "--resume")
    assert (again.exit_code, Path(name).read_text()) == (0, whole)
    assert "3 already scored, 0 left" in again.stderr
    # As a crash leaves it: after the second frame.
    Path(name).write_text("".join(whole.splitlines(keepends=True)[:-3]))
    again = run(model, "shots", "--every", 0.4, "--output", name, "--resume")
    assert again.exit_code == 0
    assert "1 already scored, 2 left" in again.stderr

    def scores(text: str) -> list[list[str]]:
        rows = lines(text) if name.endswith("jsonl") else list(csv.DictReader(io.StringIO(text)))
        return [[row[key] for key in ("path", "score", "p05", "error")] for row in rows]

    assert scores(Path(name).read_text()) == scores(whole)
    other = run(model, "shots", "--every", 0.2, "--output", name, "--resume")
    assert other.exit_code == 2
    assert "of frames at other distances" in other.stderr
    without = run(model, "shots", "--output", name, "--resume")
    assert without.exit_code == 2


@pytest.mark.usefixtures("shots")
def test_a_reference_is_compared_frame_by_frame(artefacts: Any, tmp_path: Path) -> None:
    write_video(tmp_path / "clean.mkv", [gray_planes(luma + 22) for luma in LUMAS], codec="ffv1")
    rows = lines(
        run(
            artefacts.difference(), "shots/clip.mkv", "--reference", "clean.mkv", "--every", 0.4, "--format", "jsonl"
        ).stdout
    )
    assert len(rows) == 4
    assert [row["score"] for row in rows] == pytest.approx([22 / 219] * 4, abs=2 * TOLERANCE)
    write_video(tmp_path / "short.mkv", [gray_planes(luma) for luma in LUMAS[:15]], codec="ffv1")
    for image, reference, said in (
        ("shots/clip.mkv", "short.mkv", r"frame at 0.800 s has none in its reference short.mkv, which ends before"),
        ("short.mkv", "shots/clip.mkv", "ends before its reference"),
        ("shots/clip.mkv", "shots/a.png", "shots/a.png: this is an image"),
    ):
        result = run(artefacts.difference(), image, "--reference", reference, "--every", 0.4, "--format", "jsonl")
        assert result.exit_code == 1
        last = lines(result.stdout)[-1]
        assert (last["path"], last["score"]) == (image, None)
        assert said in last["error"]


@pytest.mark.usefixtures("shots")
def test_images_and_videos_pair_with_a_folder(artefacts: Any) -> None:
    result = run(artefacts.difference(), "shots", "--reference", "shots", "--every", 0.4, "--format", "jsonl")
    rows = lines(result.stdout)
    assert [row["score"] for row in rows] == [0.0] * 6


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize("option", ["--maps", "--restored"])
def test_pictures_beside_frames_are_refused(artefacts: Any, option: str) -> None:
    result = run(artefacts.mapped(), "shots", "--every", 1, option, "pictures")
    assert result.exit_code == 2
    assert "leave --maps and --restored out" in result.stderr
    assert not Path("pictures").exists()


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize("every", ["0", "-1", "nan", "1e-9"])
def test_a_distance_out_of_range_is_a_usage_error(artefacts: Any, every: str) -> None:
    result = run(artefacts.mean(), "shots", "--every", every)
    assert result.exit_code == 2
    assert "--every" in result.stderr


@pytest.mark.usefixtures("shots")
def test_without_pyav_the_row_names_the_extra(artefacts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    rows = lines(run(artefacts.mean(), "shots", "--every", 1, "--format", "jsonl").stdout)
    assert [row["error"] is None for row in rows] == [True, False, True]
    assert 'pip install "iqa-deploy[video]"' in rows[1]["error"]


def test_a_frame_that_does_not_come_in_time_ends_its_video_alone(
    artefacts: Any, shots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def stands_still(path: str, **settings: Any) -> Iterator[ClipFrame]:
        yield next(read_frames(path, **settings))
        released.wait()

    monkeypatch.setattr(clips, "read_frames", stands_still)
    images = [str(path) for path in sorted(shots.iterdir())]
    try:
        with Scorer(artefacts.mean(), timeout=60.0) as scorer:
            scored = list(
                clips.ClipScorer(scorer, every=0.4, pixel_limit=10**6, timeout=0.5).score(
                    [(image, None) for image in images], compared=False
                )
            )
    finally:
        released.set()
    assert [entry.result.value is None for entry in scored] == [False, False, True, False]
    assert "its next frame is not ready within its time limit of 0.5 s" in str(scored[2].result.error)
