"""Of two runs that would write one file, the second is told; a lock never outlives its run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from iqa_runtime.errors import UsageError
from iqa_runtime.files.locking import locked

HOLDING = """
import sys
from pathlib import Path
from iqa_runtime.files.locking import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold():
    """Start processes that lock a file until they are killed or their standard input ends."""
    started = []

    def start(path):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDING, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout.readline() == b"locked\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("name", ["rows", "sub/../rows", "link"])
def test_a_file_that_is_being_written_is_refused_under_every_name(tmp_path, hold, there, name):
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "rows")
    if there:
        (tmp_path / "rows").write_text("earlier")
    hold(tmp_path / "rows")
    with pytest.raises(UsageError, match="another run is writing it"), locked(tmp_path / name):
        pass
    with locked(tmp_path / "other"):
        pass


def test_a_hard_link_is_the_same_file(tmp_path, hold):
    (tmp_path / "rows").touch()
    (tmp_path / "hard").hardlink_to(tmp_path / "rows")
    hold(tmp_path / "rows")
    with pytest.raises(UsageError, match="another run is writing it"), locked(tmp_path / "hard"):
        pass


def test_a_killed_run_locks_nothing(tmp_path, hold):
    process = hold(tmp_path / "rows")
    process.kill()
    process.wait()
    with locked(tmp_path / "rows"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_behind_and_the_file_is_not_made(tmp_path, hold):
    with locked(tmp_path / "rows"):
        assert not (tmp_path / "rows").exists()
    assert list(tmp_path.iterdir()) == []
    hold(tmp_path / "rows").communicate()
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / ".rows.lock").symlink_to(tmp_path / "victim")
    with locked(tmp_path / "rows"):
        pass
    assert not (tmp_path / "victim").exists()
    assert (tmp_path / ".rows.lock").is_symlink()


def test_where_no_lock_can_be_had_the_block_runs(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "absent" / "rows", tmp_path / "pipe", Path("/dev/null")):
        with locked(path):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
