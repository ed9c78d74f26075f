import errno
import os
import stat
from pathlib import Path

import pytest

from iqa_runtime.errors import ArtefactError, FileError, UsageError
from iqa_runtime.files.overwriting import (
    check_output,
    check_targets,
    is_stream,
    open_straight,
    replaced_at_once,
    rewritten,
    write_at_once,
)


def content(folder):
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def write_all(targets, text="new", error=None):
    with replaced_at_once(targets) as folder:
        for path in targets:
            (folder / path.name).write_text(text, encoding="utf-8")
        if error is not None:
            raise error


@pytest.fixture
def pair(tmp_path):
    """Two files of an earlier run, the folder's only ones."""
    first, second = tmp_path / "x.plan", tmp_path / "x.plan.json"
    first.write_text("old plan", encoding="utf-8")
    second.write_text("old description", encoding="utf-8")
    return first, second


def test_outputs_need_a_folder_and_the_right_name(tmp_path):
    check_output(tmp_path / "x.onnx", ".onnx")
    check_output(tmp_path / "anything")
    with pytest.raises(UsageError, match=r"x\.plan``: the name must end in \.onnx"):
        check_output(tmp_path / "x.plan", ".onnx")
    (tmp_path / "file").touch()
    for parent in ("absent", "file"):
        with pytest.raises(FileError, match=f"{parent}: no such folder"):
            check_output(tmp_path / parent / "x.onnx", ".onnx")


@pytest.mark.parametrize("alias", ["x.onnx", "sub/../x.onnx", "link.onnx", "hard.onnx"])
def test_a_source_is_no_target_under_any_name(tmp_path, alias):
    source = tmp_path / "x.onnx"
    source.touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.onnx").symlink_to(source)
    (tmp_path / "hard.onnx").hardlink_to(source)
    with pytest.raises(UsageError, match=r"--output: .* would overwrite the artefact"):
        check_targets([("--output", tmp_path / alias)], [("the artefact", source)])


def test_targets_that_are_new_or_others_may_be_written(tmp_path):
    (tmp_path / "x.onnx").touch()
    (tmp_path / "y.onnx").touch()
    sources = [("the artefact", tmp_path / "x.onnx"), ("an image", tmp_path / "absent.png"), ("an image", "a\0b")]
    check_targets([("--output", tmp_path / "y.onnx"), ("--json", tmp_path / "absent.png")], sources)


def test_files_are_replaced_and_nothing_else_is_left(tmp_path, pair):
    with replaced_at_once(pair) as folder:
        for path in pair:
            (folder / path.name).write_text("new", encoding="utf-8")
        assert pair[0].read_text(encoding="utf-8") == "old plan"
        assert folder.stat().st_dev == tmp_path.stat().st_dev  # renaming goes nowhere else
    assert content(tmp_path) == {"x.plan": "new", "x.plan.json": "new"}


def test_a_target_without_a_new_file_goes(tmp_path, pair):
    with replaced_at_once(pair) as folder:
        (folder / "x.plan.json").write_text("new", encoding="utf-8")
    assert content(tmp_path) == {"x.plan.json": "new"}
    with replaced_at_once(pair) as folder:
        pass
    assert content(tmp_path) == {}


@pytest.mark.parametrize("error", [ArtefactError("refused"), KeyboardInterrupt()])
def test_an_error_changes_nothing(tmp_path, pair, error):
    before = content(tmp_path)
    with pytest.raises(type(error)):
        write_all(pair, error=error)
    assert content(tmp_path) == before


def test_where_the_last_cannot_be_replaced_the_first_comes_back(tmp_path, pair):
    pair[1].unlink()
    pair[1].mkdir()
    with pytest.raises(FileError, match=r"x\.plan\.json: cannot write there"):
        write_all(pair)
    assert pair[0].read_text(encoding="utf-8") == "old plan"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.plan", "x.plan.json"]


def test_where_the_first_was_new_it_goes_again(tmp_path, pair):
    pair[0].unlink()
    pair[1].unlink()
    pair[1].mkdir()
    with pytest.raises(FileError):
        write_all(pair)
    assert [path.name for path in tmp_path.iterdir()] == ["x.plan.json"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    target = tmp_path / "absent" / "x.onnx"
    with pytest.raises(FileError, match=r"x\.onnx: cannot write there"):
        write_all([target])


def test_permissions_are_those_of_a_file_written_as_usual(tmp_path):
    umask = os.umask(0o022)
    try:
        write_at_once(tmp_path / "x.json", b"{}")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == 0o644


def test_one_file_is_written_where_a_link_points_to(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "deep" / "x.json")
    for text in (b"first", b"second"):
        write_at_once(tmp_path / "link.json", text)
        assert (tmp_path / "deep" / "x.json").read_bytes() == text
    assert (tmp_path / "link.json").is_symlink()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.json"]


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_at_once(pipe, b"content")
        assert os.read(reader, 100) == b"content"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    with pytest.raises(FileError, match="cannot write there"):
        write_at_once(tmp_path, b"a folder")


@pytest.fixture
def mounted(monkeypatch):
    """Nothing can be renamed onto a file, as where it is mounted by itself."""

    def refuse(_, target):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(target))

    monkeypatch.setattr(Path, "replace", refuse)


@pytest.mark.usefixtures("mounted")
@pytest.mark.parametrize("earlier", ["old", "old and longer than the new content"])
def test_a_file_that_cannot_be_replaced_is_written_in_place(tmp_path, earlier):
    target = tmp_path / "x.json"
    target.write_text(earlier, encoding="utf-8")
    node = target.stat().st_ino
    write_at_once(target, b"new content")
    assert content(tmp_path) == {"x.json": "new content"}
    assert target.stat().st_ino == node


@pytest.mark.usefixtures("mounted")
def test_what_can_be_put_nowhere_is_kept_and_named(tmp_path):
    with (
        pytest.raises(FileError, match="what was to be written is in ") as caught,
        rewritten(tmp_path / "x", keep=True) as new,
    ):
        new.write_text("an hour of work", encoding="utf-8")
    assert str(new) in str(caught.value)
    assert new.read_text(encoding="utf-8") == "an hour of work"


def test_new_content_is_written_where_nobody_can_have_laid_a_link(tmp_path):
    names = set()
    for _ in range(2):
        with rewritten(tmp_path / "x.json") as new:
            names.add(new.parent.name)
            assert stat.S_IMODE(new.parent.stat().st_mode) == 0o700
            new.write_text("{}", encoding="utf-8")
    assert len(names) == 2
    assert content(tmp_path) == {"x.json": "{}"}


def test_streams_of_this_process_are_written_to_as_they_stand(tmp_path):
    with (tmp_path / "log").open("wb") as log:
        log.write(b"before, ")
        log.flush()
        (tmp_path / "link").symlink_to(f"/dev/fd/{log.fileno()}")
        for path in (Path(f"/dev/fd/{log.fileno()}"), tmp_path / "link"):
            assert is_stream(path)
            with open_straight(path) as stream:
                stream.write(b"rows, ")
    assert (tmp_path / "log").read_bytes() == b"before, rows, rows, "
    assert not is_stream(tmp_path / "log")
    assert open_straight(tmp_path / "absent") is None
