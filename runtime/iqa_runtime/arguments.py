"""Checks of what callers of the Python API hand over; each refuses in the words of the parameter."""

from __future__ import annotations

import os
from types import NoneType

from iqa_runtime.errors import UsageError

MAX_SECONDS = 86_400
"""A day: nobody waits longer, and clocks of the system count to some end."""


def check_type(name: str, value: object, what: str, *kinds: type) -> None:
    """Refuse a value of another type than `kinds`; None passes. `what` says what to give.

    Raises
    ------
    UsageError
        Naming the parameter and the type that was given.
    """
    if not isinstance(value, (*kinds, NoneType)):
        raise UsageError(f"``{name}``: of type {type(value).__name__}; give {what}")


def check_number(name: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Refuse what is no whole number from `least` to `most`; None passes, a bool is no number.

    Raises
    ------
    UsageError
        Naming the parameter and what was given.
    """
    if value is None or (type(value) is int and least <= value and (most is None or value <= most)):
        return
    limits = f"at least {least}" if most is None else f"{least} to {most}"
    raise UsageError(f"``{name}={value!r}``: it must be a whole number, {limits}")


def check_seconds(name: str, value: object) -> None:
    """Refuse what is no time to wait for: a number of seconds above 0, at most a day; None passes, a bool is no number.

    Raises
    ------
    UsageError
        Naming the parameter and what was given.
    """
    if value is None or (isinstance(value, (int, float)) and type(value) is not bool and 0 < value <= MAX_SECONDS):
        return
    raise UsageError(f"``{name}={value!r}``: it must be a number of seconds above 0, at most {MAX_SECONDS}")


def check_path(name: str, value: object) -> None:
    """Refuse what is no path, such as a text with a null character; None passes.

    Raises
    ------
    UsageError
        Naming the parameter and what was given.
    """
    check_type(name, value, "a path", str, os.PathLike)
    if isinstance(value, (str, os.PathLike)) and "\0" in str(os.fspath(value)):
        raise UsageError(f"``{name}={os.fspath(value)!r}``: a path has no null character; give another")


def check_given(name: str, value: object) -> None:
    """Refuse None where there is no default to stand for.

    Raises
    ------
    UsageError
        Naming the parameter.
    """
    if value is None:
        raise UsageError(f"``{name}=None``: give a value, or leave it out for its default")
