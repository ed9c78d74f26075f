"""Images that a table lists: what they are called, and that their bytes are those of the table."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from iqa_runtime import DependencyError, FileError, ImageError, UsageError
from iqa_runtime.files.remote import Fetcher, RemoteImage
from iqa_runtime.files.table_files import open_table
from iqa_runtime.files.table_inputs import TableInputs

DATA = [f"image {number}".encode() for number in range(40)]
"""More than are read at once; here nothing decodes them."""


def write(path, columns):
    """Write a table in the format of its suffix."""
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=25)
    elif path.suffix == ".csv":
        pa.csv.write_csv(table, path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        new = pa.ipc.new_stream if path.suffix == ".feather" else pa.ipc.new_file
        with new(path, table.schema) as file:
            file.write_table(table, max_chunksize=25)
    return path


def read(path, column="image", **columns):
    return TableInputs(path, column, fetcher=Fetcher(), **columns)


def contents(inputs):
    return {image.name: image.read() for image, _ in inputs.pairs(inputs.names)}


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather", ".csv", ".jsonl"])
def test_paths_are_relative_to_the_table_and_called_as_it_has_them(tmp_path, monkeypatch, suffix):
    (tmp_path / "data").mkdir()
    for number, data in enumerate(DATA):
        (tmp_path / f"data/{number}.png").write_bytes(data)
    paths = [f"{number}.png" for number in range(40)]
    write(tmp_path / f"data/table{suffix}", {"x": range(42), "image": [*paths, "0.png", str(tmp_path / "data/3.png")]})
    monkeypatch.chdir(tmp_path)
    inputs = read(Path(f"data/table{suffix}"))
    assert inputs.names == [*paths, str(tmp_path / "data/3.png")], "a path that comes again is one image"
    assert inputs.files["7.png"] == "data/7.png"
    assert contents(inputs) == dict(zip(paths, DATA, strict=True)) | {str(tmp_path / "data/3.png"): DATA[3]}


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather"])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_bytes_are_called_by_their_row(tmp_path, suffix, kind):
    path = write(tmp_path / f"table{suffix}", {"image": pa.array(DATA, kind)})
    inputs = read(path)
    assert inputs.names == [f"{path}#{number}" for number in range(40)]
    assert list(contents(inputs).values()) == DATA
    assert [image.name for image, _ in inputs.pairs([f"{path}#30", f"{path}#2"])] == [f"{path}#2", f"{path}#30"]


def test_an_address_in_the_column_of_names_loses_what_gives_access(tmp_path):
    path = write(tmp_path / "table.parquet", {"image": DATA[:1], "id": ["https://u:p@h/a.jpg?sig=s&w=1"]})
    assert read(path, id_column="id").names == ["https://h/a.jpg?w=1"]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather"])
def test_of_bytes_and_path_as_hugging_face_has_them_bytes_count(tmp_path, suffix):
    (tmp_path / "there.png").write_bytes(b"from the file")
    images = [{"bytes": b"from the table", "path": "there.png"}, {"bytes": None, "path": "there.png"}, None]
    path = write(tmp_path / f"table{suffix}", {"image": images, "id": [7, 8, 9]})
    inputs = read(path, id_column="id")
    assert inputs.names == ["7", "8", "9"]
    found = [image for image, _ in inputs.pairs(inputs.names)]
    assert [image.read() for image in found[:2]] == [b"from the table", b"from the file"]
    assert found[0].file is None
    with pytest.raises(ImageError, match="9: nothing in the table"):
        found[2].read()


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_rows_without_an_image_are_images_that_fail(tmp_path, suffix):
    path = write(tmp_path / f"table{suffix}", {"image": ["", None, "a.png"]})
    inputs = read(path)
    assert inputs.names == [f"{path}#0", f"{path}#1", "a.png"]
    for image, _ in inputs.pairs(inputs.names):
        with pytest.raises((ImageError, FileError), match=image.name):
            image.read()


def test_addresses_are_fetched_and_their_secrets_are_not_in_names(tmp_path):
    path = write(tmp_path / "t.csv", {"image": ["https://u:p@h/a.png?token=t", "s3://b/c.png"]})
    inputs = read(path)
    assert inputs.names == ["https://h/a.png", "s3://b/c.png"]
    assert inputs.files == {}
    assert all(isinstance(image, RemoteImage) for image, _ in inputs.pairs(inputs.names))


def test_references_stand_beside_their_images(tmp_path):
    columns = {"image": ["a.png", "a.png"], "clean": [DATA[0], DATA[1]], "id": ["x", "y"]}
    path = write(tmp_path / "t.parquet", columns)
    (tmp_path / "a.png").write_bytes(b"a")
    inputs = read(path, id_column="id", reference_column="clean")
    pairs = [(image.name, image.read(), other.read()) for image, other in inputs.pairs(inputs.names)]
    assert pairs == [("x", b"a", DATA[0]), ("y", b"a", DATA[1])]
    with pytest.raises(UsageError, match=r"rows 0 and 1, counted from 0, are both a.png; give an ``id_column``"):
        read(path, reference_column="clean")
    listed = read(write(tmp_path / "p.csv", {"image": ["a", "b"], "clean": ["c", "c"]}), reference_column="clean")
    assert listed.references == [str(tmp_path / "c")]


@pytest.mark.parametrize("ids", [[1, 1], [1, None], ["", "a"]])
def test_ids_must_be_there_and_unlike(tmp_path, ids):
    path = write(tmp_path / "t.parquet", {"image": ["a", "b"], "id": ids})
    with pytest.raises(UsageError, match="counted from 0"):
        read(path, id_column="id")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.txt", b"image\na.png\n", "no table by its name; give a file ending in .parquet"),
        ("none.csv", None, "cannot read the table .No such file or directory."),
        ("t.parquet", b"PAR1 and no more", "cannot read the table"),
        ("t.arrow", b"ARROW1 and no more", "cannot read the table"),
        ("t.csv", b"", "it has no column image; its columns are none"),
        ("t.csv", b"image\n", "the table has no row"),
        ("t.csv", b"id,image\n1,a.png\n2\n", "line 3 has 1 fields, the header 2"),
        ("t.csv", b'id,image\n1,"a.png\n', "cannot read the table"),
        ("t.jsonl", b'{"image": "a"}\n[1]\n', "line 2 is no object"),
        ("t.jsonl", b'{"image": "a"}\n{"ima', "cannot read the table"),
        ("t.jsonl", b"[" * 100_000, "cannot read the table"),
        ("t.jsonl", b'{"path": "a"}\n', "it has no column image; its columns are path"),
    ],
)
def test_what_is_no_table_is_one_error(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((UsageError, FileError), match=said) as caught:
        read(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_a_byte_order_mark_and_quoted_newlines_are_read(tmp_path):
    (tmp_path / "t.csv").write_bytes('\ufeffimage,note\n"a\nb.png","x,\ny"\n\nc.png,\n'.encode())
    assert read(tmp_path / "t.csv").names == ["a\nb.png", "c.png"]


def test_a_table_that_shrinks_while_it_is_read_is_an_error(tmp_path):
    path = write(tmp_path / "t.csv", {"image": ["a.png", "b.png"]})
    inputs = read(path)
    write(path, {"image": ["a.png"]})
    with pytest.raises(FileError, match=r"has changed since the run began \(b.png is gone\)"):
        list(inputs.pairs(inputs.names))


def test_pyarrow_is_asked_for_where_it_is_needed(tmp_path, monkeypatch):
    path = write(tmp_path / "t.csv", {"image": ["a.png"]})
    (tmp_path / "t.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert read(path).names == ["a.png"]
    with pytest.raises(DependencyError, match=r'pip install "iqa-deploy\[tables\]"'):
        open_table(tmp_path / "t.parquet")


def test_names_are_read_without_the_bytes(tmp_path, monkeypatch):
    """A first pass over a hundred gigabytes would take as long as the scoring."""
    images = [{"bytes": bytes(10**6), "path": None}] * 20
    path = write(tmp_path / "t.parquet", {"image": images})
    before = pa.total_allocated_bytes()
    most = []
    plain_rows = type(open_table(path)).rows

    def watched(self, columns, *, light=False):
        for row in plain_rows(self, columns, light=light):
            most.append(pa.total_allocated_bytes() - before)
            yield row

    monkeypatch.setattr(type(open_table(path)), "rows", watched)
    read(path)
    assert len(most) == 20
    assert max(most) < 10**6
