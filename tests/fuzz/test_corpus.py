"""Every file of the corpus, seeds and what was found, ends in a result or an `IqaError` within a limit of memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import iqa_runtime

FOLDER = Path(__file__).parent
TARGETS = sorted(path.name for path in (FOLDER / "corpus").iterdir())
SECONDS = 120
"""Far more than a target takes: a file that never ends would wait for ever."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of memory is set as Linux does")
@pytest.mark.parametrize("target", TARGETS)
def test_every_file_ends_in_a_result_or_an_error_of_ours(target):
    files = sorted((FOLDER / "corpus" / target).iterdir())
    done = subprocess.run(
        [sys.executable, "-W", "error", str(FOLDER / "targets.py"), target, *map(str, files)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(iqa_runtime.__file__).parents[1])},
    )
    assert done.returncode == 0, f"{done.stdout[-300:]}\n{done.stderr}"
    ends = dict(line.split(": ") for line in done.stdout.splitlines())
    assert list(ends) == [file.name for file in files]
    assert "result" in ends.values()
    assert "result" not in {end for name, end in ends.items() if name.startswith("found_")}
