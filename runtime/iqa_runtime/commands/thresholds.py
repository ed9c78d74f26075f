"""Judge rows by thresholds: those of the command line, and those of a file for folders of a repository."""

from __future__ import annotations

import glob
import math
import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
import typer

from iqa_runtime.commands.resuming import path_key
from iqa_runtime.commands.rows import Row, clip_of
from iqa_runtime.contract import Contract
from iqa_runtime.errors import FileError, UsageError
from iqa_runtime.files.uris import scheme_of

BELOW_THRESHOLD = 3
"""Exit code of a run that went well but for images worse than their threshold."""


class Threshold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is worse than this fails.

    Attributes
    ----------
    fail_under
        A score; where lower scores are better, what lies above it fails.
    fail_under_percentile
        Share of the artefact's population that must be worse, in percent, 0 to 100.
    """

    fail_under: float | None = None
    fail_under_percentile: float | None = None

    def verdict(self, row: Row) -> str | None:
        """Return ``pass`` or ``fail``; None for a row without a score, and where there is nothing to compare with."""
        if row["score"] is None or self == Threshold():
            return None
        passed = True
        if self.fail_under is not None:
            higher = row["direction"] == "higher"
            passed = row["score"] >= self.fail_under if higher else row["score"] <= self.fail_under
        if self.fail_under_percentile is not None:
            if row["percentile"] is None:  # of an earlier run, before the artefact had quantiles
                return None if passed else "fail"
            passed = passed and row["percentile"] >= self.fail_under_percentile
        return "pass" if passed else "fail"

    def complaint(self) -> tuple[str, str] | None:
        """Return the field that is out of range and what is wrong with it; None if none is."""
        if self.fail_under is not None and not math.isfinite(self.fail_under):
            return "fail_under", f"{self.fail_under:g} is no score; give a finite number"
        percent = self.fail_under_percentile
        if percent is not None and not 0 <= percent <= 100:
            return "fail_under_percentile", f"{percent:g} is no percentile; give 0 to 100"
        return None


class _PatternThreshold(Threshold, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same, and of which images."""

    pattern: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``.iqa.toml``."""

    threshold: list[_PatternThreshold]


@dataclass(frozen=True, slots=True)
class _Rule:
    """A pattern of the names in an absolute path, with its threshold."""

    pattern: tuple[str, ...]
    threshold: Threshold


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Which threshold is whose.

    Attributes
    ----------
    default
        Of images that no rule matches.
    rules
        The last one that matches an image counts.
    """

    default: Threshold
    rules: tuple[_Rule, ...] = ()

    def check(self, contract: Contract) -> None:
        """Refuse percentiles where the artefact has none.

        Raises
        ------
        UsageError
            Then.
        """
        thresholds = [self.default, *(rule.threshold for rule in self.rules)]
        by_percentile = any(threshold.fail_under_percentile is not None for threshold in thresholds)
        if by_percentile and contract.score.quantiles is None:
            raise UsageError(
                "``fail_under_percentile``: the artefact has no quantiles of a population to find a place among; give "
                "``fail_under`` with a score, or write quantiles into the artefact (iqa-eval --population FOLDER "
                "--write-quantiles FILE.onnx)"
            )

    def judged(self, row: Row, image: str) -> Row:
        """Return a row with its verdict; `image` is the path of the input that it belongs to."""
        threshold = self.default
        if scheme_of(image) is not None:  # no folder is above an address
            return row | {"verdict": threshold.verdict(row)}
        names = Path(os.path.abspath(image)).parts  # noqa: PTH100 - links are not followed, and .. is taken out
        for rule in self.rules:
            if _matches(rule.pattern, names):
                threshold = rule.threshold
        return row | {"verdict": threshold.verdict(row)}

    def rejudged(self, rows: list[Row], place: Callable[[str], str] = str) -> list[Row]:
        """Return rows of an earlier run with the verdicts of this one; `place` tells paths by what rows call them."""
        paths = {path_key(row["path"]) for row in rows}

        def judged(row: Row) -> Row:
            clip = clip_of(row["path"])
            return self.judged(row, place(row["path"] if clip is None or path_key(clip) not in paths else clip))

        return [judged(row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdOptions:
    """What makes an image fail."""

    PANEL: ClassVar[str] = "Verdict"

    fail_under: Annotated[
        float | None,
        typer.Option(metavar="SCORE", help="What scores worse fails, and the exit code is 3."),
    ] = None
    fail_under_percentile: Annotated[
        float | None,
        typer.Option(
            metavar="P", help="What is worse than all but P percent of the artefact's population fails likewise."
        ),
    ] = None
    thresholds: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Thresholds by folder, such as .iqa.toml; the others are for the rest."),
    ] = None

    def read(self) -> Thresholds:
        """Return the thresholds, those of the file included.

        Raises
        ------
        UsageError, FileError
            If one is out of range, or the file is none of thresholds or cannot be read.
        """
        default = Threshold(fail_under=self.fail_under, fail_under_percentile=self.fail_under_percentile)
        complaint = default.complaint()
        if complaint is not None:
            raise UsageError("``{}``: {}".format(*complaint))
        return Thresholds(default, () if self.thresholds is None else tuple(_read_rules(self.thresholds)))


def _read_rules(file: Path) -> list[_Rule]:
    try:
        text = file.read_bytes().decode()
    except OSError as error:
        raise FileError(f"{file}: cannot read the thresholds ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: thresholds are a TOML file, and that is UTF-8; save it so") from error
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of a number too long for Python, it is no TOMLDecodeError
        raise UsageError(f"{file}: no TOML ({error}); mend it") from error
    try:
        found = msgspec.convert(tables, _File)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"{file}: {error}; a [[threshold]] has a pattern, and fail_under or fail_under_percentile"
        ) from error
    # Patterns are of where the file lies, wherever the command runs.
    folder = Path(os.path.abspath(file)).parent.parts  # noqa: PTH100 - as in Thresholds.judged
    return [_rule(f"{file}: $.threshold[{place}]", folder, each) for place, each in enumerate(found.threshold)]


def _rule(where: str, folder: tuple[str, ...], entry: _PatternThreshold) -> _Rule:
    complaint = entry.complaint()
    if complaint is not None:
        raise UsageError("{}.{}: {}".format(where, *complaint))
    threshold = Threshold(fail_under=entry.fail_under, fail_under_percentile=entry.fail_under_percentile)
    if threshold == Threshold():
        raise UsageError(f"{where}: it has no threshold; give fail_under or fail_under_percentile")
    parts = entry.pattern.split("/")
    if not all(parts) or {".", ".."} & {*parts}:
        raise UsageError(
            f"{where}.pattern: {entry.pattern!r} is none; give names with / between them, from the folder of this file "
            "on, such as photos/**"
        )
    return _Rule((*map(glob.escape, folder), *parts), threshold)


def _matches(pattern: tuple[str, ...], names: tuple[str, ...]) -> bool:
    if not pattern or not names:
        return pattern == names
    if pattern[0] != "**":
        return fnmatchcase(names[0], pattern[0]) and _matches(pattern[1:], names[1:])
    return pattern == ("**",) or any(_matches(pattern[1:], names[start:]) for start in range(len(names)))
