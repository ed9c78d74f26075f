"""What a run leaves behind: whole files, readable by others, from which it goes on as if it had never stopped."""

import os
import resource
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from iqa_runtime.errors import FileError, UsageError
from iqa_training.loop import fit
from iqa_training.run.state import State
from labelled_pictures import Pictures
from line_recipe import LineRecipe, checkpoint, interrupt, line_run, logged_events, rows, shades


@contextmanager
def no_file_above(size: int):
    """Let writes fail beyond a size (bytes), as on a full disk but with another number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def whole(tmp_path):
    """The folder of a run that nothing stopped."""
    fit(line_run(tmp_path / "whole"))
    return tmp_path / "whole"


def table(folder) -> list[dict[str, str]]:
    """Return the rows but for what differs from one run to the next."""
    return [row | {"seconds": ""} for row in rows(folder)]


@pytest.mark.parametrize("name", ["events", "best.safetensors", "last.pt"])
def test_a_full_disk_is_an_error_and_the_run_goes_on_later(tmp_path, whole, name):
    size = 10 if name == "events" else (whole / name).stat().st_size - 1
    folder = tmp_path / "full"
    complaint = rf"{name}\S*: cannot write there \(File too large\); check folder and disk"
    with no_file_above(size), pytest.raises(FileError, match=complaint):
        fit(line_run(folder))
    left = {file.name.partition(".out.")[0] for file in folder.iterdir()}
    assert left <= {"events", "best.safetensors", "metrics.csv", "last.pt"}
    fit(line_run(folder))
    (kept, about), (expected, about_whole) = checkpoint(folder), checkpoint(whole)
    assert about == about_whole
    assert all(torch.equal(kept[name], tensor) for name, tensor in expected.items())
    assert table(folder) == table(whole)


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_files_have_the_mode_that_the_user_asks_for(tmp_path, mask):
    before = os.umask(mask)
    try:
        fit(line_run(tmp_path, epochs=1))
    finally:
        os.umask(before)
    modes = {file.name.partition(".out.")[0]: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("best.safetensors", "last.pt", "metrics.csv", "events"), 0o666 & ~mask)


@pytest.mark.parametrize("change", ["gone", "cut off", "no table", "ahead"])
def test_the_table_is_as_long_as_the_run_whatever_a_kill_left_of_it(tmp_path, whole, change):
    folder = tmp_path / "parts"
    interrupt(line_run(folder), 2)
    file = folder / "metrics.csv"
    content = file.read_bytes()
    if change == "gone":
        file.unlink()
    else:
        file.write_bytes({"cut off": content[:-20], "no table": b"\0\0", "ahead": content + b"3,1,1,1,1,1,1\n"}[change])
    fit(line_run(folder))
    assert table(folder) == table(whole)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_beside_the_state_loses_no_row_and_no_event(tmp_path, whole, monkeypatch, when):
    folder, save, saved = tmp_path / "parts", State.save, []

    def killed(self, progress):
        saved.append(progress.epoch)
        if when == "after" or len(saved) < 3:
            save(self, progress)
        if len(saved) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(State, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(line_run(folder))
    fit(line_run(folder))
    assert table(folder) == table(whole)
    assert [step for step, _ in logged_events(folder)["loss_total"]] == [1, 2, 3, 4]


def test_the_table_of_a_run_that_is_done_comes_back(whole):
    before = table(whole)
    (whole / "metrics.csv").unlink()
    fit(line_run(whole))
    assert table(whole) == before


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_resumed_run_takes_no_other_labels(tmp_path, part):
    run = line_run(tmp_path)
    interrupt(run, 1)
    items = getattr(run, part).items
    swapped = [replace(items[0], label=items[1].label), replace(items[1], label=items[0].label), *items[2:]]
    with pytest.raises(
        UsageError, match=rf"{part}\w*_pictures was {len(items)} pictures, digest \w+, is {len(items)} "
    ):
        fit(replace(line_run(tmp_path), **{part: Pictures(swapped)}))


def test_a_resumed_run_takes_no_other_photographs(tmp_path):
    folder = tmp_path / "run"
    recipe, other = LineRecipe(), LineRecipe()
    (tmp_path / "a.png").write_bytes(b"picture")
    recipe.photographs = other.photographs = [tmp_path / "a.png"]
    interrupt(line_run(folder, recipe), 1)
    (tmp_path / "a.png").write_bytes(b"another picture")
    with pytest.raises(UsageError, match="photographs was 1 photographs, digest"):
        fit(line_run(folder, other))


def test_a_state_of_other_pictures_is_kept(tmp_path):
    interrupt(line_run(tmp_path), 1)
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(UsageError, match="training_pictures was"):
        fit(replace(line_run(tmp_path), train=shades(12)))
    assert (tmp_path / "last.pt").read_bytes() == before
