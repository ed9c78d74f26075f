"""The stage on its own, without Ray: rows are those of a scorer, whatever a value of a column is."""

import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow as pa
import pytest

from iqa_runtime import BackendError, Scorer, UsageError
from iqa_runtime.backends.onnx_runtime import OnnxRuntimeBackend
from iqa_runtime.commands.rows import KEYS
from iqa_serving.ray_data import ScoreImages
from iqa_serving.ray_data.stage import given_by_ray


def without_time(rows):
    return [{key: value for key, value in row.items() if key != "milliseconds"} for row in rows]


@pytest.fixture
def files(tmp_path, picture):
    """Write pictures, one that is cut, and name one that is not there."""
    for name, data in {"a.png": picture(1), "b.png": picture(2), "cut.png": picture(3)[:50]}.items():
        (tmp_path / name).write_bytes(data)
    return [str(tmp_path / name) for name in ("a.png", "cut.png", "none.png", "b.png")]


def test_rows_are_those_of_a_scorer(artefact, files):
    path = artefact()
    with Scorer(path, measure=True) as scorer:
        expected = [score.row() for score in scorer.score_many(files)]
    table = ScoreImages(path, measure=True)(pa.table({"image": files}))
    assert table.column_names == list(KEYS)
    assert table.schema.field("width").type == pa.int32()
    assert without_time(table.to_pylist()) == without_time(expected)
    assert [row["error"] is None for row in table.to_pylist()] == [True, False, False, True]


def test_all_kinds_of_values_are_the_same_picture(artefact, files, tmp_path, picture):
    stage = ScoreImages(artefact(), column="x", id_column="n", folder=str(tmp_path))
    expected = ScoreImages(artefact())(pa.table({"image": files[:1]})).to_pylist()[0]["score"]
    structures = [{"bytes": picture(1), "path": None}, {"bytes": None, "path": "a.png"}]
    for column in (["a.png"], [files[0]], pa.array([picture(1)], pa.large_binary()), structures):
        table = pa.table({"n": range(len(column)), "x": column})
        rows = stage(table).to_pylist()
        assert [(row["path"], row["score"]) for row in rows] == [(str(n), expected) for n in range(len(column))]


def test_a_row_without_an_image_has_an_error_and_the_columns_that_are_kept(artefact, picture):
    batch = pa.table(
        {
            "image": pa.array([picture(1), None, b""], pa.binary()),
            "width": [1, 2, 3],
            "why": [None, "it was taken away", None],
        }
    )
    table = ScoreImages(artefact(), error_column="why", words=str.upper)(batch)
    assert table.column_names == [*KEYS, "input_width"]
    rows = table.to_pylist()
    assert [row["input_width"] for row in rows] == [1, 2, 3]
    assert [row["path"] for row in rows] == [None] * 3
    assert rows[1]["error"] == "IMAGE: IT WAS TAKEN AWAY"
    assert rows[2]["error"].startswith("IMAGE: NOTHING IN THE TABLE")


def test_references_stand_in_a_column_and_one_that_is_missing_is_an_error(artefact, picture):
    path = artefact("differ", task="fr", above=0.25)
    images = [picture(1), picture(2), picture(2)]
    references = pa.array([picture(1), None, picture(1, (10, 10))], pa.binary())
    stage = ScoreImages(path, reference_column="other")
    rows = stage(pa.table({"image": images, "other": references})).to_pylist()
    assert rows[0]["score"] == 0.25
    assert [row["error"] is None for row in rows] == [True, False, False]
    with pytest.raises(UsageError, match="compares with a reference"):
        ScoreImages(path)(pa.table({"image": images}))


def test_what_cannot_be_is_refused(artefact, picture):
    stage = ScoreImages(artefact(), keep=["x"])
    with pytest.raises(UsageError, match="give map_batches batch_format='pyarrow'"):
        stage({"image": np.zeros(1)})
    with pytest.raises(UsageError, match="no column x; its columns are image"):
        stage(pa.table({"image": ["a.png"]}))
    both = pa.table({"image": [picture(1)], "score": [1], "input_score": [1]})
    with pytest.raises(UsageError, match="a column score, as rows have, and input_score"):
        ScoreImages(artefact())(both)


@pytest.mark.parametrize(
    ("resources", "gpus", "given"),
    [({"CPU": 2.0}, [], {"threads": 2}), ({"CPU": 0.5}, ["0"], {"threads": 1, "device": "cuda"})],
)
def test_an_actor_takes_what_ray_has_given_it(monkeypatch, resources, gpus, given):
    context = SimpleNamespace(
        get_actor_id=lambda: "a",
        get_assigned_resources=lambda: resources,
        get_accelerator_ids=lambda: {"GPU": gpus},
        was_current_actor_reconstructed=None,
    )
    ray = SimpleNamespace(is_initialized=lambda: True, get_runtime_context=lambda: context)
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert given_by_ray() == (given, False)


class Broken(OnnxRuntimeBackend):
    def _run(self, inputs, outputs):
        raise BackendError("the device has gone")


class Unlucky(OnnxRuntimeBackend):
    """Fails for white pictures."""

    def _run(self, inputs, outputs):
        if np.all(inputs["image"] == 1):
            raise BackendError("no score")
        return super()._run(inputs, outputs)


def test_a_model_that_fails_for_every_image_ends_the_job_and_one_that_fails_for_some_does_not(artefact, picture):
    stage = ScoreImages(artefact(), backend=Broken)
    with pytest.raises(BackendError, match="the device has gone"):
        stage(pa.table({"image": [picture(1), picture(2)]}))
    white = cv2.imencode(".png", np.full((30, 30, 3), 255, np.uint8))[1].tobytes()
    rows = ScoreImages(artefact(), backend=Unlucky)(pa.table({"image": [white, white]})).to_pylist()
    assert [row["error"] for row in rows] == ["no score"] * 2


def test_flat_pictures_of_jpeg_too(artefact, tmp_path):
    path = tmp_path / "flat.jpg"
    cv2.imwrite(str(path), np.full((40, 40, 3), 90, np.uint8))
    with Scorer(artefact()) as scorer:
        expected = scorer.score(path).value
    for image in (str(path), path.read_bytes()):
        assert ScoreImages(artefact())(pa.table({"image": [image]}))["score"].to_pylist() == [expected]
