"""Groups of pictures by their paths, such as bursts and duplicates, and the best of each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from operator import itemgetter
from pathlib import Path

from iqa_runtime.arguments import check_type
from iqa_runtime.errors import UsageError
from iqa_runtime.files.inputs import absolute_path
from iqa_runtime.files.uris import scheme_of
from iqa_runtime.results import Score

FOLDERS = "folders"
"""Instead of a pattern: the pictures of one folder are a group."""

_GROUP = "{group}"
_WILDCARD = re.compile(r"\{group\}|\*+|\?|\[(?P<none>!?)(?P<characters>\]?[^\]]*)\]")


class Grouping:
    """Which group a picture belongs to.

    Parameters
    ----------
    by
        ``folders``, or a pattern of the last names of a path, with ``/`` between them: ``{group}`` stands for what the
        pictures of a group have in common, part of a name or all of it and as long as can be; ``*``, ``?`` and
        ``[...]`` for other parts, ``**`` for any number of folders. ``IMG_{group}_*.jpg`` takes the shots of a burst
        together, ``{group}.*`` a picture in several formats. What comes before the names of the pattern belongs to the
        group, too: equal names in two folders are two groups, but for patterns that say what may differ, such as
        ``*/{group}.jpg`` or, wherever they lie, ``**/{group}.jpg``.

    Raises
    ------
    UsageError
        If it is no such pattern.
    """

    def __init__(self, by: str) -> None:
        check_type("best_of", by, "folders or a pattern", str)
        self._pattern = None if by.lower() == FOLDERS else _compiled(by)

    def group_of(self, path: str) -> str | None:
        """Return the group of a picture; None if the pattern doesn't match its path.

        Returns
        -------
        str or None
            Its folder, or the folder before the names of the pattern and ``{group}``: from the working folder on if it
            lies there. Of an address the same, from its scheme on.
        """
        is_address = scheme_of(path) is not None
        whole = path if is_address else Path(absolute_path(path)).as_posix()
        if self._pattern is None:
            group = whole.rpartition("/")[0]
        else:
            found = self._pattern.fullmatch(whole)
            if found is None:
                return None
            if found["before"] is None:
                return found["group"]
            group = found["before"] + found["group"]
        return group if is_address else _from_here(Path(group or "/"))


def ranks(
    groups: Sequence[str | None], scores: Sequence[float | None], paths: Sequence[str], *, higher_is_better: bool
) -> list[int | None]:
    """Return the place of each picture in its group, 1 for the best; of equal scores, the first path comes first.

    Parameters
    ----------
    groups, scores, paths
        Of each picture; the rank of one without a group or a score is None.
    higher_is_better
        Direction of the scores.
    """
    members: dict[str, list[tuple[float, str, int]]] = {}
    for place, (group, score, path) in enumerate(zip(groups, scores, paths, strict=True)):
        if group is not None and score is not None:
            members.setdefault(group, []).append((-score if higher_is_better else score, path, place))
    found: list[int | None] = [None] * len(paths)
    for ones in members.values():
        for rank, (_, _, place) in enumerate(sorted(ones), start=1):
            found[place] = rank
    return found


def best_of(results: Iterable[Score], by: str = FOLDERS) -> dict[str, list[Score]]:
    """Sort results into groups, the best of each first.

    Parameters
    ----------
    results
        Of one artefact; those without a path belong to no group.
    by
        As in `Grouping`.

    Returns
    -------
    dict
        By group, in the order of their first results: those with a score, the best first; of equal scores the first
        path. A group without any is left out.

    Raises
    ------
    UsageError
        If `by` is no pattern, or the results are of several artefacts.

    Examples
    --------
    >>> for group, shots in best_of(scorer.score_many(paths), "IMG_{group}_*.jpg").items():  # doctest: +SKIP
    ...     print(group, shots[0].path)
    """
    grouping = Grouping(by)
    grouped: dict[str, list[tuple[float, str, Score]]] = {}
    artefacts = set()
    for result in results:
        group = None if result.path is None else grouping.group_of(result.path)
        if group is None or result.path is None or result.value is None:
            continue
        artefacts.add(result.artefact)
        order = -result.value if result.higher_is_better else result.value
        grouped.setdefault(group, []).append((order, result.path, result))
    if len(artefacts) > 1:
        raise UsageError(f"results of several artefacts ({', '.join(sorted(artefacts))}): rank those of one at a time")
    return {group: [result for _, _, result in sorted(ones, key=itemgetter(0, 1))] for group, ones in grouped.items()}


def _from_here(path: Path) -> str:
    here = Path(absolute_path(os.curdir))
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _compiled(by: str) -> re.Pattern[str]:
    names = by.split("/")
    if by.count(_GROUP) != 1 or not all(names) or {".", ".."} & {*names} or names[-1] == "**":
        raise UsageError(
            f"``best_of={by}``: give {FOLDERS}, or a pattern of the last names of a path with {_GROUP} in it once, "
            f"such as 'IMG_{_GROUP}_*.jpg' or '{_GROUP}/*.jpg'"
        )
    parts = ["(?:.*/)?" if name == "**" else f"{_name(name)}/" for name in names]
    before = "" if names[0] == "**" else "(?P<before>.*/)"
    try:
        return re.compile((before or "(?P<before>(?!))?") + "".join(parts).removesuffix("/"), re.DOTALL)
    except re.error as error:
        raise UsageError(f"``best_of={by}``: no pattern ({error}); check what stands in brackets") from error


def _name(pattern: str) -> str:
    """Return the regular expression of one name."""
    parts, end = [], 0
    for found in _WILDCARD.finditer(pattern):
        parts += [re.escape(pattern[end : found.start()]), _wildcard(found)]
        end = found.end()
    return "".join([*parts, re.escape(pattern[end:])])


def _wildcard(found: re.Match[str]) -> str:
    if found[0] == _GROUP:
        return "(?P<group>[^/]+)"
    if found["characters"] is None:
        return "[^/]" if found[0] == "?" else "[^/]*"
    characters = "".join(each if each == "-" else re.escape(each) for each in found["characters"])
    return f"(?!/)[{'^' * bool(found['none'])}{characters}]"
