"""The folder of rows: what is resumed, what is tried again, what is no row."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iqa_runtime import UsageError
from iqa_serving.ray_data.output import Counts, Output


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out"


def write(folder, name, errors, *, listed="done"):
    """Write a file of rows and the list of what is in it, as Ray does."""
    lists = folder.with_name("out.checkpoint")
    for each in (folder, lists):
        each.mkdir(exist_ok=True)
    paths = [f"{name}{number}" for number in range(len(errors))]
    rows = pa.table({"path": paths, "error": pa.array(errors, pa.string()), "artefact": ["0123:five"] * len(errors)})
    name = f"{name}_{'0' * 32}_000000"
    pq.write_table(rows, folder / f"{name}-0.parquet")
    if listed is not None:
        ending = {"done": ".parquet", "pending": ".pending.parquet"}[listed]
        pq.write_table(pa.table({"path": paths}), lists / f"{name}{ending}")


def left(folder):
    rows = {row["path"] for file in folder.iterdir() for row in pq.read_table(file).to_pylist()}
    lists = folder.with_name("out.checkpoint")
    return rows, {row["path"] for file in lists.iterdir() for row in pq.read_table(file).to_pylist()}


def test_a_folder_that_is_not_there_or_empty_is_new(folder):
    output = Output(str(folder))
    output.check_new()
    folder.mkdir()
    output.check_new()
    assert output.resume() is None
    assert output.count() == Counts(0, 0)
    write(folder, "a", [None])
    with pytest.raises(UsageError, match="there are rows already; go on with ``resume``"):
        output.check_new()


def test_rows_without_a_score_and_files_that_were_not_finished_are_taken_out(folder):
    write(folder, "a", [None, "e", None])
    write(folder, "b", ["e", "e"])
    write(folder, "c", [None])
    write(folder, "d", [None], listed="pending")
    write(folder, "e", [None], listed=None)
    (folder / f"a_{'0' * 32}_000000-0.parquet.new").write_bytes(b"cut")
    others = [folder / "notes.txt", folder / "mine.parquet"]
    for other in others:
        other.touch()
    output = Output(str(folder))
    assert output.resume() == "0123:five"
    for other in others:
        other.unlink()  # it was left alone
    assert left(folder) == ({"a0", "a2", "c0"}, {"a0", "a2", "c0"})
    assert output.count() == Counts(3, 0)
    assert output.resume() == "0123:five", "nothing is left to take out"


def test_one_that_ended_while_it_took_rows_out_begins_again(folder, monkeypatch):
    write(folder, "a", [None, "e"])
    output = Output(str(folder))
    kept, real = [], Output._write

    def end_at_the_second(self, path, table):
        if kept:
            raise KeyboardInterrupt
        kept.append(path)
        real(self, path, table)

    monkeypatch.setattr(Output, "_write", end_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        output.resume()
    assert left(folder) == ({"a0", "a1"}, {"a0"})
    monkeypatch.undo()
    output.resume()
    assert left(folder) == ({"a0"}, {"a0"})


def test_rows_of_another_run_are_refused(folder):
    write(folder, "a", [None], listed=None)
    with pytest.raises(UsageError, match=r"out\.checkpoint is missing"):
        Output(str(folder)).resume()
