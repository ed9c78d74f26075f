"""Run a network over a calibration set and observe its tensors: bounded memory, resumable, never twice.

The cache is one .npz file for each pair of graph and calibration set; what is in it serves every target and every
observer. Interrupted, the next run goes on with the item that was next.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import groupby, islice, repeat, tee
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from iqa_calibration.graphs.runner import Feed, Runner
from iqa_calibration.graphs.structure import Structure
from iqa_calibration.int8.observers import Observation, observe
from iqa_runtime.errors import ArtefactError, FileError, UsageError
from iqa_runtime.files.overwriting import replaced_at_once

Progress = Callable[[int, int], None]
"""Called after each item with the number of items run so far, over all passes, and the number of passes."""

_GROUP_ELEMENTS = 2**26
"""Elements of the tensors that one pass observes: 256 MiB of float32."""

_COLUMNS = ("name", "low", "high", "limit", "counts", "items", "complete")

_SAVE_SECONDS = 20.0
"""Time between two states of the cache: what a killed process can lose."""


def collect(
    model: ModelProto,
    names: Sequence[str],
    feeds: Callable[[], Iterable[Feed]],
    *,
    cache: Path | None = None,
    key: str = "",
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Observation]:
    """Observe tensors of a float32 network over a calibration set.

    Parameters
    ----------
    model
        The network.
    names
        Tensors to observe, inputs of the graph among them.
    feeds
        Gives the items, the same ones in the same order each time it is called: one time for each pass. As many
        tensors are observed in one pass as fit in 256 MiB.
    cache
        Folder of the cache, created if missing.
    key
        Digest of the calibration set, part of the cache's file name.
    threads
        Items computed at once, each on one thread; no result depends on it.
    progress
        Is told of each item.

    Raises
    ------
    UsageError
        If there are no items.
    ArtefactError
        If the graph lacks a tensor, ONNX Runtime refuses the graph, or a tensor is not finite.
    FileError
        If the cache cannot be read or written.
    """
    structure = Structure(model)
    known = {*structure.producers, *(entry.name for entry in model.graph.input)}
    for name in names:
        if name not in known:
            raise ArtefactError(f"tensor {name!r}: not in the graph; placement and graph don't belong together")
    path = None if cache is None else cache / f"{_digest(model)[:16]}-{sha256(key.encode()).hexdigest()[:16]}.npz"
    state = {name: _Seen() for name in names} | _load(path)
    groups = list(_groups([name for name in names if not state[name].complete], state, structure.item_shapes))
    done = 0
    saved = time.monotonic()
    try:
        for group in groups:
            for values in _run(model, group, islice(feeds(), state[group[0]].items, None), threads):
                for name in group:
                    # One assignment, so that an interruption leaves a tensor either without the item or with it.
                    state[name] = state[name].add(name, values.pop(name))
                done += 1
                if progress is not None:
                    progress(done, len(groups))
                if time.monotonic() - saved > _SAVE_SECONDS:
                    _save(path, state)
                    saved = time.monotonic()
            if state[group[0]].observation is None:
                raise UsageError("the calibration set is empty; give at least one image")
            state |= {name: replace(state[name], complete=True) for name in group}
    finally:
        if groups:
            _save(path, state)
    observations = {name: state[name].observation for name in names}
    return {name: seen for name, seen in observations.items() if seen is not None}


@dataclass(frozen=True)
class _Seen:
    """What is known of one tensor after a number of items."""

    observation: Observation | None = None
    items: int = 0
    complete: bool = False

    def add(self, name: str, values: NDArray[np.float32]) -> _Seen:
        try:
            return _Seen(observe(values, self.observation), self.items + 1)
        except ArtefactError as error:
            raise ArtefactError(f"tensor {name!r}, item {self.items}: {error}") from error


def _groups(
    names: Sequence[str], state: Mapping[str, _Seen], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[list[str]]:
    """Split tensors into passes: equally far, and together no larger than the limit."""

    def progress(name: str) -> int:
        return state[name].items

    for _, equally_far in groupby(sorted(names, key=progress), progress):
        group: list[str] = []
        elements = 0
        for name in equally_far:
            size = prod(shapes.get(name, ()))
            if group and elements + size > _GROUP_ELEMENTS:
                yield group
                group, elements = [], 0
            elements += size
            group.append(name)
        yield group


def _run(
    model: ModelProto, names: Sequence[str], feeds: Iterable[Feed], threads: int
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield the values of tensors for each item."""
    inputs = {entry.name for entry in model.graph.input}
    computed = [name for name in names if name not in inputs]
    given, fed = tee(feeds)
    # To ask for no tensor is to ask for every output.
    runs = Runner(model, extra_outputs=computed).run_each(fed, computed, threads=threads) if computed else repeat({})
    for feed, values in zip(given, runs, strict=False):
        yield values | {name: feed[name] for name in names if name in inputs}


def _digest(model: ModelProto) -> str:
    """Digest the graph, not the contract: what is observed doesn't depend on it."""
    return sha256(model.graph.SerializeToString(deterministic=True)).hexdigest()


def _load(path: Path | None) -> dict[str, _Seen]:
    if path is None or not path.exists():
        return {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            columns = [stored[column] for column in _COLUMNS]
        return {
            str(name): _Seen(Observation(float(low), float(high), float(limit), counts), int(items), bool(complete))
            for name, low, high, limit, counts, items, complete in zip(*columns, strict=True)
        }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise FileError(f"{path}: not a readable cache of statistics ({error}); delete it") from error


def _save(path: Path | None, state: Mapping[str, _Seen]) -> None:
    rows = [
        (name, seen.low, seen.high, seen.limit, seen.counts, entry.items, entry.complete)
        for name, entry in state.items()
        if (seen := entry.observation) is not None
    ]
    if path is None or not rows:
        return
    stacked = [np.array(values) for values in zip(*rows, strict=True)]
    columns: dict[str, Any] = dict(zip(_COLUMNS, stacked, strict=True))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path}: cannot write the cache of statistics ({error.strerror}); check the folder") from error
    with replaced_at_once([path]) as folder:
        np.savez_compressed(folder / path.name, **columns)
