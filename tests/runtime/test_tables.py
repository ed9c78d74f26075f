"""Scores as columns, for libraries that none of ours imports."""

import subprocess
import sys

import duckdb
import pandas
import polars
import pyarrow as pa
import pytest

from iqa_runtime import Scorer
from iqa_runtime.commands.rows import CLIP_KEYS
from iqa_runtime.results import Score
from iqa_runtime.tables import arrow_schema, to_columns


@pytest.fixture
def scores(artefacts, tmp_path, noise, save_png):
    good = save_png(tmp_path / "a.png", noise(48, 64))
    with Scorer(artefacts.mean()) as scorer:
        return list(scorer.score_many([str(good), str(tmp_path / "gone.png"), good.read_bytes()]))


def test_pandas_and_polars_take_columns_as_they_are(scores):
    columns = to_columns(scores)
    assert [*columns] == [*scores[0].row()]
    by_pandas, by_polars = pandas.DataFrame(columns), polars.DataFrame(columns)
    assert by_polars.to_dicts() == [score.row() for score in scores]
    assert by_polars["score"].dtype == polars.Float64
    assert by_pandas["score"].isna().tolist() == [False, True, False]
    assert by_pandas["score"][0] == scores[0].value
    mean = (scores[0].value + scores[2].value) / 2
    assert duckdb.sql("select avg(score) from by_pandas").fetchall() == [(mean,)]
    assert duckdb.sql("select avg(score) from by_polars").fetchall() == [(mean,)]


def test_no_scores_are_no_columns():
    assert to_columns([]) == {}


def test_nothing_else_is_imported():
    code = "import sys, iqa_runtime.tables; print({'pandas', 'polars', 'pyarrow', 'duckdb'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_every_key_of_a_row_has_a_type():
    result = Score(path="a", value=0.5, range=(0.0, 1.0), higher_is_better=True, trained=True)
    assert arrow_schema(tuple(result.row())).names == [*result.row()]
    assert arrow_schema(CLIP_KEYS).names == [*CLIP_KEYS]


def test_measures_are_a_number_each():
    schema = arrow_schema(["path", "measures", "group", "rank"], ["sharpness", "noise"], {"a": "b"})
    rows = [{"path": "a", "measures": {"sharpness": 0.5, "noise": None}, "group": "g", "rank": 1}, {"path": "b"}]
    table = pa.Table.from_pylist(rows, schema=schema)
    assert table["measures"].to_pylist() == [{"sharpness": 0.5, "noise": None}, None]
    assert (schema.field("rank").type, schema.metadata) == (pa.int32(), {b"a": b"b"})
