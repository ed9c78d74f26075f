"""A run whose process is killed goes on where it was, with a Ray of its own each time."""

import signal
import subprocess
import sys
import time

import pyarrow.dataset
import pytest

from eventually import DEADLINE
from iqa_run import run

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="of Linux")]

PICTURES = 40
ROWS = 2


def test_a_run_that_is_killed_at_three_places_has_every_row_once(artefact, tmp_path, picture):
    path, folder, output = artefact(), tmp_path / "pictures", tmp_path / "out"
    folder.mkdir()
    for number in range(PICTURES):
        (folder / f"{number}.png").write_bytes(picture(number))
    command = [sys.executable, "-m", "iqa_serving.commands.ray", path, folder, "--output", output]
    options = ["--rows-per-file", ROWS, "--workers", 2]
    lists = tmp_path / "out.checkpoint"
    for least in (0, 3, 10):
        resumed = ["--resume"] if least else []
        process = subprocess.Popen([*map(str, [*command, *options, *resumed])], stderr=subprocess.PIPE)
        until = time.monotonic() + 10 * DEADLINE
        while process.poll() is None and not (lists.exists() and len([*lists.iterdir()]) >= least):
            assert time.monotonic() < until
            time.sleep(0.01)
        assert process.poll() is None, process.stderr.read().decode()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finished = subprocess.run([*map(str, [*command, *options, "--resume"])], capture_output=True, timeout=10 * DEADLINE)
    assert finished.returncode == 0, finished.stderr.decode()
    rows = pyarrow.dataset.dataset(output).to_table().to_pylist()
    run(path, folder, "--output", tmp_path / "run.parquet")
    expected = pyarrow.dataset.dataset(tmp_path / "run.parquet").to_table().to_pylist()
    assert len(rows) == PICTURES
    assert {row["path"]: row["score"] for row in rows} == {row["path"]: row["score"] for row in expected}
