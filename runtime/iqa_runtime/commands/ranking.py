"""Rank rows in their groups, once all of them are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from iqa_runtime.commands.resuming import path_key
from iqa_runtime.commands.rows import Row, clip_of
from iqa_runtime.grouping import Grouping, ranks


class Writer(Protocol):
    """What rows are written with, whatever the format."""

    def write(self, row: Row) -> None:
        """Write one row."""


class Held:
    """Takes rows that are written once they are ranked.

    Attributes
    ----------
    rows
        So far.
    """

    def __init__(self, rows: Sequence[Row], unranked: Writer | None) -> None:
        self.rows = list(rows)
        self._unranked = unranked

    def write(self, row: Row) -> None:
        """Take one row, and write it without its rank if that is wanted."""
        if self._unranked is not None:
            self._unranked.write(row)
        self.rows.append(row)


def ranked(rows: Sequence[Row], grouping: Grouping, inputs: Sequence[str]) -> list[Row]:
    """Return rows with their groups and their ranks.

    Parameters
    ----------
    rows
        In any order.
    grouping
        Which group a path belongs to.
    inputs
        Of this run: frames of these, and of the paths of other rows, have neither group nor rank.
    """
    if not rows:
        return []
    paths = [path_key(row["path"]) for row in rows]
    named = {*paths, *map(path_key, inputs)}
    groups = [None if clip_of(path) in named else grouping.group_of(path) for path in paths]
    scores = [row["score"] for row in rows]
    found = ranks(groups, scores, paths, higher_is_better=rows[0]["direction"] == "higher")
    return [row | {"group": group, "rank": rank} for row, group, rank in zip(rows, groups, found, strict=True)]


@contextmanager
def open_ranked(
    grouping: Grouping,
    inputs: Sequence[str],
    keep: Sequence[Row],
    opened: AbstractContextManager[Writer],
    open_again: Callable[[], AbstractContextManager[Writer]] | None = None,
) -> Iterator[Held]:
    """Hold rows back until all are there, then write them with their ranks, in their order.

    Parameters
    ----------
    grouping, inputs
        As in `ranked`.
    keep
        Rows of an earlier run.
    opened
        What rows are written to: opened at once, so that what is wrong with it is said before anything is scored.
    open_again
        Opens the same file anew for the ranked rows, the earlier ones among them. Until then it grows row by row, and a
        crash costs none. None: nothing is written before the end.
    """
    with opened as writer:
        held = Held(keep, None if open_again is None else writer)
        yield held
        if open_again is None:
            _write(ranked(held.rows, grouping, inputs), writer)
    if open_again is not None:
        with open_again() as writer:
            _write(ranked(held.rows, grouping, inputs), writer)


def _write(rows: Sequence[Row], writer: Writer) -> None:
    for row in rows:
        writer.write(row)
