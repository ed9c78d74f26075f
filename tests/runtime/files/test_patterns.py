"""Patterns match what a shell's do, and links never lead round in circles."""

import errno
import glob
import os
from pathlib import Path

import pytest

from iqa_runtime.files.inputs import expand_inputs
from iqa_runtime.files.patterns import expand_pattern

NAMES = [
    "a.png",
    "b.jpg",
    ".hidden.png",
    "x/a.png",
    "x/y/a.png",
    "x/y/z/c.png",
    ".dark/a.png",
    "[1]/**/a.png",
    "x y/a.png",
]


@pytest.fixture(autouse=True)
def tree(tmp_path, monkeypatch):
    for name in NAMES:
        path = tmp_path / "shots" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def without_separators(paths):
    return sorted({path.rstrip("/") for path in paths} - {""})


@pytest.mark.parametrize(
    "pattern",
    [
        "shots/*.png", "shots/**/*.png", "**/a.png", "./**/*.png", "shots/**", "**", "shots/**/", "*/**/y/*",
        "shots/x/**/z/**", "shots/**/x/**/*.png", "shots/**/**/a.png", "shots/**a.png", "shots/[[]1]/**/*.png",
        "shots/.*/**/*.png", "none/**/*", "shots/**/.hidden.png", "shots/x[ ]y/**", "shots//**//a.png",
        "sh?ts/x/**/*.png",
    ],
)  # fmt: skip
@pytest.mark.parametrize("absolute", [False, True])
def test_a_tree_without_links_is_matched_as_by_a_shell(tree, pattern, absolute):
    pattern = f"{tree}/{pattern}" if absolute else pattern
    wanted = without_separators(map(os.path.normpath, glob.glob(pattern, recursive=True)))  # noqa: PTH207
    assert without_separators(map(os.path.normpath, expand_pattern(pattern))) == wanted
    assert all(path.startswith("./") for path in expand_pattern(pattern)) or not pattern.startswith("./")


def test_links_that_lead_round_in_circles_end(tree):
    """Two links in a folder to itself: as many ways through them as 2 to the power of their length."""
    for name in ("shots/p", "shots/q", "shots/x/up", "shots/x/y/top"):
        (tree / name).symlink_to(tree / "shots")
    (tree / "shots/self").symlink_to("self")
    plain = [f"shots/{name}" for name in NAMES if name.endswith("a.png") and not name.startswith(".")]
    assert sorted(expand_pattern("shots/**/a.png")) == sorted(plain)
    images = [f"shots/{name}" for name in NAMES if not name.startswith(".")]
    for pattern in ("shots/**", "shots/**/*", "**/*.[pj][np]g"):
        found = expand_inputs([pattern], None)
        assert {path for path in found if path in images} == set(images)
        assert not {path for path in found if "/p/" in path or "/up/" in path or "/top/" in path}


def test_a_link_to_a_folder_elsewhere_is_followed(tree):
    (tree / "else").mkdir()
    (tree / "else/e.png").touch()
    (tree / "shots/link").symlink_to(tree / "else")
    assert expand_pattern("shots/**/e.png") == ["shots/link/e.png"]


def test_a_folder_that_cannot_be_listed_is_not_passed_over(monkeypatch):
    listed = os.listdir

    def listdir(path):
        if Path(path) == Path("shots/x"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return listed(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert "shots/x" in expand_pattern("shots/**/c.png")
