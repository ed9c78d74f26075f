"""What is left of a run that somebody ends: by Ctrl-C, by a signal, or because something beside the scores failed."""

import csv
import functools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import standing_still
from command_line import invoke
from iqa_runtime.commands import pictures
from iqa_runtime.commands.run import main

DEADLINE = 120.0
"""Seconds before a test gives up on a process: far above what an overloaded host needs."""

ROWS = 2
"""Rows that are there when the run is ended."""

STANDING_STILL = f"""
import threading
from pathlib import Path
from iqa_runtime.commands.rows import WRITERS
from iqa_runtime.commands.run import main
from iqa_runtime.scoring import preparation

loaded, written = preparation.load_with_color, 0

def load_with_color(source, **options):
    if source.endswith("endless.png"):
        threading.Event().wait()
    return loaded(source, **options)

def counted(write):
    def write_and_tell(self, row):
        global written
        write(self, row)
        written += 1
        if written == {ROWS}:
            Path("there").touch()
    return write_and_tell

preparation.load_with_color = load_with_color
for kind in WRITERS.values():
    kind.write = counted(kind.write)
main()
"""
"""The command with a decoder that never returns from one picture; it says when the first rows are there."""


IN_C = """
import hashlib
from pathlib import Path
from iqa_runtime.commands import pictures, run

def endless(*arguments, **options):
    Path("there").touch()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2 * 10**9)

{what} = endless
run.main()
"""
"""The command inside a function in C, which heeds no signal, for far longer than any test waits."""


@pytest.fixture
def shots(tmp_path, monkeypatch):
    """Pictures, the last of which is never decoded."""
    (tmp_path / "shots").mkdir()
    for name in [*(f"{index:02}" for index in range(12)), "endless"]:
        _, data = cv2.imencode(".png", np.full((48, 64, 3), 51, np.uint8))
        (tmp_path / "shots" / f"{name}.png").write_bytes(data.tobytes())
    monkeypatch.chdir(tmp_path)


def end(number, *arguments, program=STANDING_STILL):
    """Run until the first rows are there and the decoder stands still; end it by a signal; return code and stderr."""
    # In the background of a shell SIGINT is ignored, under nohup SIGHUP, and children inherit that.
    heed = functools.partial(signal.signal, number, signal.SIG_DFL)
    command = [sys.executable, "-c", program, *map(str, arguments), "--batch-size", "1", "--threads", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed)
    try:
        last = time.monotonic() + DEADLINE
        while not Path("there").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < last
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
    return process.returncode, err.decode()


def rows_of(path):
    text = path.read_text()
    if path.suffix == ".json":
        return json.loads(text)
    if path.suffix == ".csv":
        return list(csv.DictReader(text.splitlines()))
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.csv"])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_rows_so_far_are_kept_and_nobody_waits_for_a_decoder(artefacts, name, number, code):
    ended, err = end(number, artefacts.mean(), "shots", "--output", name)
    assert (ended, "interrupted" in err, "Traceback" in err) == (code, True, False)
    assert not Path(f".{name}.lock").exists()
    kept = [row["path"] for row in rows_of(Path(name))]
    assert ROWS <= len(kept) < 13
    assert kept == [f"shots/{index:02}.png" for index in range(len(kept))]
    assert {path.name for path in Path().iterdir()} == {"artefacts", "shots", "there", name}


@pytest.mark.usefixtures("shots")
def test_an_interrupted_run_is_resumed(artefacts):
    end(signal.SIGTERM, artefacts.mean(), "shots", "--output", "rows.jsonl")
    kept = rows_of(Path("rows.jsonl"))
    assert invoke(main, artefacts.mean(), "shots", "--output", "rows.jsonl", "--resume").exit_code == 0
    rows = rows_of(Path("rows.jsonl"))
    assert rows[: len(kept)] == kept
    assert len(rows) == len({row["path"] for row in rows}) == 13


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str)
def test_nobody_waits_for_a_model_to_be_loaded(artefacts, number, code):
    program = IN_C.format(what="run.Scorer")
    assert end(number, artefacts.mean(), "shots", "--output", "rows.json", program=program) == (code, "")
    assert {path.name for path in Path().iterdir()} == {"artefacts", "shots", "there"}


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize("what", ["pictures.render_heatmap", "pictures.encode_png", "pictures.load_image"])
def test_nobody_waits_for_a_picture_to_be_drawn(artefacts, what):
    arguments = [artefacts.mapped(), "shots/00.png", "shots/01.png", "--maps", "maps", "--output", "rows.json"]
    code, err = end(signal.SIGINT, *arguments, program=IN_C.format(what=what))
    assert (code, "interrupted" in err, "Traceback" in err) == (130, True, False)
    assert [row["path"] for row in rows_of(Path("rows.json"))] == ["shots/00.png"]
    assert {path.name for path in Path().iterdir()} == {"artefacts", "shots", "there", "rows.json"}


WITHOUT_CLOCK = f"""
import sys
sys.path.insert(0, {str(Path(standing_still.__file__).parent)!r})
from types import SimpleNamespace
from standing_still import without_clock
without_clock(SimpleNamespace(setattr=setattr), lambda work: "endless.png" in str(work.args[0]))
"""


@pytest.mark.usefixtures("shots")
def test_an_image_whose_time_is_over_is_a_row_and_the_run_goes_on_and_ends(artefacts):
    Path("shots/endless.png").rename("shots/05-endless.png")
    program = WITHOUT_CLOCK + STANDING_STILL
    command = [sys.executable, "-c", program, artefacts.mean(), "shots", "--output", "rows.csv", "--timeout", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    rows = rows_of(Path("rows.csv"))
    assert (done.returncode, len(rows), "13 images, 1 failed" in done.stderr) == (1, 13, True)
    (failed,) = [row for row in rows if row["error"]]
    assert failed["path"] == "shots/05-endless.png"
    assert "not ready within its time limit of 3 s" in failed["error"]
    assert not Path(".rows.csv.lock").exists()
    again = invoke(main, artefacts.mean(), "shots", "--output", "rows.csv", "--resume", "--timeout", DEADLINE)
    assert (again.exit_code, "12 already scored, 1 left" in again.stderr) == (0, True)


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_time_limit_that_is_none_is_a_usage_error(artefacts, seconds):
    result = invoke(main, artefacts.mean(), "shots", "--timeout", seconds)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--timeout {float(seconds)}: it must be a number of seconds above 0" in result.stderr


@pytest.mark.usefixtures("shots")
def test_a_picture_that_goes_while_it_is_scored_costs_no_other_its_row(artefacts, monkeypatch):
    """The heat map is laid over the picture, which is read again for it."""
    load = pictures.load_image

    def load_unless_gone(image, **options):
        return load("gone.png" if image == "shots/03.png" else image, **options)

    monkeypatch.setattr(pictures, "load_image", load_unless_gone)
    result = invoke(main, artefacts.mapped(), "shots", "--maps", "maps", "--output", "rows.csv")
    assert (result.exit_code, len(rows_of(Path("rows.csv")))) == (1, 13)
    assert "shots/03.png: it has a score and no heat map: gone.png: cannot read" in result.stderr
    assert "13 images, 0 failed" in result.stderr
    assert "1 without heat map" in result.stderr
    assert len(list(Path("maps").iterdir())) == 12


@pytest.mark.usefixtures("shots")
def test_a_picture_that_is_exchanged_while_it_is_scored_gets_no_heat_map(artefacts, monkeypatch):
    load = pictures.load_image
    monkeypatch.setattr(pictures, "load_image", lambda image, **options: load(image, **options)[:-1])
    result = invoke(main, artefacts.mapped(), "shots", "--maps", "maps", "--output", "rows.csv")
    assert (result.exit_code, len(rows_of(Path("rows.csv")))) == (1, 13)
    assert "another picture since it was scored" in result.stderr
    assert not Path("maps").exists()


@pytest.mark.usefixtures("shots")
def test_a_failure_beside_the_scores_keeps_the_rows_so_far(artefacts):
    Path("maps").mkdir()
    Path("maps/02.png.png").mkdir()  # so that this picture cannot be written
    result = invoke(main, artefacts.mapped(), "shots", "--maps", "maps", "--output", "rows.json")
    assert (result.exit_code, result.stderr.count("02.png.png: cannot write")) == (2, 1)
    assert [row["path"] for row in rows_of(Path("rows.json"))] == [f"shots/{index:02}.png" for index in range(3)]
