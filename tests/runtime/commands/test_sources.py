"""Images that are no files named on the command line: of a table, and of other hosts."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iqa_run import GREYS, TOLERANCE, gray, lines, run, scores
from iqa_runtime.files.remote import MAX_REDIRECTS
from picture_server import serve

SHADES = {name: pytest.approx(value / 255, abs=TOLERANCE) for name, value in GREYS.items()}


@pytest.fixture
def table(shots):
    """The images as paths, bytes and structures, with other columns, in the folder of the images."""
    data = [(shots / name).read_bytes() for name in GREYS]
    columns = {
        "image": [*GREYS, "gone.png"],
        "data": [*data, data[0][:50]],
        "both": [*({"bytes": each, "path": "elsewhere.png"} for each in data), None],
        "id": [10, 11, 12, 13],
        "clean": [data[0], data[0], None, data[0]],
    }
    pq.write_table(pa.table(columns), shots / "t.parquet")
    return "shots/t.parquet"


@pytest.fixture
def server(shots, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serve((shots / "a.png").read_bytes()) as address:
        yield address


def test_images_of_a_table_have_the_scores_of_their_files(artefacts, table):
    model = artefacts.mean()
    by_path = {row["path"]: row for row in lines(run(model, "shots").stdout)}
    for arguments, names in (
        ([], [*GREYS, "gone.png"]),
        (["--column", "data"], [f"{table}#{number}" for number in range(4)]),
        (["--column", "both", "--id-column", "id"], ["10", "11", "12", "13"]),
    ):
        result = run(model, "--from", table, *arguments)
        rows = lines(result.stdout)
        assert result.exit_code == 1
        assert [row["path"] for row in rows] == names
        assert [row["score"] for row in rows] == [*(by_path[f"shots/{name}"]["score"] for name in GREYS), None]
        assert rows[3]["error"].startswith(
            ("shots/gone.png: ", f"{table}#3: truncated PNG", "13: nothing in the table")
        )


def test_references_come_from_a_column_a_folder_or_one_file(artefacts, table, tmp_path):
    model = artefacts.difference(task="nar")
    beside = lines(run(model, "--from", table, "--column", "data", "--reference-column", "clean").stdout)
    assert [row["score"] for row in beside[:2]] == pytest.approx([0, 0.2], abs=TOLERANCE)
    assert "the reference of shots/t.parquet#2: nothing in the table" in beside[2]["error"]
    shared = lines(run(model, "--from", table, "--reference", "shots/a.png").stdout)
    assert [row["score"] for row in shared[:3]] == pytest.approx([0, 0.2, 0.6], abs=TOLERANCE)
    for name in GREYS:
        gray(tmp_path / "clean" / Path(name).name, 51)
    paired = lines(run(model, "--from", table, "--reference", "clean").stdout)
    assert [row["score"] for row in paired[:3]] == pytest.approx([0, 0.2, 0.6], abs=TOLERANCE)


def test_resuming_and_thresholds_take_images_of_a_table_for_what_they_are(artefacts, table, shots):
    (shots / ".iqa.toml").write_text('[[threshold]]\npattern = "x/*"\nfail_under = 0.9\n')
    more = ["--from", table, "--output", "rows.jsonl", "--thresholds", "shots/.iqa.toml"]
    assert run(artefacts.mean(), *more).exit_code == 1  # an image is missing
    gray(shots / "gone.png", 255)
    result = run(artefacts.mean(), *more, "--resume")
    assert (result.exit_code, "3 already scored, 1 left" in result.stderr) == (3, True)
    rows = lines(Path("rows.jsonl").read_text())
    assert {row["path"]: row["verdict"] for row in rows} == {
        **dict.fromkeys(GREYS),
        "x/a.png": "fail",
        "gone.png": None,
    }
    assert scores(rows) == SHADES | {"gone.png": 1.0}


@pytest.mark.parametrize("output", ["shots/t.parquet", "shots/x/a.png"])
def test_output_replaces_neither_the_table_nor_what_it_lists(artefacts, table, output):
    before = Path(output).read_bytes()
    result = run(artefacts.mean(), "--from", table, "--output", output, "--format", "csv")
    assert (result.exit_code, Path(output).read_bytes()) == (2, before)
    assert f"--output: {output} would overwrite" in result.stderr


def test_heat_maps_are_drawn_over_images_of_a_table(artefacts, table):
    result = run(artefacts.mapped(), "--from", table, "--column", "both", "--id-column", "id", "--maps", "maps")
    assert result.exit_code == 1
    assert sorted(path.name for path in Path("maps").iterdir()) == ["10.png", "11.png", "12.png"]


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "shots/t.parquet", "shots/a.png"], "leave shots/a.png out"),
        (["--from", "shots/t.parquet", "--column", "none"], "it has no column none; its columns are image, data"),
        (["--from", "shots/t.parquet", "--reference-column", "clean", "--reference", "shots"], "leave one out"),
        (["--from", "shots/t.parquet", "--reference-column", "clean"], "takes no reference"),
        (["--from", "gone.parquet"], "gone.parquet: cannot read the table"),
        (["--from", "shots/notes.txt"], "no table by its name"),
        (["shots", "--column", "image"], "--column: a column is of a table; give one with --from"),
        (["shots", "--id-column", "id"], "--id-column: a column is of a table"),
        (["shots", "--reference-column", "id"], "--reference-column: a column is of a table"),
        (["shots", "--fetch-timeout", "0"], "--fetch-timeout 0.0: it must be a number of seconds above 0"),
        (["shots", "--fetch-bytes", "0"], "--fetch-bytes"),
        (["--info", "--from", "shots/t.parquet"], "--check and --info stand alone"),
    ],
)
def test_options_that_contradict_each_other_are_usage_errors(artefacts, arguments, said):
    result = run(artefacts.mean(), *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_images_of_other_hosts_stand_among_files_and_show_no_secret(artefacts, server):
    with_password = server.replace("//", "//user:secret@")
    result = run(
        *(artefacts.mean(), f"{with_password}/picture?id=1&token=secret", f"{server}/picture?token=other&id=2"),
        *("shots/x/a.png", f"{server}/round", f"{server}/cut?X-Amz-Signature=secret", f"{server}/sends-much"),
        *(f"{server}/silent", "--fetch-bytes", 10_000, "--fetch-timeout", 0.5),
    )
    rows = lines(result.stdout)
    assert result.exit_code == 1
    assert scores(rows) == {
        f"{server}/picture?id=1": SHADES["a.png"],
        f"{server}/picture?id=2": SHADES["a.png"],
        "shots/x/a.png": SHADES["x/a.png"],
        **dict.fromkeys(f"{server}/{path}" for path in ("round", "cut", "sends-much", "silent")),
    }
    errors = [row["error"] for row in rows if row["error"]]
    assert f"more than {MAX_REDIRECTS} redirects" in errors[0]
    assert "the connection ended before the file did" in errors[1]
    assert "more than 10000 bytes; raise --fetch-bytes" in errors[2]
    assert "not there within 0.5 s; try again, or raise --fetch-timeout" in errors[3]
    assert "secret" not in result.output


def test_a_list_a_table_and_references_name_other_hosts(artefacts, server):
    address = f"{server}/picture?id=3&token=secret"
    listed = run(artefacts.mean(), "-", stdin=f"{address}\nshots/x/a.png\n".encode())
    assert scores(lines(listed.stdout)) == {
        f"{server}/picture?id=3": SHADES["a.png"],
        "shots/x/a.png": SHADES["x/a.png"],
    }
    Path("t.jsonl").write_text("".join(json.dumps({"image": each}) + "\n" for each in (address, "shots/x/a.png")))
    from_table = run(artefacts.mapped(), "--from", "t.jsonl", "--maps", "maps")
    assert scores(lines(from_table.stdout)) == scores(lines(listed.stdout))
    assert len([*Path("maps").rglob("*.png")]) == 2
    compared = run(artefacts.difference(task="nar"), "shots", "--reference", address)
    assert [row["score"] for row in lines(compared.stdout)] == pytest.approx([0, 0.2, 0.6], abs=TOLERANCE)
    assert "secret" not in listed.output + from_table.output + compared.output
