"""The command iqa-run, in this process and as a process of its own."""

import csv
import errno
import hashlib
import io
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from iqa_run import GREYS, TOLERANCE, finish, gray, lines, run, scores, start
from iqa_runtime.commands.pictures import PictureWriter
from iqa_runtime.commands.rows import KEYS, columns
from iqa_runtime.commands.run import main

EXPECTED = {f"shots/{name}": pytest.approx(value / 255, abs=TOLERANCE) for name, value in GREYS.items()}


@pytest.fixture
def broken(shots):
    """An image cut short among the others."""
    data = (shots / "a.png").read_bytes()
    (shots / "broken.png").write_bytes(data[: len(data) // 2])
    return shots / "broken.png"


@pytest.mark.usefixtures("broken")
def test_folder_gives_a_row_an_image_in_every_format(artefacts):
    model = artefacts.mean()
    results = {form: run(model, "shots", "--format", form) for form in ("json", "jsonl", "csv")}
    assert [result.exit_code for result in results.values()] == [1, 1, 1]
    rows = json.loads(results["json"].stdout)
    in_lines = lines(results["jsonl"].stdout)
    in_csv = list(csv.DictReader(io.StringIO(results["csv"].stdout, newline="")))
    assert all(tuple(row) == KEYS for row in [*rows, *in_lines])
    assert all(tuple(row) == columns(KEYS) for row in in_csv)
    expected = ["shots/a.png", "shots/broken.png", "shots/sp ace/ü.png", "shots/x/a.png"]
    assert [[row["path"] for row in found] for found in (rows, in_lines, in_csv)] == [expected] * 3
    assert scores(rows) == scores(in_lines) == EXPECTED | {"shots/broken.png": None}
    assert [row["score"] for row in in_csv] == ["" if row["score"] is None else repr(row["score"]) for row in rows]
    first, second = rows[:2]
    assert (first["range"], first["direction"], first["width"], first["height"]) == ([0.0, 1.0], "higher", 64, 48)
    assert (first["patches"], first["error"]) == (5, None)
    assert first["milliseconds"] > 0
    assert "broken.png" in second["error"]
    assert (in_csv[0]["range"], in_csv[0]["error"], in_csv[1]["error"]) == ("0.0 1.0", "", second["error"])


@pytest.mark.usefixtures("broken")
def test_summary_goes_to_standard_error_alone(artefacts):
    result = run(artefacts.mean(), "shots")
    assert "4 images, 1 failed" in result.stderr
    assert f"score mean {sum(GREYS.values()) / 3 / 255:.4f}, min 0.2000, max 0.8000" in result.stderr
    assert "0 to 1, higher is better" in result.stderr
    assert len(lines(result.stdout)) == 4


@pytest.mark.usefixtures("shots")
def test_run_without_failures_exits_0(artefacts):
    assert run(artefacts.mean(), "shots").exit_code == 0


@pytest.mark.usefixtures("shots")
def test_named_file_is_a_row_whatever_it_is(artefacts):
    result = run(artefacts.mean(), "shots/notes.txt", "gone.jpg", "shots/a.png", "--format", "json")
    notes, gone, good = json.loads(result.stdout)
    assert (notes["path"], gone["path"], good["error"]) == ("shots/notes.txt", "gone.jpg", None)
    assert notes["error"]
    assert gone["error"]
    assert result.exit_code == 1


@pytest.mark.usefixtures("shots")
def test_list_on_standard_input(artefacts):
    code, out, _ = finish(start(artefacts.mean(), "-"), "shots/sp ace/ü.png\nshots/a.png\n".encode())
    assert code == 0
    assert scores(lines(out)) == {path: EXPECTED[path] for path in ("shots/sp ace/ü.png", "shots/a.png")}


@pytest.mark.usefixtures("shots")
def test_rows_are_utf_8_whatever_the_locale(artefacts):
    ascii_only = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    code, out, _ = finish(start(artefacts.mean(), "shots/sp ace/*.png", "--format", "jsonl", env=ascii_only))
    assert (code, lines(out)[0]["score"]) == (0, EXPECTED["shots/sp ace/ü.png"])
    code, out, _ = finish(start(artefacts.mean(), "shots/sp ace/*.png", "--format", "table", env=ascii_only))
    assert code == 0
    assert "0.4000" in out


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize(
    ("name", "first"),
    [("rows.csv", "path,score"), ("rows.JSON", "["), ("rows.jsonl", '{"path"'), ("rows", '{"path"')],
)
def test_format_follows_the_suffix_of_the_output(artefacts, name, first):
    result = run(artefacts.mean(), "shots", "--output", name)
    assert (result.exit_code, result.stdout) == (0, "")
    assert Path(name).read_text().startswith(first)


@pytest.mark.usefixtures("shots")
def test_untrained_artefact_says_so(artefacts):
    result = run(artefacts.untrained(), "shots", "--format", "table")
    assert "UNTRAINED" in result.stdout
    assert result.stderr.count("untrained") == 2
    assert all(tuple(row) == KEYS for row in lines(run(artefacts.untrained(), "shots").stdout))


@pytest.mark.usefixtures("shots")
def test_one_reference_serves_all(artefacts):
    result = run(artefacts.difference(task="nar"), "shots", "--reference", "shots/a.png")
    rows = lines(result.stdout)
    assert [row["score"] for row in rows] == pytest.approx([0, 0.2, 0.6], abs=TOLERANCE)
    assert {row["direction"] for row in rows} == {"lower"}


@pytest.mark.usefixtures("broken")
def test_reference_folder_pairs_by_name_and_a_missing_one_is_an_error_row(artefacts, tmp_path):
    gray(tmp_path / "clean/a.png", 255)
    result = run(artefacts.difference(), "shots", "--reference", "clean", "--format", "json")
    rows = {row["path"]: row for row in json.loads(result.stdout)}
    assert rows["shots/a.png"]["score"] == pytest.approx(0.8, abs=TOLERANCE)
    assert rows["shots/x/a.png"]["score"] == pytest.approx(0.2, abs=TOLERANCE)
    assert "clean/ü.png" in rows["shots/sp ace/ü.png"]["error"]
    assert rows["shots/broken.png"]["score"] is None
    assert result.exit_code == 1


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_resume_scores_what_is_missing_or_failed(artefacts, broken, form):
    model, output = artefacts.mean(), Path(f"rows.{form}")
    assert run(model, "shots/a.png", "shots/broken.png", "--output", output).exit_code == 1
    before = output.read_text().splitlines()
    gray(broken, 255)
    output.write_text(output.read_text() + {"jsonl": '{"path": "cut sho', "csv": "cut sho"}[form])
    result = run(model, "shots", "--output", output, "--resume")
    assert result.exit_code == 0
    assert "1 already scored, 3 left" in result.stderr
    header = form == "csv"
    after = output.read_text().splitlines()
    assert after[: 1 + header] == before[: 1 + header]
    assert len(after) == 4 + header
    assert not any("cut sho" in line for line in after)
    assert "4 already scored, 0 left" in run(model, "shots", "--output", output, "--resume").stderr
    assert output.read_text().splitlines() == after


@pytest.mark.usefixtures("shots")
def test_rows_say_which_artefact_and_crops_they_are_of(artefacts):
    model = artefacts.mean()
    digest = hashlib.sha256(Path(model).read_bytes()).hexdigest()[:12]
    for crops, key in ([], f"{digest}:five"), (["--crops", "random:7:3"], f"{digest}:random:7:3"):
        rows = lines(run(model, "shots", "gone.png", *crops).stdout)
        assert [row["artefact"] for row in rows] == [key] * 4


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_resume_refuses_rows_of_another_artefact_or_other_crops(artefacts, name):
    run(artefacts.mean(), "shots/a.png", "--output", name)
    before = Path(name).read_text()
    untrained = run(artefacts.untrained(), "shots", "--output", name, "--resume")
    other_crops = run(artefacts.mean(), "shots", "--crops", "center", "--output", name, "--resume")
    for result in (untrained, other_crops):
        assert (result.exit_code, Path(name).read_text()) == (2, before)
        assert "another artefact, other crops or another size" in result.stderr
    assert run(artefacts.mean(), "shots", "--crops", "five", "--output", name, "--resume").exit_code == 0


@pytest.mark.usefixtures("shots")
def test_crops_replace_the_plan(artefacts):
    rows = lines(run(artefacts.mean(), "shots", "--crops", "random:7:3", "--batch-size", 3, "--threads", 1).stdout)
    assert {row["patches"] for row in rows} == {7}


@pytest.mark.usefixtures("broken")
def test_maps_are_named_by_input_and_only_of_what_has_a_score(artefacts):
    result = run(artefacts.mapped(), "shots", "--maps", "out/maps")
    maps = {str(path.relative_to("out/maps")) for path in Path("out/maps").rglob("*") if path.is_file()}
    assert maps == {"a.png.png", "sp ace/ü.png.png", "x/a.png.png"}
    assert len(lines(result.stdout)) == 4
    picture = cv2.imdecode(np.fromfile("out/maps/a.png.png", np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[0] > 48


@pytest.mark.usefixtures("broken")
def test_restored_images_are_named_by_input(artefacts):
    result = run(artefacts.restoring(), "shots", "--restored", "out/restored", "--crops", "grid")
    pictures = {str(path.relative_to("out/restored")) for path in Path("out/restored").rglob("*") if path.is_file()}
    assert pictures == {"a.png.png", "sp ace/ü.png.png", "x/a.png.png"}
    assert result.exit_code == 1
    picture = cv2.imdecode(np.fromfile("out/restored/a.png.png", np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == cv2.imdecode(np.fromfile("shots/a.png", np.uint8), cv2.IMREAD_COLOR).shape
    assert picture.min() >= 178


@pytest.mark.usefixtures("shots")
def test_maps_keep_their_names_when_a_run_is_resumed(artefacts):
    model = artefacts.mapped()
    run(model, "shots/x/a.png", "--output", "rows.csv")
    run(model, "shots", "--output", "rows.csv", "--resume", "--maps", "maps")
    assert {path.name for path in Path("maps").rglob("*.png")} == {"a.png.png", "ü.png.png"}
    assert not Path("maps/x").exists()


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--bogus"],
        ["{mean}"],
        ["{mean}", "empty"],
        ["{mean}", "shots/*.gif"],
        ["{mean}", "shots", "--format", "xml"],
        ["{mean}", "shots", "--resume"],
        ["{mean}", "shots", "--resume", "--output", "rows.json"],
        ["{mean}", "shots", "--crops", "many"],
        ["{mean}", "shots", "--batch-size", "0"],
        ["{mean}", "shots", "--device", "abacus"],
        ["{mean}", "shots", "--backend", "abacus"],
        ["{mean}", "shots", "--reference", "shots/a.png"],
        ["{mean}", "shots", "--reference", ""],
        ["{mean}", "shots", ""],
        ["{mean}", "shots", "--batch-size", "100000000"],
        ["{mean}", "shots", "--threads", "100000000"],
        ["{cached}", "shots", "--reference", "shots/a.png", "--threads", "100000000"],
        ["{restoring}", "shots", "--maps", "out", "--restored", "./out/"],
        ["{mean}", "shots", "--maps", "maps"],
        ["{mean}", "shots", "--restored", "restored"],
        ["{mean}", "shots", "--output", "nowhere/rows.csv"],
        ["{mean}", "shots", "--output", "shots/a.png/rows.json"],
        ["{mean}", "shots", "--info"],
        ["{mean}", "--info", "--check"],
        ["{mean}", "--info", "--format", "csv"],
        ["{difference}", "shots"],
        ["{difference}", "shots", "--reference", "gone"],
        ["shots/a.png", "shots"],
        ["gone.onnx", "shots"],
        ["gone.onnx", "--info"],
    ],
)
def test_usage_error_is_one_line_and_exit_code_2(arguments, artefacts, monkeypatch, capsys):
    Path("empty").mkdir()
    models = {name: getattr(artefacts, name)() for name in ("mean", "difference", "cached", "restoring")}
    monkeypatch.setattr(sys, "argv", ["iqa-run", *(argument.format(**models) for argument in arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert err.startswith("iqa-run: ")
    assert err.count("\n") == 1
    assert not Path("maps").exists()


@pytest.mark.usefixtures("shots")
def test_rows_join_with_the_list_they_came_from(artefacts):
    listed = ["./shots/a.png", "shots//x/a.png", "ftp://example.org/a.png"]
    code, out, _ = finish(start(artefacts.mean(), "-"), "\n".join(listed).encode())
    assert (code, [row["path"] for row in lines(out)]) == (1, listed)
    assert "ftp:// is not fetched" in lines(out)[2]["error"]


def test_what_is_wrong_is_said_in_options(artefacts, shots):
    for arguments in ([shots], ["--check"]):
        result = run(artefacts.mean(), *arguments, "--threads", "100000000")
        assert result.exit_code in (1, 2)
        assert "--threads 100000000: it must be a whole number, 1 to 1024" in result.output


def test_of_an_animation_the_first_frame_is_scored_on_request(artefacts, tmp_path):
    animation = tmp_path / "moving.png"
    frames = [Image.new("RGB", (40, 40), color) for color in ("white", "black")]
    frames[0].save(animation, save_all=True, append_images=frames[1:])
    refused = run(artefacts.mean(), str(animation))
    assert refused.exit_code == 1
    assert "score the first (--frame first)" in lines(refused.stdout)[0]["error"]
    scored = run(artefacts.mean(), str(animation), "--frame", "first")
    assert (scored.exit_code, lines(scored.stdout)[0]["score"]) == (0, 1.0)
    other = run(artefacts.mean(), str(animation), "--frame", "last")
    assert (other.exit_code, "--frame last: give first" in other.stderr) == (2, True)


@pytest.mark.usefixtures("shots")
def test_a_picture_of_another_format_and_a_locked_folder_are_rows_and_cost_no_other(artefacts, monkeypatch):
    Path("shots/b.psd").write_bytes(b"8BPS")
    Path("shots/._a.png").write_bytes(b"resource fork")
    listed = os.scandir

    def scandir(path):
        if os.fspath(path) == "shots/x":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    result = run(artefacts.mean(), "shots")
    rows = {row["path"]: row for row in lines(result.stdout)}
    assert (result.exit_code, sorted(rows)) == (1, ["shots/a.png", "shots/b.psd", "shots/sp ace/ü.png", "shots/x"])
    assert "PNG, JPEG, WebP, BMP or TIFF" in rows["shots/b.psd"]["error"]
    assert "can be listed" in rows["shots/x"]["error"]
    assert rows["shots/a.png"]["score"] == pytest.approx(0.2, abs=TOLERANCE)


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize("option", ["-0", "--null"])
def test_list_separated_by_nul(artefacts, option):
    gray(Path("new\nline.png"), 51)
    result = run(artefacts.mean(), "-", option, stdin=b"new\nline.png\0shots/a.png\0")
    assert [row["path"] for row in lines(result.stdout)] == ["new\nline.png", "shots/a.png"]


@pytest.mark.usefixtures("shots")
def test_lack_of_memory_is_one_line_that_says_so_and_costs_no_row(artefacts, monkeypatch):
    original, calls = PictureWriter.write, []

    def greedy(self, *arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise MemoryError
        original(self, *arguments)

    monkeypatch.setattr(PictureWriter, "write", greedy)
    result = run(artefacts.mean(), "shots", "--output", "rows.json")
    assert (result.exit_code, result.stderr.count("\n"), "not enough memory" in result.stderr) == (2, 1, True)
    assert len(json.loads(Path("rows.json").read_text())) == 2


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize("inputs", [["shots/a.png"], ["."], ["*.png"]])
def test_a_folder_that_was_removed_is_one_clear_error(artefacts, inputs, tmp_path, monkeypatch):
    model = artefacts.mean()
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = run(model, *inputs, "--output", "rows.csv")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "folder you are in" in result.stderr


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize("name", ["pipe.onnx", "/dev/zero", "shots"])
def test_an_artefact_that_is_no_file_is_refused_at_once(name):
    os.mkfifo("pipe.onnx")
    for more in (["shots"], ["--info"], ["--check"]):
        result = run(name, *more)
        assert result.exit_code in (1, 2)
        assert "give a file" in result.output
