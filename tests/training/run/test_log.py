"""metrics.csv and the events, read by TensorBoard itself."""

import pytest

from iqa_runtime.errors import FileError
from iqa_training.loop import fit
from iqa_training.run.log import Log
from line_recipe import line_run, logged_events, rows

FLOAT32 = 1e-7
"""Relative: events hold float32."""


def test_both_hold_what_was_written(tmp_path):
    log = Log(tmp_path, [])
    log.write({"epoch": 1, "loss": 0.1234567, "seconds": 3})
    log.write({"epoch": 2, "loss": 0.05, "srcc_nr": -0.5, "seconds": 4})
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "epoch,loss,seconds,srcc_nr",
        "1,0.123457,3,",
        "2,0.05,4,-0.5",
    ]
    found = logged_events(tmp_path)
    assert {name: [step for step, _ in values] for name, values in found.items()} == {
        "loss": [1, 2],
        "seconds": [1, 2],
        "srcc_nr": [2],
    }
    assert [value for _, value in found["loss"]] == pytest.approx([0.1234567, 0.05], rel=FLOAT32)


def test_an_undefined_value_is_logged_as_such(tmp_path):
    Log(tmp_path, []).write({"epoch": 1, "srcc_nr": float("nan")})
    assert rows(tmp_path) == [{"epoch": "1", "srcc_nr": "nan"}]


def test_epochs_that_are_done_again_count_once(tmp_path):
    log = Log(tmp_path, [])
    first = {"epoch": 1, "loss": 3.0}
    log.write(first)
    log.write({"epoch": 2, "loss": 2.5})
    # The run was killed before its state was saved, and goes on after the first epoch.
    log = Log(tmp_path, [first])
    assert rows(tmp_path) == [{"epoch": "1", "loss": "3"}]
    log.write({"epoch": 2, "loss": 2.0})
    assert rows(tmp_path) == [{"epoch": "1", "loss": "3"}, {"epoch": "2", "loss": "2"}]
    assert logged_events(tmp_path)["loss"] == [(1, 3.0), (2, 2.0)]


def test_events_of_a_run(tmp_path):
    fit(line_run(tmp_path, epochs=3))
    table, found = rows(tmp_path), logged_events(tmp_path)
    assert found.keys() == table[0].keys() - {"epoch"}
    assert [step for step, _ in found["loss_total"]] == [1, 2, 3]


@pytest.mark.parametrize("name", ["metrics.csv", "events"])
def test_a_folder_that_cannot_be_written_to(tmp_path, name):
    log = Log(tmp_path, [])
    for file in tmp_path.glob("events*"):
        file.unlink()
        (file if name == "events" else tmp_path / name).mkdir()
    with pytest.raises(FileError, match=rf"{name}\S*: cannot write there \(Is a directory\); check folder and disk"):
        log.write({"epoch": 1, "loss": 1.0})


def test_the_folder_is_made(tmp_path):
    Log(tmp_path / "runs" / "first", []).write({"epoch": 1, "loss": 1.0})
    assert rows(tmp_path / "runs" / "first") == [{"epoch": "1", "loss": "1"}]
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"cannot write there \(File exists\)"):
        Log(tmp_path / "file", [])
