"""Columns of the input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from iqa_runtime import UsageError

_PREFIX = "input_"


def kept_columns(columns: Iterable[str], taken: Sequence[str]) -> dict[str, str]:
    """Return what columns of the input are called beside those of the rows.

    Parameters
    ----------
    columns
        Of the input.
    taken
        Names of the rows' own.

    Returns
    -------
    dict
        By each column, its name: its own, with ``input_`` before it if that is taken.

    Raises
    ------
    UsageError
        If that is taken, too.
    """
    names: dict[str, str] = {}
    columns = list(columns)
    for column in columns:
        names[column] = f"{_PREFIX}{column}" if column in taken else column
        if names[column] != column and names[column] in columns:
            raise UsageError(f"the input has a column {column}, as rows have, and {names[column]}, too; rename one")
    return names


def is_text(kind: Any) -> bool:
    """Tell whether a type of Arrow is text, also one that is stored as a dictionary."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return any(is_kind(kind) for is_kind in (types.is_string, types.is_large_string, types.is_string_view))
