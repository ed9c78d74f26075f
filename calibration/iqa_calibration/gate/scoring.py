"""What the gate measures of a graph, on whatever backend runs it: the scores of a gate set, and the time of an item."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from iqa_calibration.gate.gate_set import GateSet
from iqa_calibration.graphs.runner import Feed
from iqa_calibration.images.extremes import extreme_items
from iqa_runtime.artefacts.graph_file import GraphFile
from iqa_runtime.artefacts.opening import Artefact
from iqa_runtime.backends import Backend, GraphSpec, choose_backend
from iqa_runtime.contract import Contract
from iqa_runtime.scoring.pooling import pooled

Progress = Callable[[int, int], None]
"""Called with the number of images scored so far, and of all."""

_TIMED_RUNS = 15
_WARM_UP_RUNS = 2


@contextmanager
def opened(model: ModelProto, contract: Contract, backend: str, *, threads: int = 1) -> Iterator[Backend]:
    """Open a graph as the runtime would open an artefact of this contract.

    Raises
    ------
    ArtefactError
        If the graph cannot be loaded or is none of this contract.
    DependencyError, BackendError
        If the backend is not there, or the processor has not what it needs.
    """
    path = Path(f"{contract.precision}.onnx")
    artefact = Artefact(path=path, contract=contract, graph=GraphFile(path, model.SerializeToString()))
    choice = choose_backend(artefact, backend, device="cpu")
    with choice.create(artefact.graph, GraphSpec.of_artefact(contract), threads=threads) as running:
        yield running


def score(backend: Backend, gate_set: GateSet, *, progress: Progress | None = None) -> NDArray[np.float64]:
    """Score every image of a gate set.

    Returns
    -------
    numpy.ndarray
        One score an image, in the order of `GateSet.renditions`, crops pooled as at run time; NaN where one of them is
        not finite.

    Raises
    ------
    BackendError
        If the graph cannot be run.
    FileError, ImageError, UsageError
        If an image cannot be scored.
    """
    name = gate_set.contract.score.name
    scores = []
    for items in gate_set.images():
        values = list(_item_scores(backend, items, name))
        scores.append(pooled(values, gate_set.contract.pooling) if all(map(math.isfinite, values)) else math.nan)
        if progress is not None:
            progress(len(scores), len(gate_set.renditions))
    return np.array(scores)


def score_extremes(backend: Backend, contract: Contract) -> NDArray[np.float64]:
    """Score one item of each picture at the limits.

    Returns
    -------
    numpy.ndarray
        One score a picture, in the order of `iqa_calibration.images.extremes.EXTREMES`, finite or not.

    Raises
    ------
    BackendError
        If the graph cannot be run.
    """
    return np.array(list(_item_scores(backend, iter(extreme_items(contract)), contract.score.name)))


def _item_scores(backend: Backend, items: Iterator[Feed], name: str) -> Iterator[float]:
    """Yield the scores of items, as many handed over at once as keep the backend busy."""
    at_once = 1 if backend.spec.has_own_size else backend.items_per_run * backend.concurrent_runs
    while feeds := list(islice(items, at_once)):
        batch = {tensor: np.concatenate([feed[tensor] for feed in feeds]) for tensor in feeds[0]}
        yield from backend.infer(batch, [name])[name].tolist()


def item_milliseconds(backends: Sequence[Backend], item: Feed, output: str) -> tuple[float, ...]:
    """Return the median time of one item on each backend, opened with one thread.

    Backends take turns, so that a busy host slows all alike. It is the processor's time of this process, on an idle
    host the time that passes: work of other processes does not count.

    Raises
    ------
    BackendError
        If a graph cannot be run.
    """
    times: list[list[float]] = [[] for _ in backends]
    for run in range(_WARM_UP_RUNS + _TIMED_RUNS):
        for backend, taken in zip(backends, times, strict=True):
            began = process_time()
            backend.infer(item, [output])
            if run >= _WARM_UP_RUNS:
                taken.append(process_time() - began)
    return tuple(1000 * median(taken) for taken in times)
