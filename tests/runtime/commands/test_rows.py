"""Rows in every format: what is written, what a reader gets back, and what an interrupted run leaves behind."""

import csv
import io
import json
import os
import re
from contextlib import suppress
from pathlib import Path

import pytest

from iqa_runtime.commands.resuming import read_rows, resume_from
from iqa_runtime.commands.rows import KEYS, STREAMED, TYPED, Format, columns, open_output, open_writer
from iqa_runtime.errors import FileError, UsageError
from iqa_runtime.measuring import MEASURED

NAMES = [
    "plain.jpg",
    "sp ace/ü.png",
    'quote".jpg',
    "comma,semi;.jpg",
    "line\nbreak.jpg",
    "carriage\rreturn.jpg",
    "\r",
    "\r\n\t.jpg",
    "=1+1.jpg",
    "-1.jpg",
    "@a.jpg",
    "\tb.jpg",
    "\u2028\x85.jpg",
    "[red]x.jpg",
]


CUT = {Format.JSONL: '{"path": "c.jp', Format.CSV: "c.jp"}


ARTEFACT = "3f2a9c01d47e:random:20:7"


def good(path="a.jpg", score=0.1 + 0.2):
    values = (
        path,
        score,
        12.5,
        "pass",
        ["color", 'a "b"'],
        dict(zip(MEASURED, (0.6125, 1.25, None, 87, 0.0, 0.5), strict=True)),
        "burst, 7",
        2,
        [0.0, 100.0],
        "higher",
        640,
        480,
        "Display P3 -> sRGB",
        5,
        12.345,
        ARTEFACT,
        None,
    )
    return dict(zip(KEYS, values, strict=True))


def bad(path="b.jpg", error='b.jpg: truncated, says the\n"decoder"'):
    values = (path, *[None] * 7, [0.0, 100.0], "higher", None, None, None, 0, 0.5, ARTEFACT, error)
    return dict(zip(KEYS, values, strict=True))


def written(form, rows, title=""):
    stream = io.StringIO(newline="")
    with open_writer(stream, form, title) as writer:
        for row in rows:
            writer.write(row)
    return stream.getvalue()


def test_json_is_one_array_of_the_rows():
    rows = [good(name) for name in NAMES] + [bad()]
    assert json.loads(written(Format.JSON, rows)) == rows
    assert json.loads(written(Format.JSON, [])) == []


def test_json_lines_is_one_object_a_line():
    rows = [good(name) for name in NAMES] + [bad()]
    lines = written(Format.JSONL, rows).split("\n")
    assert [json.loads(line) for line in lines[:-1]] == rows
    assert lines[-1] == ""


def test_csv_has_the_keys_as_header_and_empty_for_null():
    text = written(Format.CSV, [good(), bad()])
    first, second = csv.DictReader(io.StringIO(text, newline=""))
    assert text.startswith(
        "path,score,percentile,verdict,reasons,measures.sharpness,measures.noise,measures.blockiness,"
        "measures.jpeg_quality,measures.overexposed,measures.underexposed,group,rank,range,direction,width,height,"
        "color,patches,milliseconds,artefact,error\n"
    )
    expected = {key: str(value) for key, value in good().items() if key != "measures"}
    measured = {f"measures.{key}": "" if value is None else str(value) for key, value in good()["measures"].items()}
    assert first == expected | measured | {"reasons": 'color,a "b"', "range": "0.0 100.0", "error": ""}
    assert [second[key] for key in ("score", "reasons", "measures.noise", "rank", "width")] == [""] * 5
    assert second["error"] == bad()["error"]


@pytest.mark.parametrize("form", STREAMED)
def test_rows_are_flushed_one_by_one(form, tmp_path):
    with open_output(tmp_path / "rows", form) as writer:
        for count in (1, 2, 3):
            writer.write(good(f"{count}.jpg"))
            assert len(read_rows(tmp_path / "rows", form)) == count


def test_csv_reads_back_whatever_a_name_holds():
    text = written(Format.CSV, [good(name) for name in NAMES])
    assert [row["path"] for row in csv.DictReader(io.StringIO(text, newline=""), strict=True)] == NAMES


def test_csv_reads_back_in_pandas(tmp_path):
    """As docs/cli.md has it: what looks like no value or like a number may be a name."""
    pandas = pytest.importorskip("pandas")
    names = [*NAMES, "NA", "null", "nan", "001", "1e5", " lead", "\r\r\n", "#", "'"]
    rows = [*map(good, names), bad()]
    (tmp_path / "rows.csv").write_text(written(Format.CSV, rows), encoding="utf-8", newline="")
    empty = {key: [""] for key in ("score", "percentile", "rank", "width", "height", "measures.noise")}
    table = pandas.read_csv(tmp_path / "rows.csv", dtype={"path": str}, keep_default_na=False, na_values=empty)
    assert list(table["path"]) == [*names, "b.jpg"]
    assert list(table["score"].dropna()) == [0.1 + 0.2] * len(names)
    assert (table["rank"].sum(), table["measures.noise"].max()) == (2 * len(names), 1.25)
    assert list(table["error"]) == [""] * len(names) + [bad()["error"]]


@pytest.mark.parametrize("form", STREAMED)
def test_rows_read_back_equal(form, tmp_path):
    rows = [good(name) for name in NAMES] + [bad()]
    (tmp_path / "rows").write_text(written(form, rows), encoding="utf-8", newline="")
    assert read_rows(tmp_path / "rows", form) == rows


@pytest.mark.parametrize("form", STREAMED)
def test_every_cut_leaves_only_whole_rows(form, tmp_path):
    rows = [good('line\nbreak, "quoted".jpg'), bad(), good("c.jpg")]
    data = written(form, rows).encode()
    counts = []
    for end in range(len(data) + 1):
        (tmp_path / "rows").write_bytes(data[:end])
        found = read_rows(tmp_path / "rows", form)
        assert found == rows[: len(found)]
        counts.append(len(found))
    assert counts == sorted(counts)
    assert (counts[0], counts[-2], counts[-1]) == (0, 2, 3)


def test_name_that_is_no_utf_8_is_known_again(tmp_path):
    path = os.fsdecode(b"\xe9t\xe9.jpg")
    for form in STREAMED:
        output = tmp_path / form
        with open_output(output, form) as writer:
            writer.write(good(path))
        assert resume_from(output, form, [path, "new.jpg"])[1] == ["new.jpg"]
    assert json.loads((tmp_path / "jsonl").read_text())["path"] == path


@pytest.mark.parametrize("form", STREAMED)
def test_resume_keeps_scores_and_tries_failures_again(form, tmp_path):
    output = tmp_path / "rows"
    elsewhere = bad("elsewhere.jpg")
    output.write_text(written(form, [good("a.jpg"), bad("b.jpg"), elsewhere]) + CUT[form], newline="")
    keep, left = resume_from(output, form, ["a.jpg", "b.jpg", "c.jpg"])
    assert (keep, left) == ([good("a.jpg"), elsewhere], ["b.jpg", "c.jpg"])
    with open_output(output, form, keep=keep) as writer:
        for path in left:
            writer.write(good(path))
    assert read_rows(output, form) == [good("a.jpg"), elsewhere, good("b.jpg"), good("c.jpg")]
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]


@pytest.mark.parametrize("form", STREAMED)
def test_resume_without_an_earlier_run_starts_one(form, tmp_path):
    assert resume_from(tmp_path / "rows", form, ["a.jpg"]) == ([], ["a.jpg"])
    with open_output(tmp_path / "rows", form, keep=[]) as writer:
        writer.write(good())
    assert read_rows(tmp_path / "rows", form) == [good()]


HEADER = ",".join(columns(KEYS))
RANGE = re.compile(",(?=0(?: 1)?,(?:higher|hi|up))")
"""Before it are eight fields of measures, group and rank, all of them empty."""
FOREIGN = {
    Format.JSONL: [
        *(json.dumps(good() | change) + "\n" for change in (
            {"path": 1}, {"path": None}, {"path": ["a.jpg"]}, {"path": ""}, {"score": None}, {"error": "both"},
            {"score": "0.5"}, {"range": 1}, {"range": [0]}, {"direction": "up"}, {"patches": None}, {"width": 1.5},
            {"milliseconds": None}, {"artefact": ""}, {"artefact": None}, {"more": 1}, {"score": float("nan")},
            {"reasons": "blur"}, {"reasons": [1]}, {"percentile": "12"}, {"percentile": 100.1}, {"percentile": -1},
            {"verdict": "passed"}, {"verdict": True}, {"rank": 0}, {"rank": "1"}, {"group": 1}, {"measures": []},
            {"measures": {"noise": 1.0}}, {"measures": good()["measures"] | {"noise": -1.0}},
            {"measures": good()["measures"] | {"jpeg_quality": 1.5}},
            {"score": float("inf")},
        )),
        json.dumps(good()).replace("0.30000000000000004", "1" + "0" * 400) + "\n",
        "[" * 100_000 + "\n",
        '{"path": ' * 100_000 + "\n",
        "null\n",
        "\n",
        "x" * 100,
        '{"path": "a.jpg", "size": 3',
        '{"path": {"name": "a.jpg"',
        '{"path": "a.jpg", "score": 0.5, "percentile": null, "verdict": null, "reasons": [1',
        '{"path": "a.jpg", "score": 0.5, "percentile": null, "verdict": null, "reasons": null, "measures": [1',
        '{"path": "a.jpg", "score": 0.5, "percentile": null, "verdict": "pass", "reasons": null, "measures": null, '
        '"group": null, "rank": 1, "range": "wi',
        json.dumps(good()) + " and more",
    ],
    Format.CSV: [
        *(f"{HEADER}\n{RANGE.sub(',' * 9, row)}\n" for row in (
            ",0.5,,,,0 1,higher,6,4,sRGB,5,1.0,f:five,", "a.jpg,,,,,0 1,higher,6,4,sRGB,5,1.0,f:five,",
            "a.jpg,0.5,,,,0 1,higher,6,4,sRGB,5,1.0,f:five,both",
            "a.jpg,nan,,,,0 1,higher,6,4,sRGB,5,1.0,f:five,", "a.jpg,inf,,,,0 1,higher,6,4,sRGB,5,1.0,f:five,",
            "a.jpg,0.5,,,,0,higher,6,4,sRGB,5,1.0,f:five,",
            "a.jpg,0.5,,,,0 1,up,6,4,sRGB,5,1.0,f:five,", "a.jpg,0.5,,,,0 1,higher,6,4,sRGB,,1.0,f:five,",
            "a.jpg,0.5,,,,0 1,higher,6,4,sRGB,5,1.0,f:five",
            "a.jpg,0.5,,,,0 1,higher,6,4,sRGB,5,1.0,f:five,,", "a.jpg,half,,,,0 1,higher,6,4,sRGB,5,1.0,f:five,",
            "a.jpg,0.5,,,,0 1,higher,6,4,sRGB,5,1.0,f:five,,",
            "a.jpg,0.5,101,,,0 1,higher,6,4,sRGB,5,1.0,f:five,", "a.jpg,0.5,half,,,0 1,higher,6,4,sRGB,5,1.0,f:five,",
            "a.jpg,0.5,,passed,,0 1,higher,6,4,sRGB,5,1.0,f:five,",
        )),
        "\n",
        "x" * 100,
        "path;score",
        f"{HEADER}\na.jpg,a good one",
        f"{HEADER}\na.jpg,0.5,good{',' * 11}0 1,hi",
        *(f"{HEADER}\na.jpg,0.5,,,,{facts},0 1,higher,6,4,sRGB,5,1.0,f:five,\n" for facts in (
            ",,,101,0,0,,", "0.5,1,2,,2,0,,", ",,,,,,,0", ",,,,,,,best", "nan,,,,0,0,,", ",1e999,,,0,0,,", ",,,,0,,,",
        )),
        f"{HEADER}\na.jpg,0.5{',' * 12}0 1,higher,6,4,sRGB,5,1.0,f:five,,,",
        'a "quoted\n' * 99_999,
    ],
}  # fmt: skip


@pytest.mark.parametrize(("form", "text"), [(form, text) for form, texts in FOREIGN.items() for text in texts])
def test_what_no_run_has_written_is_never_resumed(form, text, tmp_path):
    (tmp_path / "rows").write_text(text, newline="")
    with pytest.raises(UsageError, match="cannot be resumed"):
        resume_from(tmp_path / "rows", form, ["a.jpg"])
    assert (tmp_path / "rows").read_text() == text


@pytest.mark.parametrize("form", STREAMED)
@pytest.mark.parametrize(
    "text", ["some notes\n", '{"path": "a.jpg"}\n', "[1, 2]\n", "path,score\na.jpg,1\n", f"{HEADER}\na,b,c\n"]
)
def test_other_files_are_never_resumed(form, text, tmp_path):
    (tmp_path / "rows").write_text(text)
    with pytest.raises(UsageError, match="cannot be resumed"):
        read_rows(tmp_path / "rows", form)
    assert (tmp_path / "rows").read_text() == text


@pytest.mark.parametrize("form", [Format.JSON, Format.TABLE])
def test_whole_formats_replace_the_file_only_when_done(form, tmp_path):
    output = tmp_path / "rows"
    output.write_text("earlier")
    with open_output(output, form) as writer:
        writer.write(good())
        assert output.read_text() == "earlier"
    assert "a.jpg" in output.read_text()
    with suppress(ZeroDivisionError), open_output(output, form) as writer:
        writer.write(good("new.jpg"))
        raise ZeroDivisionError
    assert "new.jpg" not in output.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]


def test_output_through_a_link_keeps_the_link(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    with open_output(tmp_path / "link.json", Format.JSON) as writer:
        writer.write(good())
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text()) == [good()]


@pytest.mark.parametrize("form", list(Format))
def test_output_that_cannot_be_written_is_named(form, tmp_path):
    with (
        pytest.raises(FileError, match=re.escape(str(tmp_path / "no" / "rows"))),
        open_output(tmp_path / "no" / "rows", form),
    ):
        pass


@pytest.mark.parametrize("form", [form for form in Format if form not in TYPED])
def test_full_device_is_an_error(form):
    with pytest.raises(FileError, match="No space left"), open_output(Path("/dev/full"), form) as writer:
        writer.write(good())


def test_table_shows_names_as_they_are_and_errors_only_if_any():
    text = written(Format.TABLE, [good("[red]x :smile: " + "long" * 60 + ".jpg")], title="yoto, higher is better")
    assert "yoto, higher is better" in text
    assert "[red]x :smile: " + "long" * 60 + ".jpg" in text
    assert "0.3000" in text
    assert "640 x 480" in text
    assert "error" not in text
    assert "b.jpg: truncated" in written(Format.TABLE, [good(), bad()])


def test_table_has_what_some_rows_have():
    text = written(Format.TABLE, [good(), bad()])
    assert re.search(rf"path +score +percentile +verdict +reasons +{' +'.join(MEASURED)} +group +rank +size", text)
    assert re.search(r'color,a "b" +0\.613 +1\.25 +87 +0 +0\.5 +burst, 7 +2 +640', text)
    assert re.search(r"0\.3000 +12\.5 +pass +color", text)
    assert re.search(r"path +score +size", written(Format.TABLE, [bad()]))
