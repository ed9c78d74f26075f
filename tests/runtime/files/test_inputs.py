"""Which files the arguments of iqa-run mean, and which reference belongs to which image."""

import errno
import io
import os
import struct
from pathlib import Path

import pytest

from iqa_runtime.errors import FileError, ImageError, UsageError
from iqa_runtime.files.inputs import expand_inputs, pair_references
from iqa_runtime.images.loading import load_image

pytestmark = pytest.mark.usefixtures("tree")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder with images at three levels, other files among them, as working directory."""
    for name in ("b.jpg", "a.PNG", "notes.txt", "x/1.webp", "x/y/1.webp", "x/y/readme.md", "ü ö/[1] *.tif"):
        path = tmp_path / "shots" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expand(*arguments, stdin=b""):
    return expand_inputs(arguments, io.BytesIO(stdin))


ALL = ["shots/a.PNG", "shots/b.jpg", "shots/x/1.webp", "shots/x/y/1.webp", "shots/ü ö/[1] *.tif"]


@pytest.mark.parametrize("folder", ["shots", "shots/"])
def test_folder_is_its_images_at_every_depth_sorted(folder):
    assert expand(folder) == ALL


@pytest.mark.parametrize(
    "path", ["./shots/b.jpg", "shots//b.jpg", "shots/x/../b.jpg", "./gone.jpg", "http://example.org/a.jpg", "./a\0b"]
)
def test_paths_are_spelled_as_given(path):
    assert expand(path) == expand("-", stdin=path.encode()) == [path]


def test_folders_and_patterns_are_spelled_as_given():
    assert expand("./shots") == [f"./{path}" for path in ALL]
    assert expand("./shots/*.jpg") == ["./shots/b.jpg"]
    assert expand("-", stdin=b"./shots/x") == ["./shots/x/1.webp", "./shots/x/y/1.webp"]


def test_absolute_folder_gives_absolute_paths(tree):
    assert expand(str(tree / "shots")) == [str(tree / path) for path in ALL]


def test_named_file_is_taken_whatever_it_is():
    assert expand("shots/notes.txt", "missing.jpg") == ["shots/notes.txt", "missing.jpg"]


def test_arguments_keep_their_order():
    assert expand("shots/x", "shots/b.jpg") == ["shots/x/1.webp", "shots/x/y/1.webp", "shots/b.jpg"]


@pytest.mark.parametrize("again", ["shots/b.jpg", "./shots/b.jpg", "shots/x/../b.jpg"])
def test_file_reached_twice_stays_at_its_first_place(again):
    assert expand("shots/b.jpg", "shots", again)[:2] == ["shots/b.jpg", "shots/a.PNG"]
    assert len(expand("shots/b.jpg", "shots", again)) == len(ALL)


def test_two_links_to_one_file_are_two_images(tree):
    (tree / "link.jpg").symlink_to(tree / "shots/b.jpg")
    assert expand("shots/b.jpg", "link.jpg") == ["shots/b.jpg", "link.jpg"]


def test_folder_that_links_to_itself_ends(tree):
    (tree / "shots/loop").symlink_to(tree / "shots")
    assert expand("shots") == ALL


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("shots/*.jpg", ["shots/b.jpg"]),
        ("shots/?.*", ["shots/a.PNG", "shots/b.jpg"]),
        ("shots/**/*.webp", ["shots/x/1.webp", "shots/x/y/1.webp"]),
        ("shots/n*", ["shots/notes.txt"]),
        ("sh[ou]ts/x", ["shots/x/1.webp", "shots/x/y/1.webp"]),
    ],
)
def test_pattern_counts_as_if_a_shell_had_expanded_it(pattern, matches):
    assert expand(pattern) == matches


def test_existing_name_is_no_pattern():
    assert expand("shots/ü ö/[1] *.tif") == ["shots/ü ö/[1] *.tif"]


def test_list_on_standard_input():
    listed = b"shots/b.jpg\r\n\nshots/x\nnew*.jpg\n  odd .jpg"
    assert expand("-", stdin=listed) == ["shots/b.jpg", "shots/x/1.webp", "shots/x/y/1.webp", "new*.jpg", "  odd .jpg"]


def test_name_that_is_no_utf_8_survives():
    name = b"\xe9t\xe9.jpg"
    (Path(os.fsdecode(name))).write_bytes(b"")
    assert expand("-", stdin=name + b"\n") == expand(os.fsdecode(name)) == [os.fsdecode(name)]


@pytest.mark.parametrize(
    ("argument", "message"),
    [("empty", "no image"), ("shots/*.gif", "matches nothing"), ("-", "standard input is empty"), ("", "is empty")],
)
def test_nothing_to_score_is_a_usage_error(argument, message):
    with pytest.raises(UsageError, match=message):
        expand("shots", argument, stdin=b"\n")


def test_folder_that_cannot_be_listed_is_an_input_of_its_own(monkeypatch):
    listed = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("shots/x"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert expand("shots") == ["shots/a.PNG", "shots/b.jpg", "shots/x", "shots/ü ö/[1] *.tif"]
    with pytest.raises(FileError, match=r"shots/x: a folder, .* can be listed"):
        load_image("shots/x")


def test_a_list_may_begin_with_a_mark_and_be_separated_by_nul(tree):
    assert expand("-", stdin=b"\xef\xbb\xbfshots/b.jpg\n") == ["shots/b.jpg"]
    (tree / "new\nline.jpg").touch()
    listed = b"new\nline.jpg\0shots/b.jpg\0 \r\0"
    assert expand_inputs(["-"], io.BytesIO(listed), null=True) == ["new\nline.jpg", "shots/b.jpg", " \r"]


def test_what_is_kept_beside_pictures_is_passed_over(tree):
    for name in ("._b.jpg", "Thumbs.db", ".DS_Store", "desktop.ini"):
        (tree / "shots" / name).touch()
    assert expand("shots") == ALL
    assert expand("shots/._b.jpg") == ["shots/._b.jpg"]


@pytest.mark.parametrize("name", ["c.tga", "c.PSD", "c.exr"])
def test_pictures_that_cannot_be_read_are_not_passed_over(tree, name):
    (tree / "shots" / name).write_bytes(b"8BPS")
    assert expand("shots") == sorted([*ALL, f"shots/{name}"], key=Path)
    with pytest.raises(ImageError, match="convert it to PNG, JPEG"):
        load_image(f"shots/{name}")


RAW = {
    "c.dng": struct.pack("<2sHIHHHI4sI", b"II", 42, 8, 1, 50706, 1, 4, b"\1\4\0\0", 0),
    "c.NEF": struct.pack(">2sHIHHHIII", b"MM", 42, 8, 1, 254, 4, 1, 1, 0),
    "c.cr2": struct.pack("<2sHI4sIHHHIII", b"II", 42, 16, b"CR\2\0", 0, 1, 256, 4, 1, 64, 0),
}
"""Directories of one tag: the version of DNG, a reduced picture that comes first, and one with Canon's mark before."""


@pytest.mark.parametrize("name", RAW)
def test_camera_raw_is_not_passed_over_and_the_preview_is_named(tree, name):
    (tree / "shots" / name).write_bytes(RAW[name])
    assert expand("shots") == sorted([*ALL, f"shots/{name}"], key=Path)
    with pytest.raises(ImageError, match=r"a camera raw file.* develop it .* or extract the preview inside"):
        load_image(f"shots/{name}")


@pytest.mark.parametrize("name", ["c.arw", "c.pef", "c.srw", "c.nrw", "c.rw2", "c.orf", "c.raf", "c.cr3", "c.iiq"])
def test_raw_of_every_maker_is_an_input(tree, name):
    (tree / "shots" / name).touch()
    assert f"shots/{name}" in expand("shots")


def test_crossing_folders_goes_round_no_circle(tree):
    (tree / "shots/x/y/back").symlink_to(tree / "shots")
    assert expand("shots/**/*.webp") == ["shots/x/1.webp", "shots/x/y/1.webp"]


def test_reference_file_serves_all():
    assert pair_references(ALL, "shots/b.jpg") == "shots/b.jpg"


def test_reference_folder_pairs_by_literal_name():
    assert pair_references(["far/[1] *.tif", "near/1.webp"], "shots/x") == ["shots/x/[1] *.tif", "shots/x/1.webp"]


def test_empty_reference_is_no_folder():
    with pytest.raises(UsageError, match="reference is empty"):
        pair_references(ALL, "")


def test_missing_reference_is_an_error():
    with pytest.raises(FileError, match="no such reference"):
        pair_references(ALL, "nowhere")
