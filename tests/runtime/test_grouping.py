"""Groups by path, ranks, and the best of each group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iqa_runtime import ImageError, Score, UsageError
from iqa_runtime.files.inputs import absolute_path
from iqa_runtime.grouping import Grouping, best_of, ranks


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def score(path: str | None, value: float | None, **changes: Any) -> Score:
    error = None if value is not None else ImageError("truncated")
    fields = {"range": (0.0, 1.0), "higher_is_better": True, "trained": True, "artefact": "a:five", "error": error}
    return Score(path=path, value=value, **fields | changes)


@pytest.mark.parametrize(
    ("by", "path", "group"),
    [
        ("folders", "a/b/c.jpg", "a/b"),
        ("folders", "c.jpg", "."),
        ("FOLDERS", "a/c.jpg", "a"),
        ("folders", "./a/../a/c.jpg", "a"),
        ("IMG_{group}_*.jpg", "IMG_7_1.jpg", "7"),
        ("IMG_{group}_*.jpg", "a/IMG_7_1.jpg", "a/7"),
        ("IMG_{group}_*.jpg", "a/IMG_7_8_1.jpg", "a/7_8"),
        ("IMG_{group}_*.jpg", "a/IMG_7.jpg", None),
        ("IMG_{group}_*.jpg", "a/XIMG_7_1.jpg", None),
        ("IMG_{group}_*.jpg", "IMG_7_1.jpg.png", None),
        ("{group}.*", "a/kite.webp", "a/kite"),
        ("{group}/*.jpg", "x/a/1.jpg", "x/a"),
        ("*/{group}.jpg", "x/a/1.jpg", "x/1"),
        ("**/{group}.jpg", "x/a/1.jpg", "1"),
        ("**/{group}.jpg", "1.jpg", "1"),
        ("{group}/**/?.jpg", "x/a/b/1.jpg", "x/a/b"),
        ("{group}_[0-9]?.jpg", "dsc_12.jpg", "dsc"),
        ("{group}_[0-9]?.jpg", "dsc_x2.jpg", None),
        ("{group}[!0-9]?.jpg", "dsc_2.jpg", "dsc"),
        ("{group}[!0-9]?.jpg", "dsc/2.jpg", None),
        ("{group} (*).jpg", "kite (2).jpg", "kite"),
        ("{group}+.jpg", "kite+.jpg", "kite"),
        ("{group}[]^\\]*.jpg", "a]1.jpg", "a"),
        ("{group}_*", "line\nbreak_1", "line\nbreak"),
    ],
)
def test_groups_of_paths(by: str, path: str, group: str | None) -> None:
    assert Grouping(by).group_of(path) == group
    assert Grouping(by).group_of(absolute_path(path)) == group


@pytest.mark.parametrize(
    ("by", "group"),
    [
        ("folders", "s3://bucket/a"),
        ("{group}_*.jpg", "s3://bucket/a/x"),
        ("**/{group}_*.jpg", "x"),
        ("{group}.png", None),
    ],
)
def test_groups_of_addresses(by: str, group: str | None) -> None:
    assert Grouping(by).group_of("s3://bucket/a/x_1.jpg") == group


def test_a_group_outside_the_working_folder_is_named_in_full(tmp_path: Path) -> None:
    assert Grouping("folders").group_of("../other/a.jpg") == str(tmp_path / "other")
    assert Grouping("folders").group_of("/a.jpg") == "/"
    assert Grouping("{group}_*.jpg").group_of("../other/a_1.jpg") == str(tmp_path / "other/a")


@pytest.mark.parametrize("by", ["", "folder", "IMG_*.jpg", "{group}_{group}", "/{group}", "../{group}", "{group}/**"])
def test_what_is_no_pattern_is_refused(by: str) -> None:
    with pytest.raises(UsageError, match="best_of"):
        Grouping(by)
    with pytest.raises(UsageError, match="best_of"):
        Grouping("{group}[z-a]")


def test_ranks_respect_the_direction_and_ties_go_to_the_first_path() -> None:
    groups = ["a", "b", "a", None, "a", "a", "b"]
    scores = [0.5, 0.1, 0.9, 1.0, None, 0.5, 0.2]
    paths = ["z", "1", "x", "2", "3", "y", "4"]
    assert ranks(groups, scores, paths, higher_is_better=True) == [3, 2, 1, None, None, 2, 1]
    assert ranks(groups, scores, paths, higher_is_better=False) == [2, 1, 3, None, None, 1, 2]


def test_best_of_sorts_each_group() -> None:
    results = [score("a/1.jpg", 0.2), score("b/2.jpg", 0.1), score("a/3.jpg", 0.7), score("a/4.jpg", None)]
    results += [score("c/5.jpg", None), score(None, 0.9)]
    found = best_of(iter(results))
    assert {group: [each.path for each in ones] for group, ones in found.items()} == {
        "a": ["a/3.jpg", "a/1.jpg"],
        "b": ["b/2.jpg"],
    }
    worst = best_of([score(path, value, higher_is_better=False) for path, value in (("a/1", 0.2), ("a/2", 0.1))])
    assert [each.value for each in worst["a"]] == [0.1, 0.2]
    assert [each.path for each in best_of([score("a/2", 0.5), score("a/1", 0.5)])["a"]] == ["a/1", "a/2"]


def test_scores_of_two_artefacts_are_not_compared() -> None:
    with pytest.raises(UsageError, match="several artefacts"):
        best_of([score("a/1.jpg", 0.2), score("a/2.jpg", 0.3, artefact="b:five")])
