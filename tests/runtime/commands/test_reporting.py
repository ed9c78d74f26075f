"""``iqa-run --report``: the page beside the rows, what becomes of it when a run fails or is ended."""

import os
import signal
from pathlib import Path

import cv2
import pytest

from iqa_run import GREYS, gray, lines, run
from iqa_runtime.commands import reporting
from iqa_runtime.files.locking import locked
from report_pages import read_page, rows_of

SHOTS = [f"shots/{name}" for name in sorted(GREYS)]


@pytest.mark.usefixtures("shots")
def test_page_has_the_rows_of_the_output_and_a_picture_of_each(artefacts):
    gray(Path("shots/broken.png"), 5).write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    result = run(artefacts.mean(), "shots", "--output", "rows.jsonl", "--report", "page.html", "--fail-under", "0.3")
    data, _ = read_page(Path("page.html"))
    assert result.exit_code == 1
    assert [item["row"] for item in data["items"]] == lines(Path("rows.jsonl").read_text())
    assert [item["row"]["path"] for item in data["items"] if "thumbnail" not in item] == ["shots/broken.png"]
    assert data["end"]["interrupted"] is False
    assert "1 failed" in data["end"]["summary"]
    assert data["about"]["contract"]["model"]
    assert {path.name for path in Path().iterdir()} == {"artefacts", "shots", "rows.jsonl", "page.html"}


def test_scores_keep_their_bits_and_the_threshold_its_exit_code(artefacts, shots, noise, save_png):
    save_png(shots / "noise.png", noise(300, 400))
    without = run(artefacts.mapped(), "shots", "--fail-under", "0.3")
    with_page = run(artefacts.mapped(), "shots", "--fail-under", "0.3", "--report", "page.html")
    assert (without.exit_code, with_page.exit_code) == (3, 3)
    assert [row["score"] for row in lines(with_page.stdout)] == [row["score"] for row in lines(without.stdout)]
    assert all("heat map" in item["beside"] for item in read_page(Path("page.html"))[0]["items"])


@pytest.mark.usefixtures("shots")
def test_references_and_restored_pictures_lie_beside(artefacts):
    run(artefacts.difference(), "shots", "--reference", "shots/a.png", "--report", "page.html")
    first, *others = (item["beside"]["reference"]["picture"] for item in read_page(Path("page.html"))[0]["items"])
    assert first.startswith("data:image/")
    assert others == [0, 0]
    assert run(artefacts.restoring(), "shots", "--restored", "restored", "--report", "page.html").exit_code == 0
    assert all("restored" in item["beside"] for item in read_page(Path("page.html"))[0]["items"])


@pytest.mark.usefixtures("shots")
def test_resumed_rows_are_on_the_page_with_their_pictures(artefacts):
    model = artefacts.mean()
    run(model, SHOTS[0], "--output", "rows.csv")
    Path(SHOTS[0]).with_name("gone.png").write_bytes(Path(SHOTS[0]).read_bytes())
    run(model, "shots/gone.png", SHOTS[0], "--output", "rows.csv", "--resume")
    Path("shots/gone.png").unlink()
    result = run(model, "shots/gone.png", "shots", "--output", "rows.csv", "--resume", "--report", "page.html")
    assert result.exit_code == 0
    items = read_page(Path("page.html"))[0]["items"]
    assert sorted(item["row"]["path"] for item in items) == sorted([*SHOTS, "shots/gone.png"])
    assert [item["row"]["path"] for item in items if "thumbnail" not in item] == ["shots/gone.png"]


@pytest.mark.usefixtures("shots")
def test_run_that_fails_before_its_first_row_leaves_the_earlier_page(artefacts):
    Path("page.html").write_text("earlier")
    assert run(artefacts.difference(), "shots", "--report", "page.html").exit_code == 2
    assert Path("page.html").read_text() == "earlier"


@pytest.mark.usefixtures("shots")
def test_run_that_is_ended_has_a_page_of_what_there_is(artefacts, monkeypatch):
    write, seen = reporting.Report.write, []

    def write_and_end(self, row, result):
        write(self, row, result)
        seen.append(row)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(reporting.Report, "write", write_and_end)
    heeded = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored
    try:
        assert run(artefacts.mean(), "shots", "--report", "page.html", "--output", "rows.jsonl").exit_code == 130
    finally:
        signal.signal(signal.SIGINT, heeded)
    assert rows_of(Path("page.html")) == lines(Path("rows.jsonl").read_text())
    assert len(seen) == 2
    assert read_page(Path("page.html"))[0]["end"]["interrupted"] is True


@pytest.mark.usefixtures("shots")
def test_many_pictures_lie_in_a_folder_that_holds_no_others(artefacts, monkeypatch):
    monkeypatch.setattr(reporting, "MOST_INSIDE", 2)
    model = artefacts.mean()
    run(model, "shots", "--report", "page 1.html")
    items = read_page(Path("page 1.html"))[0]["items"]
    first = {item["thumbnail"] for item in items}
    assert all(address.startswith("page%201_files/") for address in first)
    named = {Path("page 1_files", Path(address).name) for address in first}
    assert set(Path("page 1_files").iterdir()) == named
    assert all(cv2.imread(str(path)) is not None for path in named)
    Path("page 1_files/mine.webp").write_text("mine")
    gray(Path(SHOTS[0]), 7)
    run(model, "shots", "--report", "page 1.html")
    again = {Path("page 1_files", Path(item["thumbnail"]).name) for item in read_page(Path("page 1.html"))[0]["items"]}
    assert again != named
    assert set(Path("page 1_files").iterdir()) == again | {Path("page 1_files/mine.webp")}


@pytest.mark.parametrize("name", ["shots/a.png", "m.onnx"])
@pytest.mark.usefixtures("shots")
def test_page_never_replaces_what_the_run_reads(artefacts, name):
    artefacts.mean("m").rename("m.onnx")
    before = Path(name).read_bytes()
    Path("page.html").hardlink_to(name)
    result = run("m.onnx", "shots", "--report", "page.html")
    assert (result.exit_code, Path(name).read_bytes()) == (2, before)
    assert "--report: page.html would overwrite" in result.stderr


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("page.txt", "--report page.txt: it is a page; give a name that ends in .html"),
        ("none/page.html", "none: no such folder; create it or choose another --report"),
        ("folder.html", "--report folder.html: no file that a page could be written to"),
        ("locked.html", "--report locked.html: another run is writing it"),
    ],
)
@pytest.mark.usefixtures("shots")
def test_page_that_cannot_be_written_is_told_before_any_work(artefacts, page, complaint):
    Path("folder.html").mkdir()
    with locked(Path("locked.html")):
        result = run(artefacts.mean(), "shots", "--report", page)
    assert (result.exit_code, result.stdout) == (2, "")
    assert complaint in result.stderr


@pytest.mark.usefixtures("shots")
def test_measures_and_ranks_are_on_the_page(artefacts):
    result = run(artefacts.mean(), "shots", "--measure", "--best-of", "folders", "--report", "page.html")
    data, _ = read_page(Path("page.html"))
    shown = [item["row"] | added for item, added in zip(data["items"], data["end"]["added"], strict=True)]
    assert shown == lines(result.stdout)
    assert all(row["rank"] for row in shown)
    assert all(row["measures"] for row in shown)


def test_frames_of_videos_and_their_whole_are_on_the_page(artefacts, tmp_path, monkeypatch):
    pytest.importorskip("av")
    from video_files import gray_planes, write_video

    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mp4", [gray_planes(40 * value) for value in range(1, 5)])
    result = run(artefacts.mean(), "clip.mp4", "--every", "0.04", "--report", "page.html")
    items = read_page(Path("page.html"))[0]["items"]
    assert [item["row"] | {"p05": item["row"].get("p05")} for item in items] == lines(result.stdout)
    assert ["thumbnail" in item for item in items] == [True] * (len(items) - 1) + [False]
    # How many frames there will be is not known before, so the page could grow without end.
    assert all(item["thumbnail"].startswith("page_files/") for item in items[:-1])
