"""Rows as Parquet and Arrow: typed for whoever reads them, whole at the end, read back by --resume."""

import json
import os
import sys
from pathlib import Path

import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iqa_run import GREYS, TOLERANCE, run
from iqa_runtime import FileError, UsageError
from iqa_runtime.artefacts.contract_json import contract_from_json
from iqa_runtime.commands import arrow_rows
from iqa_runtime.commands.arrow_rows import open_arrow_output, read_arrow_rows
from iqa_runtime.commands.resuming import read_rows
from iqa_runtime.commands.rows import CLIP_KEYS, KEYS, TYPED, Format
from iqa_runtime.commands.summary import Summary
from iqa_runtime.contract import Contract
from iqa_runtime.measuring import MEASURED

READERS = {
    Format.PARQUET: (pandas.read_parquet, polars.read_parquet),
    Format.ARROW: (pandas.read_feather, polars.read_ipc),
}


def row(path="a.jpg", **changes):
    whole = {
        "path": path,
        "score": 0.1 + 0.2,
        "percentile": 12.5,
        "verdict": "pass",
        "reasons": ["color", "a,b"],
        "measures": dict(zip(MEASURED, (0.6, 1.25, None, 87, 0.0, 0.5), strict=True)),
        "group": "burst",
        "rank": 2,
        "range": [0.0, None],
        "direction": "higher",
        "width": 640,
        "height": 480,
        "color": "sRGB",
        "patches": 5,
        "milliseconds": 12.345,
        "artefact": "3f2a9c01d47e:five",
        "error": None,
    }
    return whole | changes


def failed(path="b.jpg"):
    nothing = dict.fromkeys(("score", "percentile", "verdict", "reasons", "measures", "group", "rank"))
    nothing |= dict.fromkeys(("width", "height", "color"))
    return row(path, **nothing, patches=0, error="gone")


def write(path, form, rows, **settings):
    with open_arrow_output(path, form, **settings) as writer:
        for each in rows:
            writer.write(each)


@pytest.mark.parametrize("form", TYPED)
@pytest.mark.parametrize("rows", [[row(), failed()], [failed(), row()], [failed()], []])
def test_columns_have_their_types_whatever_is_null(tmp_path, form, rows):
    path = tmp_path / "rows"
    write(path, form, rows)
    by_pandas, by_polars = (read(path) for read in READERS[form])
    assert [*by_pandas.columns] == by_polars.columns == [*KEYS]
    assert (
        by_polars["score"].dtype == by_polars["percentile"].dtype == by_polars["milliseconds"].dtype == polars.Float64
    )
    assert by_polars["width"].dtype == by_polars["height"].dtype == by_polars["patches"].dtype == polars.Int32
    assert by_polars["reasons"].dtype == polars.List(polars.String)
    assert by_polars["range"].dtype == polars.List(polars.Float64)
    for key in ("path", "verdict", "direction", "color", "artefact", "error"):
        assert by_polars[key].dtype == polars.String
    assert by_polars.to_dicts() == rows
    assert by_pandas["score"].dtype == "float64"
    assert by_pandas["score"].isna().tolist() == [each["score"] is None for each in rows]


def test_duckdb_reads_parquet(tmp_path):
    path = tmp_path / "rows.parquet"
    write(path, Format.PARQUET, [row(), failed()])
    query = f"select path, score, width, reasons[1], typeof(score), typeof(width), error from '{path}' order by path"
    assert duckdb.sql(query).fetchall() == [
        ("a.jpg", 0.1 + 0.2, 640, "color", "DOUBLE", "INTEGER", None),
        ("b.jpg", None, None, None, "DOUBLE", "INTEGER", "gone"),
    ]


@pytest.mark.parametrize("form", TYPED)
def test_rows_are_written_in_groups_and_read_back_in_order(tmp_path, form, monkeypatch):
    monkeypatch.setattr(arrow_rows, "_ROWS", 10)
    rows = [row(f"{number}.jpg") for number in range(25)]
    write(tmp_path / "rows", form, rows[5:], keep=rows[:5])
    assert read_rows(tmp_path / "rows", form) == rows
    if form is Format.PARQUET:
        assert pq.ParquetFile(tmp_path / "rows").num_row_groups == 3


@pytest.mark.parametrize("form", TYPED)
def test_names_that_are_no_utf_8_are_escaped(tmp_path, form):
    write(tmp_path / "rows", form, [row(os.fsdecode(b"\xff.jpg"))])
    assert read_arrow_rows(tmp_path / "rows", form)[0]["path"] == "\\udcff.jpg"


@pytest.mark.parametrize("form", TYPED)
def test_file_is_replaced_at_the_end_and_a_pipe_is_written_to(tmp_path, form):
    path = tmp_path / "rows"
    write(path, form, [row()])
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        write(path, form, (row(str(1 / left)) for left in (1, 0)))
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]
    reading, writing = os.pipe()
    write(Path(f"/dev/fd/{writing}"), form, [row()])
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == before


@pytest.mark.parametrize("form", TYPED)
def test_full_device_is_an_error(form):
    with pytest.raises(FileError, match=r"/dev/full: cannot write the rows .*No space left"):
        write(Path("/dev/full"), form, [row()])


@pytest.mark.parametrize("form", TYPED)
def test_what_is_no_file_of_rows_is_not_resumed(tmp_path, form):
    path = tmp_path / "rows"
    contents = [
        b"",
        b"PAR1",
        {"path": ["a.jpg"]},
        {key: [value] for key, value in row(score="0.5").items()},
        {key: [value] for key, value in row(error="and a score").items()},
    ]
    for content in contents:
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif form is Format.PARQUET:
            pq.write_table(pa.table(content), path)
        else:
            with pa.ipc.new_file(path, pa.table(content).schema) as file:
                file.write(pa.table(content))
        with pytest.raises(UsageError, match=f"not a {form} file of this command"):
            read_rows(path, form)
    write(path, form, [row(p05=0.1)], keys=CLIP_KEYS)
    with pytest.raises(UsageError, match="not a"):
        read_rows(path, form)


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize("form", TYPED)
def test_run_writes_rows_and_what_they_are_of(artefacts, form):
    model = artefacts.mean()
    path = Path(f"rows.{form}")
    result = run(model, "shots", "gone.jpg", "--output", path)
    assert (result.exit_code, result.stdout) == (1, "")
    rows = read_arrow_rows(path, form)
    expected = {f"shots/{name}": pytest.approx(value / 255, abs=TOLERANCE) for name, value in GREYS.items()}
    assert {each["path"]: each["score"] for each in rows} == expected | {"gone.jpg": None}
    as_json = [json.loads(line) for line in run(model, "shots", "gone.jpg", "--format", "jsonl").stdout.splitlines()]
    assert [each | {"milliseconds": 0} for each in rows] == [each | {"milliseconds": 0} for each in as_json]
    schema = pq.read_schema(path) if form is Format.PARQUET else pa.ipc.open_file(path).schema
    about = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    assert about["iqa.artefact"] == rows[0]["artefact"]
    assert about["iqa.artefact_sha256"].startswith(rows[0]["artefact"].partition(":")[0])
    assert isinstance(contract_from_json(about["iqa.contract"]), Contract)


@pytest.mark.parametrize("form", TYPED)
def test_interrupted_run_leaves_its_rows_and_is_resumed(artefacts, shots, form, monkeypatch):
    model, path = artefacts.mean(), Path(f"rows.{form}")
    (shots / "bad.png").write_bytes(b"none")
    with monkeypatch.context() as patch:
        add = Summary.add

        def interrupted(self, scored):
            add(self, scored)
            if self.failed + len(self.values) == 2:
                raise KeyboardInterrupt

        patch.setattr(Summary, "add", interrupted)
        assert run(model, "shots", "--output", path).exit_code == 130
    assert [each["path"] for each in read_arrow_rows(path, form)] == ["shots/a.png", "shots/bad.png"]
    result = run(model, "shots", "--output", path, "--resume", "--fail-under", "0.3")
    assert "1 already scored, 3 left" in result.stderr
    rows = {each["path"]: each for each in read_arrow_rows(path, form)}
    assert {name: each["score"] is None for name, each in rows.items()} == {
        **{f"shots/{name}": False for name in GREYS},
        "shots/bad.png": True,
    }
    assert rows["shots/a.png"]["verdict"] == "fail"
    before = path.read_bytes()
    other = run(artefacts.mean("other", model="other"), "shots", "--output", path, "--resume")
    assert (other.exit_code, path.read_bytes()) == (2, before)
    assert "its rows are of another artefact" in other.stderr


@pytest.mark.usefixtures("shots")
@pytest.mark.parametrize("form", TYPED)
def test_what_is_missing_is_said_before_the_first_image(artefacts, form, monkeypatch):
    result = run(artefacts.mean(), "shots", "--format", form)
    assert result.exit_code == 2
    assert f"--format {form} needs --output" in result.stderr
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run(artefacts.mean(), "shots", "--output", f"rows.{form}")
    assert result.exit_code == 2
    assert 'pip install "iqa-deploy[tables]"' in result.stderr
    assert not Path(f"rows.{form}").exists()
