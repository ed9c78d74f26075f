"""Files, tables and archives as blocks: nothing is lost, and what is damaged is a row that says so."""

import io
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iqa_runtime import FileError, UsageError
from iqa_serving.ray_data.listing import Kind, Place, find_places
from iqa_serving.ray_data.reading import read_archive, read_files, read_table
from iqa_serving.ray_data.tables import ERROR, IMAGE, NAME, REFERENCE, Columns, check_names, schema_of


def rows_of(blocks):
    return [row for block in blocks for row in block.to_pylist()]


def read(path, columns, first=None):
    place = Place("t", str(path))
    schema = columns.block_schema(Kind.TABLES, schema_of(first or place, columns))
    return rows_of(read_table(place, columns, schema))


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_files_are_found_as_by_iqa_run_and_each_once(tmp_path, monkeypatch):
    for name in ("b.png", "a.JPG", "sub/c.png", "notes.txt", "t.parquet", "x.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    kind, places = find_places([".", "sub/*.png", str(tmp_path / "b.png")])
    assert kind is Kind.IMAGES
    assert [place.name for place in places] == ["./a.JPG", "./b.png", "./sub/c.png"]
    assert places[0].address == str(tmp_path / "a.JPG")
    assert find_places(["*.parquet"]) == (Kind.TABLES, [Place("t.parquet", str(tmp_path / "t.parquet"))])
    assert find_places(["s3://bucket/x.tar"]) == (Kind.ARCHIVES, [Place("s3://bucket/x.tar", "s3://bucket/x.tar")])
    with pytest.raises(UsageError, match=r"\.parquet and images in one run"):
        find_places(["b.png", "t.parquet"])
    with pytest.raises(UsageError, match="matches nothing"):
        find_places(["*.gif"])


def test_a_file_whose_name_no_table_can_have_is_an_error():
    schema = Columns().block_schema(Kind.IMAGES)
    rows = rows_of(read_files([Place("a.png", "/a.png"), Place("\udcff.png", "/\udcff.png")], schema))
    assert rows[0] == {NAME: "a.png", IMAGE: "/a.png", ERROR: None}
    assert (rows[1][NAME], rows[1][IMAGE]) == ("\\udcff.png", None)
    assert "not UTF-8" in rows[1][ERROR]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.string()])
def test_images_of_a_table_are_called_by_id_path_or_row(tmp_path, kind):
    values = [b"0", None, b"2"] if kind != pa.string() else ["0", None, "2"]
    table = pa.table(
        {"image": pa.array(values, kind), "id": [10, 11, None], "path": ["x", "y", "z"], "label": [0.5, None, 1.5]}
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    rows = read(tmp_path / "t.parquet", Columns("image", None, "id"))
    assert [row[NAME] for row in rows] == ["10", "11", "t#2"]
    placed = [str(tmp_path / value) if isinstance(value, str) else value for value in values]
    assert [row[IMAGE] for row in rows] == placed
    assert [row["label"] for row in rows] == [0.5, None, 1.5]
    assert [(row["input_path"], row["id"]) for row in rows] == [("x", 10), ("y", 11), ("z", None)]
    assert [row[ERROR] for row in rows] == [None, None, "the table has no id for it; fill it in"]
    rows = read(tmp_path / "t.parquet", Columns("image"))
    assert [row[NAME] for row in rows] == (["0", "t#1", "2"] if kind == pa.string() else ["t#0", "t#1", "t#2"])
    assert "input_path" in rows[0]
    assert "input_path" not in read(tmp_path / "t.parquet", Columns("image", None, "path"))[0]


def test_the_name_of_an_address_has_no_secret_and_the_row_still_leads_there(tmp_path):
    address = "https://h/a.jpg?X-Amz-Signature=0123"
    pq.write_table(pa.table({"url": [address], "other": ["r.png"]}), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet", Columns("url", "other")) == [
        {NAME: "https://h/a.jpg", IMAGE: address, ERROR: None, REFERENCE: str(tmp_path / "r.png")}
    ]


def test_paths_in_structures_are_of_the_folder_of_the_table(tmp_path):
    values = [{"bytes": b"0", "path": "0.png"}, None, {"bytes": None, "path": "/2.png"}, {"bytes": None, "path": ""}]
    pq.write_table(pa.table({"image": values}), tmp_path / "t.parquet")
    images = [row[IMAGE] for row in read(tmp_path / "t.parquet", Columns("image"))]
    assert images == [values[0] | {"path": str(tmp_path / "0.png")}, *values[1:]]


def test_a_table_that_is_damaged_or_another_one_is_a_row(tmp_path):
    good = tmp_path / "good.parquet"
    pq.write_table(pa.table({"image": ["a", "b"]}), good)
    (tmp_path / "cut.parquet").write_bytes(good.read_bytes()[:-9])
    pq.write_table(pa.table({"other": [1]}), tmp_path / "other.parquet")
    for name in ("cut.parquet", "other.parquet", "none.parquet"):
        rows = read(tmp_path / name, Columns("image"), first=Place("good", str(good)))
        assert [(row[NAME], row[IMAGE]) for row in rows] == [("t", None)]
        assert "cannot be read to its end" in rows[0][ERROR]
        with pytest.raises((FileError, UsageError)):
            schema_of(Place(name, str(tmp_path / name)), Columns("image"))


def test_names_that_come_twice_are_refused(tmp_path):
    places = [Place(name, str(tmp_path / name)) for name in ("a.parquet", "b.parquet")]
    for number, place in enumerate(places):
        pq.write_table(pa.table({"image": [b"", b""], "id": [number, 7 + number], "n": [7, 8]}), place.address)
    check_names(places, Columns("image"))
    check_names(places, Columns("image", None, "id"))
    with pytest.raises(UsageError, match="two rows are 7; give an ``id_column``"):
        check_names(places, Columns("image", None, "n"))


def test_samples_of_an_archive(tmp_path):
    members = [
        *(("d/1.json", b"{}"), ("d/1.jpg", b"one"), ("d/1.ref.png", b"ref")),
        *(
            ("2.txt", b""),
            ("3.webp", b"three"),
            ("3.jpg", b"other"),
            ("1.jpg", b"again"),
            ("2.json", b""),
            ("1.jpg", b""),
        ),
    ]
    place = Place("x.tar", str(write_tar(tmp_path / "x.tar", members)))
    schema = Columns().block_schema(Kind.ARCHIVES)
    rows = rows_of(read_archive(place, Columns(), schema))
    assert [(row[NAME], row[IMAGE]) for row in rows] == [
        ("x.tar#d/1.jpg", b"one"),
        ("x.tar#2", None),
        ("x.tar#3.webp", b"three"),
        ("x.tar#1.jpg", b"again"),
        ("x.tar#2#2", None),
        ("x.tar#1.jpg#2", b""),
    ]
    columns = Columns("jpg", "ref.png")
    rows = rows_of(read_archive(place, columns, columns.block_schema(Kind.ARCHIVES)))
    assert rows[0] == {NAME: "x.tar#d/1.jpg", IMAGE: b"one", ERROR: None, REFERENCE: b"ref"}
    assert (rows[2][IMAGE], rows[2][REFERENCE]) == (b"other", None)


def test_an_archive_that_is_cut_has_the_images_before_and_says_so(tmp_path):
    whole = write_tar(tmp_path / "x.tar", [(f"{number}.png", bytes(600)) for number in range(4)])
    whole.write_bytes(whole.read_bytes()[:2500])
    rows = rows_of(read_archive(Place("x.tar", str(whole)), Columns(), Columns().block_schema(Kind.ARCHIVES)))
    assert [row[NAME] for row in rows] == ["x.tar#0.png", "x.tar"]
    assert "cannot be read to its end" in rows[1][ERROR]
