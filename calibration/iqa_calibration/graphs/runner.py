"""Run a graph item by item on ONNX Runtime's CPU provider, in sessions with the options that ship."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto

from iqa_calibration.graphs.structure import takes_own_size
from iqa_runtime.backends.onnx_runtime import import_onnxruntime, session_options
from iqa_runtime.errors import ArtefactError, one_line
from iqa_runtime.scoring.preparation import prefetch

Feed = Mapping[str, NDArray[np.float32]]
"""Inputs of one item by name, each with a batch axis of one."""


class Runner:
    """A graph in a session of its own.

    Parameters
    ----------
    model
        The graph, or the path of one.
    extra_outputs
        Intermediate tensors to return beside the outputs of the graph; only for a model in memory.

    Raises
    ------
    ArtefactError
        If ONNX Runtime refuses the graph.
    """

    def __init__(self, model: ModelProto | Path, *, extra_outputs: Sequence[str] = ()) -> None:
        if isinstance(model, ModelProto) and extra_outputs:
            model = _with_outputs(model, extra_outputs)
        source = model.SerializeToString() if isinstance(model, ModelProto) else str(model)
        onnxruntime = import_onnxruntime()
        options = session_options(onnxruntime, own_size=isinstance(model, ModelProto) and takes_own_size(model))
        try:
            self._session = onnxruntime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # the library's exceptions have no public common base
            where = "the graph" if isinstance(model, ModelProto) else model.name
            raise ArtefactError(f"{where}: ONNX Runtime cannot load it ({one_line(error)})") from error
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def run(self, feed: Feed, outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Run one item, or a batch of them; all outputs, or those named, by name.

        Raises
        ------
        ArtefactError
            If ONNX Runtime fails, as it does with inputs that don't fit.
        """
        names = list(self.outputs if outputs is None else outputs)
        try:
            return dict(zip(names, self._session.run(names, dict(feed)), strict=True))
        except Exception as error:  # the library's exceptions have no public common base
            raise ArtefactError(f"the graph: ONNX Runtime cannot run it ({one_line(error)})") from error

    def run_each(
        self, feeds: Iterable[Feed], outputs: Sequence[str] | None = None, *, threads: int = 1
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Run items in order, so many at once, each on one thread: its values don't depend on how many.

        Raises
        ------
        ArtefactError
            As `run`.
        """
        if threads == 1:
            return (self.run(feed, outputs) for feed in feeds)
        return prefetch(lambda feed: self.run(feed, outputs), feeds, threads, threads)


def item_scores(model: ModelProto, items: Iterable[Feed], output: str, *, threads: int = 1) -> NDArray[np.float64]:
    """Run items; return the output that is the score, one number an item, shape (items,).

    Raises
    ------
    ArtefactError
        As `Runner`.
    """
    runs = Runner(model).run_each(items, [output], threads=threads)
    return np.array([values[output].item() for values in runs], np.float64)


def first_not_finite(values: dict[str, NDArray[Any]]) -> str | None:
    """Name the first output with a value that is NaN or infinite; None if there is none."""
    return next((name for name, value in values.items() if not np.isfinite(value).all()), None)


def _with_outputs(model: ModelProto, names: Sequence[str]) -> ModelProto:
    extended = ModelProto()
    extended.CopyFrom(model)
    present = {output.name for output in extended.graph.output}
    extended.graph.output.extend(ValueInfoProto(name=name) for name in names if name not in present)
    return extended
