"""The stage of a Ray Data pipeline that scores images."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from iqa_runtime import BackendError, Score, UsageError
from iqa_runtime.commands.arrow_rows import to_batch
from iqa_runtime.commands.rows import KEYS
from iqa_runtime.files.remote import DEFAULT_FETCH_BYTES, DEFAULT_FETCH_TIMEOUT
from iqa_runtime.files.table_inputs import name_of
from iqa_runtime.measuring import MEASURED
from iqa_runtime.tables import arrow_schema
from iqa_serving.ray_data.columns import is_text, kept_columns
from iqa_serving.ray_data.items import Item, ItemScorer
from iqa_serving.ray_data.recovery import ScorerApart

_SUSPECTS = 4
"""Batches that are scored apart after a restart: Ray sends those again that had been sent, the one under way among
them."""


class ScoreImages:
    """Scores the images of a column, batch by batch: a callable class for ``Dataset.map_batches``.

    Each actor opens the artefact once. Its threads are as many as the CPUs that Ray has given it, and where Ray has
    given it a GPU, it runs there. Scores are those of `iqa_runtime.Scorer`, bit for bit, whatever the batches are. What
    is wrong with an image is the ``error`` of its row. An actor that Ray has restarted scores the batches that may have
    killed it in a process of their own, so that an image which kills its process has an error, too.

    Parameters
    ----------
    artefact
        As for `iqa_runtime.Scorer`; a path must lead to the file on every node.
    column
        Of the images: paths, addresses, bytes of files, or structures of ``bytes`` and ``path``.
    id_column
        What rows call them; None for the path or address, and null where there is neither.
    reference_column
        Of what to compare them with, likewise; for artefacts that compare, and only for those.
    error_column
        Of texts that say why there is no image; None where that is not known before.
    keep
        Columns that go with the rows; None for all but those that are named above. One that is called as a column of
        the rows is called ``input_...``.
    folder
        Where relative paths begin, on every node.
    fetch_bytes, fetch_timeout
        As for `iqa_runtime.files.remote.Fetcher`.
    words
        How messages of the runtime are put into rows: a function that can be pickled.
    **scoring
        Further arguments of `iqa_runtime.Scorer`, such as ``measure=True``.

    Raises
    ------
    IqaError
        As `iqa_runtime.Scorer` and `iqa_runtime.files.remote.Fetcher`.

    Examples
    --------
    >>> scored = dataset.map_batches(  # doctest: +SKIP
    ...     ScoreImages,
    ...     fn_constructor_args=("edge",),
    ...     fn_constructor_kwargs={"column": "bytes", "id_column": "id"},
    ...     compute=ray.data.ActorPoolStrategy(size=4),
    ...     num_cpus=2,
    ...     batch_size=500,
    ...     batch_format="pyarrow",
    ... )
    """

    def __init__(
        self,
        artefact: str | os.PathLike[str],
        *,
        column: str = "image",
        id_column: str | None = None,
        reference_column: str | None = None,
        error_column: str | None = None,
        keep: Sequence[str] | None = None,
        folder: str = "",
        fetch_bytes: int = DEFAULT_FETCH_BYTES,
        fetch_timeout: float = DEFAULT_FETCH_TIMEOUT,
        words: Callable[[str], str] = str,
        **scoring: Any,
    ) -> None:
        self._column, self._id_column = column, id_column
        self._reference_column, self._error_column = reference_column, error_column
        self._named = [name for name in (column, id_column, reference_column, error_column) if name is not None]
        self._keep, self._words = keep, words
        self._schema = arrow_schema(KEYS, MEASURED)
        given, was_restarted = given_by_ray()
        self._make = partial(
            ItemScorer,
            artefact,
            folder=folder,
            compared=reference_column is not None,
            fetch_bytes=fetch_bytes,
            fetch_timeout=fetch_timeout,
            **given | scoring,
        )
        self._scorer = self._make()
        self._suspects = _SUSPECTS if was_restarted else 0

    def __call__(self, batch: Any) -> Any:
        """Score a batch.

        Parameters
        ----------
        batch
            A `pyarrow.Table`: give ``batch_format="pyarrow"`` to ``map_batches``.

        Returns
        -------
        pyarrow.Table
            The rows of ``iqa-run --format parquet``, in the order of the batch, and the columns that are kept.

        Raises
        ------
        UsageError
            If it is no table, or lacks a column.
        BackendError
            If the model fails for every image, and for any other: that is no fault of theirs.
        """
        import pyarrow as pa

        if not isinstance(batch, pa.Table):
            raise UsageError(
                f"``batch_format``: the batch is of type {type(batch).__name__}; give map_batches "
                "batch_format='pyarrow'"
            )
        for column in (*self._named, *(self._keep or ())):
            if column not in batch.column_names:
                raise UsageError(f"the batch has no column {column}; its columns are {', '.join(batch.column_names)}")
        names = self._names(batch)
        results = list(self._scores(self._items(batch, names)))
        if results and all(isinstance(result.error, BackendError) for result in results):
            self._scorer.check_model()
        rows = [self._row(result, name) for result, name in zip(results, names, strict=True)]
        table = pa.Table.from_batches([to_batch(rows, self._schema)])
        kept = [name for name in batch.column_names if name not in self._named] if self._keep is None else self._keep
        for column, called in kept_columns(kept, KEYS).items():
            table = table.append_column(batch.schema.field(column).with_name(called), batch.column(column))
        return table

    def _names(self, batch: Any) -> list[str | None]:
        if self._id_column is not None:
            return [None if name is None else str(name) for name in batch.column(self._id_column).to_pylist()]
        column = batch.column(self._column)
        # A value that is no text may be large.
        return [*map(name_of, column.to_pylist())] if is_text(column.type) else [None] * len(column)

    def _items(self, batch: Any, names: Iterable[str | None]) -> Iterator[Item]:
        for number, name in enumerate(names):
            image, reference, error = (
                None if column is None else batch.column(column)[number].as_py()
                for column in (self._column, self._reference_column, self._error_column)
            )
            yield Item("image" if name is None else name, image, reference, error)

    def _scores(self, items: Iterator[Item]) -> Iterator[Score]:
        if not self._suspects:
            yield from self._scorer.score(items)
            return
        self._suspects -= 1
        apart = ScorerApart(self._make)
        try:
            for scored in apart.score(list(items)):
                yield from [scored] if isinstance(scored, Score) else self._scorer.score([scored])
        finally:
            apart.close()

    def _row(self, result: Score, name: str | None) -> dict[str, Any]:
        row = result.row() | {"path": name}
        return row if result.error is None else row | {"error": self._words(row["error"])}


def given_by_ray() -> tuple[dict[str, Any], bool]:
    """Return the arguments of a scorer that suit what Ray has given this actor, and whether it was restarted."""
    ray = sys.modules.get("ray")  # in an actor it is there
    if ray is None or not ray.is_initialized():
        return {}, False
    context = ray.get_runtime_context()
    if context.get_actor_id() is None:
        return {}, False
    given: dict[str, Any] = {"threads": max(1, int(context.get_assigned_resources().get("CPU", 1)))}
    if context.get_accelerator_ids().get("GPU"):
        given["device"] = "cuda"
    return given, bool(context.was_current_actor_reconstructed)
