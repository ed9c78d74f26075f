"""Runs with Ray: rows are those of iqa-run, and whatever is killed or damaged, none is lost and none is there twice."""

import io
import tarfile

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from command_line import invoke
from iqa_run import run
from iqa_serving.commands.ray import main
from lethal_backend import LethalBackend

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.usefixtures("cluster"),
]


def rows_in(folder):
    """Return all rows of a folder by what they are called; none may be there twice."""
    rows = pyarrow.dataset.dataset(folder).to_table().to_pylist()
    by_path = {row["path"]: row for row in rows}
    assert len(by_path) == len(rows)
    return by_path


def without_time(rows):
    return {path: {key: value for key, value in row.items() if key != "milliseconds"} for path, row in rows.items()}


def write_pictures(folder, picture, count):
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:03}.png").write_bytes(picture(number))
    return folder


def test_rows_of_a_folder_are_those_of_iqa_run(artefact, tmp_path, picture):
    path, folder = artefact(), write_pictures(tmp_path / "pictures", picture, 8)
    (folder / "cut.png").write_bytes(picture(9)[:60])
    (folder / "large.png").write_bytes(picture(10, (80, 90)))
    options = ("--measure", "--pixel-limit", 7000, "--output")
    assert run(path, folder, *options, tmp_path / "run.parquet").exit_code == 1
    done = invoke(main, path, folder, *options, tmp_path / "out", "--rows-per-file", 4, "--workers", 2)
    assert done.exit_code == 1, done.stderr
    assert "10 images, 2 without a score" in done.stderr
    expected = pq.read_table(tmp_path / "run.parquet")
    assert without_time(rows_in(tmp_path / "out")) == without_time({row["path"]: row for row in expected.to_pylist()})
    written = pyarrow.dataset.dataset(tmp_path / "out")
    assert list(written.schema) == list(expected.schema)
    assert len(written.files) == 3
    about = pq.read_schema(written.files[0]).metadata
    assert {key: value for key, value in about.items() if key.startswith(b"iqa.")} == expected.schema.metadata
    again = invoke(main, path, folder, *options, tmp_path / "out")
    assert again.exit_code == 2
    assert "go on with --resume, or give another --output" in again.stderr


def test_a_table_keeps_its_columns_and_what_had_no_score_is_tried_again(artefact, tmp_path, picture):
    path, folder = artefact(), write_pictures(tmp_path / "pictures", picture, 6)
    names = [f"{number:03}.png" for number in range(7)]  # the last is not there
    table = pa.table({"id": range(7), "file": names, "width": [str(number) for number in range(7)]})
    pq.write_table(table, folder / "table.parquet", row_group_size=3)
    arguments = (path, folder / "table.parquet", "--column", "file", "--id-column", "id", "--output", tmp_path / "out")
    arguments = (*arguments, "--rows-per-file", 3, "--workers", 2)
    assert invoke(main, *arguments).exit_code == 1
    first = rows_in(tmp_path / "out")
    assert run(path, *sorted(folder.glob("*.png")), "--output", tmp_path / "run.parquet").exit_code == 0
    expected = [row["score"] for row in pq.read_table(tmp_path / "run.parquet").to_pylist()]
    assert [first[str(number)]["score"] for number in range(7)] == [*expected, None]
    assert [(row["id"], row["input_width"]) for row in map(first.get, map(str, range(7)))] == [
        (number, str(number)) for number in range(7)
    ]
    (folder / names[6]).write_bytes(picture(6))
    resumed = invoke(main, *arguments, "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    second = rows_in(tmp_path / "out")
    assert second.pop("6")["score"] is not None
    assert second == {path: row for path, row in first.items() if path != "6"}, "these rows are as they were"
    other = invoke(main, artefact("other", above=0.5), *arguments[1:], "--resume")
    assert other.exit_code == 2
    assert "give another --output" in other.stderr


def test_an_archive_with_references(artefact, tmp_path, picture):
    path = artefact("differ", task="fr", above=0.25)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for number in range(3):
            for suffix in ("png", "ref.png"):
                member = tarfile.TarInfo(f"{number}.{suffix}")
                member.size = len(picture(number))
                archive.addfile(member, io.BytesIO(picture(number)))
    arguments = (tmp_path / "x.tar", "--column", "png", "--reference-column", "ref.png", "--output", tmp_path / "out")
    assert invoke(main, path, *arguments, "--workers", 1).exit_code == 0
    rows = rows_in(tmp_path / "out")
    assert {name: row["score"] for name, row in rows.items()} == {
        f"{tmp_path / 'x.tar'}#{n}.png": 0.25 for n in range(3)
    }


def test_workers_that_are_killed_cost_no_row_and_an_image_that_kills_them_has_an_error(artefact, tmp_path, picture):
    from iqa_serving.ray_data.cluster import Workers
    from iqa_serving.ray_data.job import Job
    from iqa_serving.ray_data.listing import find_places
    from iqa_serving.ray_data.output import Output
    from iqa_serving.ray_data.source import ImageFiles
    from iqa_serving.ray_data.tables import Columns

    folder = write_pictures(tmp_path / "pictures", picture, 10)
    for name, value in (("black", 0), ("white", 255)):
        cv2.imwrite(str(folder / f"{name}.png"), np.full((30, 30, 3), value, np.uint8))
    path, output = artefact(), Output(str(tmp_path / "out"))
    source = ImageFiles(*find_places([str(folder)]), Columns(), 3)
    scoring = {"backend": LethalBackend}
    Job(artefact=str(path), source=source, output=output, workers=Workers(count=2), rows=3, scoring=scoring).run()
    rows = rows_in(tmp_path / "out")
    assert len(rows) == 12
    failed = {name: row["error"] for name, row in rows.items() if row["error"] is not None}
    assert [*failed] == [str(folder / "white.png")]
    assert "it ended the process that scored it" in failed[str(folder / "white.png")]
    run(path, folder, "--output", tmp_path / "run.parquet")
    expected = {row["path"]: row["score"] for row in pq.read_table(tmp_path / "run.parquet").to_pylist()}
    assert {name: row["score"] for name, row in rows.items()} == expected | {str(folder / "white.png"): None}
