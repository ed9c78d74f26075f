"""Scores as tables: columns for pandas and polars, and the types that files of rows have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from iqa_runtime.errors import needing
from iqa_runtime.results import Score

_TYPES: Mapping[str, str] = {
    "path": "string",
    "score": "double",
    "p05": "double",
    "percentile": "double",
    "verdict": "string",
    "reasons": "list<string>",
    "measures": "measures",
    "group": "string",
    "rank": "int32",
    "range": "list<double>",
    "direction": "string",
    "width": "int32",
    "height": "int32",
    "color": "string",
    "patches": "int32",
    "milliseconds": "double",
    "artefact": "string",
    "error": "string",
}
"""What the values of a row are, by key; any of them may be null."""


def to_columns(scores: Iterable[Score]) -> dict[str, list[Any]]:
    """Return scores as columns, which ``pandas.DataFrame`` and ``polars.DataFrame`` take as they are.

    Neither is imported, nor anything else. DuckDB reads the frame of either.

    Parameters
    ----------
    scores
        Such as `iqa_runtime.Scorer.score_many` yields; failed ones have a null as score, and their error.

    Returns
    -------
    dict
        A list for each key of `iqa_runtime.Score.row`, in its order; null is None. Empty without scores.

    Examples
    --------
    >>> import polars
    >>> polars.DataFrame(to_columns(scorer.score_many(paths)))  # doctest: +SKIP
    """
    columns: dict[str, list[Any]] = {}
    for score in scores:
        for key, value in score.row().items():
            columns.setdefault(key, []).append(value)
    return columns


def arrow_schema(keys: Sequence[str], measures: Sequence[str] = (), metadata: Mapping[str, str] | None = None) -> Any:
    """Return the schema of rows as Parquet and Arrow have them.

    Parameters
    ----------
    keys
        Of the rows, in order.
    measures
        What ``measures`` holds, if it is among the keys: a double each, ``jpeg_quality`` an int32.
    metadata
        What a file of them says about the run.

    Returns
    -------
    pyarrow.Schema
        Every column may hold nulls.

    Raises
    ------
    DependencyError
        If pyarrow is missing.
    """
    with needing("what writes Parquet and Arrow", extras="tables"):
        import pyarrow as pa
    kinds = {
        "string": pa.string(),
        "double": pa.float64(),
        "int32": pa.int32(),
        "list<string>": pa.list_(pa.string()),
        "list<double>": pa.list_(pa.float64()),
        "measures": pa.struct([(n, pa.int32() if n == "jpeg_quality" else pa.float64()) for n in measures]),
    }
    return pa.schema([(key, kinds[_TYPES[key]]) for key in keys], metadata=dict(metadata or {}))
