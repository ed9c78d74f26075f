"""benchmarks/serving.py: all of it, on a few pictures and a few clients."""

import re
import sys

import pytest
import serving
from served import faults

pytestmark = [
    pytest.mark.serve,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc"),
]


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(serving, "CLIENTS", (1, 2))
    monkeypatch.setattr(faults, "GOOD", 2)
    monkeypatch.setattr(faults, "BAD", 3)


def test_load_and_memory(capsys):
    for section in ("load", "memory"):
        serving.main(["--only", section, "--pictures", "3", "--turns", "1", "--requests", "6", "--threads", "1"])
    shown = capsys.readouterr().out
    assert len(re.findall(r"^\| [12] \| [\d.]+ \| \d+% \| \d+ ms \| \d+ ms \|$", shown, re.MULTILINE)) == 2
    assert re.search(r"^\| 6 \| \d+ \| \d+ → \d+ \| [+-][\d.]+ \| \d+ → \d+ \| \d+ → \d+ \|$", shown, re.MULTILINE)


def test_faults(capsys):
    serving.main(["--only", "faults", "--pictures", "4", "--threads", "1"])
    shown = capsys.readouterr().out
    met = re.findall(r"^\| 3 clients .* \| \d+% \| (.*) \|$", shown, re.MULTILINE)
    assert met == ["hung on 3", "hung up 3", "413 3", "422 3"]
    assert re.search(r"lost and sent again, all answered right; another worker was ready [\d.]+ s later", shown)
    assert re.search(r"SIGTERM under 3 clients: all \d+ requests sent .* answered right", shown)


def test_an_answer_that_is_not_that_of_iqa_run_is_no_figure(tmp_path):
    paths = serving.copies(tmp_path, 1)
    with (
        serving.server("edge", "--threads", 1) as running,
        pytest.raises(SystemExit, match="1 of 1 answers are not what iqa-run says"),
    ):
        serving.send(running.port, paths, 1, {serving.name_of(paths[0]): 0.123})
