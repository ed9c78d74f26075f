"""Where iqa-run writes: files that it must not replace, streams, mounts, terminals."""

import csv
import json
import os
import pty
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from iqa_run import COMMAND, DEADLINE, GREYS, TOLERANCE, finish, gray, lines, run, scores, start
from iqa_runtime.files.locking import locked


@pytest.mark.usefixtures("shots")
def test_mistake_leaves_the_output_of_an_earlier_run_alone(artefacts):
    Path("rows.csv").write_text("earlier")
    assert run(artefacts.difference(), "shots", "--output", "rows.csv").exit_code == 2
    assert Path("rows.csv").read_text() == "earlier"


READ = ["shots/a.png", "clean/a.png", "m.onnx", "m.reference.onnx"]


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "table"])
@pytest.mark.parametrize("link", [None, Path.symlink_to, Path.hardlink_to])
@pytest.mark.usefixtures("shots")
def test_output_never_replaces_what_the_run_reads(artefacts, tmp_path, name, form, link):
    model = artefacts.cached("m")
    for path in (model, model.with_name("m.reference.onnx")):
        path.rename(tmp_path / path.name)
    for shot in GREYS:
        gray(tmp_path / "clean" / Path(shot).name, 9)
    before = Path(name).read_bytes()
    output = Path("shots/../link" if link else f"shots/../{name}")
    if link:
        link(Path("link"), Path(name).resolve())
    result = run("m.onnx", "shots", "--reference", "clean", "--output", output, "--format", form)
    assert (result.exit_code, Path(name).read_bytes()) == (2, before)
    assert f"{output} would overwrite" in result.stderr
    assert name in result.stderr
    assert {path.name for path in Path().iterdir()} == {"m.onnx", "m.reference.onnx", "shots", "clean", "artefacts"} | (
        {"link"} if link else set()
    )


@pytest.mark.parametrize(("option", "kind"), [("--maps", "mapped"), ("--restored", "restoring")])
def test_pictures_never_replace_what_the_run_reads(artefacts, shots, option, kind):
    before = gray(shots / "a.png.png", 7).read_bytes()
    result = run(getattr(artefacts, kind)(), "shots", option, shots, "--output", "rows.csv")
    assert (result.exit_code, (shots / "a.png.png").read_bytes()) == (2, before)
    assert f"{option}: {shots / 'a.png.png'} would overwrite an image to score (shots/a.png.png)" in result.stderr
    assert not Path("rows.csv").exists()
    # A picture of an earlier run may be replaced.
    (shots / "a.png.png").rename("a.png.png")
    assert run(getattr(artefacts, kind)(), "shots", option, ".").exit_code == 0
    assert Path("a.png.png").read_bytes() != before


@pytest.mark.usefixtures("shots")
def test_pictures_never_replace_the_rows(artefacts):
    Path("maps").mkdir()
    Path("maps/a.png.png").write_text("earlier")
    result = run(artefacts.mapped(), "shots", "--maps", "maps", "--output", "maps/a.png.png")
    assert (result.exit_code, Path("maps/a.png.png").read_text()) == (2, "earlier")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
@pytest.mark.usefixtures("shots")
def test_folder_without_write_permission_is_a_usage_error(artefacts):
    Path("locked").mkdir(0o500)
    assert run(artefacts.mean(), "shots", "--output", "locked/rows.json").exit_code == 2


@pytest.mark.usefixtures("shots")
def test_full_disk_is_one_line(artefacts):
    for arguments in (["--output", "/dev/full"], []):
        with Path("/dev/full").open("wb") as full:
            process = start(artefacts.mean(), "shots", "--format", "jsonl", *arguments, stdout=full)
            _, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 2
        assert b"No space left" in err
        assert err.count(b"\n") == 1


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize("form", ["jsonl", "csv", "json", "table"])
def test_closed_pipe_is_quiet(artefacts, form):
    reader, writer = os.pipe()
    process = start(artefacts.mean(), "shots", "--format", form, stdout=writer)
    os.close(writer)
    os.close(reader)
    _, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (141, b"")


def without_times(text):
    """Drop numbers, and the width of the columns that depends on them."""
    return re.sub("[0-9.]+|─+| +", "", text)


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize("form", ["jsonl", "csv", "json", "table"])
def test_rows_go_straight_into_streams(artefacts, form):
    model = artefacts.mean()
    run(model, "shots", "--output", "file", "--format", form)
    wanted = without_times(Path("file").read_text())
    os.mkfifo("pipe")
    for name in ("/dev/stdout", "pipe"):
        process = start(model, "shots", "--output", name, "--format", form)
        piped = Path("pipe").read_text() if name == "pipe" else ""
        code, out, _ = finish(process)
        assert (code, without_times(out + piped)) == (0, wanted)
    assert Path("pipe").is_fifo()


@pytest.fixture(scope="module")
def in_mounts():
    """Run a script where files can be mounted: in a space of mounts of its own."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this system lets nobody mount files")
    return lambda script, *arguments: subprocess.run(
        [*command, script, "sh", *map(str, arguments)], capture_output=True, text=True, timeout=DEADLINE, check=False
    )


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize("form", ["jsonl", "csv", "json", "table"])
def test_a_file_that_is_mounted_by_itself_gets_its_rows(artefacts, in_mounts, form):
    model = artefacts.mean()
    run(model, "shots", "--output", "wanted", "--format", form)
    Path("outside").write_text("of an earlier run\n" * 100)
    Path("rows").touch()
    script = 'mount --bind outside rows; exec "$@"'
    done = in_mounts(script, *COMMAND, model, "shots", "--output", "rows", "--format", form)
    assert (done.returncode, "3 images, 0 failed" in done.stderr) == (0, True), done.stderr
    assert without_times(Path("outside").read_text()) == without_times(Path("wanted").read_text())
    assert {path.name for path in Path().iterdir()} == {"artefacts", "shots", "wanted", "outside", "rows"}


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_a_file_in_a_folder_that_nobody_may_write_to_gets_its_rows(artefacts, in_mounts, form):
    Path("read-only").mkdir()
    Path("read-only/rows").touch()
    Path("outside").touch()
    script = (
        "mount --bind outside read-only/rows; mount --rbind read-only read-only; mount -o remount,ro,bind read-only"
    )
    command = [*COMMAND, artefacts.mean(), "shots", "--output", "read-only/rows", "--format", form]
    done = in_mounts(f'{script}; ! touch read-only/new 2>/dev/null; exec "$@"', *command)
    assert (done.returncode, "3 images, 0 failed" in done.stderr) == (0, True), done.stderr
    assert Path("outside").read_text().count("shots/") == 3


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_a_mounted_file_is_resumed(artefacts, in_mounts, name):
    model = artefacts.mean()
    run(model, "shots/a.png", "--output", "outside", "--format", Path(name).suffix[1:])
    Path(name).touch()
    script = f'mount --bind outside {name}; exec "$@"'
    done = in_mounts(script, *COMMAND, model, "shots", "--output", name, "--resume")
    assert (done.returncode, "1 already scored, 2 left" in done.stderr) == (0, True), done.stderr
    assert Path("outside").read_text().count("shots/") == 3


@pytest.mark.usefixtures("shots")
def test_what_stands_in_front_of_a_stream_stays(artefacts):
    with Path("log").open("wb") as log:
        log.write(b"before\n")
        log.flush()
        process = start(artefacts.mean(), "shots", "--output", "/dev/stdout", "--format", "json", stdout=log)
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 0
    before, _, rows = Path("log").read_text().partition("\n")
    assert (before, len(json.loads(rows))) == ("before", 3)


@pytest.mark.usefixtures("shots")
def test_resume_needs_a_file(artefacts):
    os.mkfifo("pipe")
    for name in ("pipe", "/dev/stdout"):
        result = run(artefacts.mean(), "shots", "--output", name, "--resume", "--format", "jsonl")
        assert (result.exit_code, "no file whose rows could be read" in result.stderr) == (2, True)


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_second_run_on_an_output_is_told(artefacts, name):
    with locked(Path(name)):
        result = run(artefacts.mean(), "shots", "--output", name)
    assert (result.exit_code, f"--output {name}: another run is writing it" in result.stderr) == (2, True)
    assert not Path(name).exists()
    assert run(artefacts.mean(), "shots", "--output", name).exit_code == 0


def on_terminal(*arguments, **streams):
    """Run with the named streams on a terminal; return what it shows."""
    ours, theirs = pty.openpty()
    process = start(*arguments, **dict.fromkeys(streams, theirs))
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # how Linux says that the other side has closed
        pass
    process.communicate(timeout=DEADLINE)
    os.close(ours)
    return shown.decode()


@pytest.mark.usefixtures("shots")
def test_terminal_gets_a_table_and_a_bar(artefacts):
    assert "0.4000" in on_terminal(artefacts.mean(), "shots", stdout=True)
    assert "scoring" in on_terminal(artefacts.mean(), "shots", stderr=True)
    shown = on_terminal(artefacts.mean(), "shots", "--format", "jsonl", stdout=True, stderr=True)
    assert "scoring" not in shown
    assert shown.count('{"path"') == 3


CONTROLS = "\x1b\x07\x9b\u202e\n"


def test_nothing_in_a_name_steers_a_terminal_and_files_keep_it(artefacts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"a{CONTROLS}.png"
    gray(Path(name), 51)
    model = artefacts.mean()
    for form in ("table", "json", "jsonl", "csv"):
        shown = on_terminal(model, name, "gone" + name, "--format", form, stdout=True, stderr=True)
        # ESC itself is in what rich draws.
        assert not set(shown) & set("\x07\x9b\u202e")
        assert ("a\\x1b" if form in ("table", "csv") else "a\\u001b") in shown
    assert scores(lines(run(model, name).stdout)) == {name: pytest.approx(0.2, abs=TOLERANCE)}
    run(model, name, "--output", "rows.csv")
    assert "1 already scored, 0 left" in run(model, name, "--output", "rows.csv", "--resume").stderr
    with Path("rows.csv").open(newline="") as rows:
        assert [row["path"] for row in csv.DictReader(rows)] == [name]
    gone = run(f"gone{CONTROLS}.onnx", name)
    assert gone.exit_code == 2
    assert "gone\\x1b\\x07\\x9b\\u202e\\n.onnx" in gone.stderr
    assert gone.stderr.count("\n") == 1


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_as_good_as_dev_null(artefacts, closed):
    script = 'exec "$@" ' + closed
    for inputs, code in (("shots", 0), ("gone.png", 1)):
        command = ["sh", "-c", script, "sh", *COMMAND, str(artefacts.mean()), inputs]
        for more in ([], ["--output", "rows.jsonl"]):
            done = subprocess.run([*command, *more], capture_output=True, timeout=DEADLINE, check=False)
            assert (done.returncode, b"Traceback" in done.stderr) == (code, False)
        assert len(lines(Path("rows.jsonl").read_text())) == (3 if code == 0 else 1)
