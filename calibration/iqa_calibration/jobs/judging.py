"""The judge of a job: a gate set, the float32 scores of it, and the backend that each form is judged on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from iqa_calibration.gate.gate import LIMITS, GateResult, compare, item_milliseconds
from iqa_calibration.gate.gate_set import GateSet, score
from iqa_calibration.graphs.runner import Feed
from iqa_calibration.jobs.forms import Form
from iqa_runtime.artefacts.graph_file import GraphFile
from iqa_runtime.artefacts.opening import Artefact
from iqa_runtime.backends import Backend, GraphSpec, choose_backend

Progress = Callable[[str, int, int | None], None]
"""Called with the name of a stage, what of it is done, and of how much; None where that is not known."""

_TIMED_RUNS = 15
_WARM_UP_RUNS = 2


class Judge:
    """Judges candidates for the place of one float32 graph.

    A candidate for OpenVINO is judged on OpenVINO where it is installed, in the precision its contract asks for; one in
    float16 by ONNX Runtime with every half rounded where hardware would store it; all others by ONNX Runtime.

    Parameters
    ----------
    fp32
        The graph.
    gate_set
        What is scored.
    threads
        Threads that score.
    progress
        Is told of each image.
    """

    def __init__(self, fp32: ModelProto, gate_set: GateSet, *, threads: int, progress: Progress) -> None:
        self.gate_set = gate_set
        self._fp32 = fp32
        self._threads = threads
        self._progress = progress

    @cached_property
    def _expected(self) -> NDArray[np.float64]:
        told = self._told("scoring the gate set in float32")
        return score(self._fp32, self.gate_set, threads=self._threads, progress=told)

    def verdict(self, candidate: ModelProto, form: Form) -> GateResult:
        """Score the gate set with a candidate and compare.

        Raises
        ------
        ArtefactError
            If a graph cannot be run, or the float32 scores are not finite.
        DependencyError, BackendError
            If OpenVINO is needed and is not there, or the processor has no bfloat16.
        FileError, ImageError, UsageError
            If an image cannot be scored.
        """
        expected = self._expected
        told = self._told(f"scoring the gate set in {form.precision}")
        if judged_on(form) == "openvino":
            actual = self._score_on_openvino(candidate, form, told)
        else:
            actual = score(candidate, self.gate_set, threads=self._threads, progress=told)
        limits = LIMITS["int8" if form.precision == "int8-weights" else form.precision]
        return compare(expected, actual, self.gate_set, limits)

    def timed(self, result: GateResult, candidate: ModelProto, form: Form) -> GateResult:
        """Add to a verdict what an item takes in float32 and in the candidate, on one thread of what it was judged on.

        Nothing for TensorRT, which is none of the backends here.
        """
        if form.target == "tensorrt":
            return result
        item = next(next(self.gate_set.images()))
        if judged_on(form) == "openvino":
            fp32_ms, candidate_ms = self._milliseconds_on_openvino(candidate, form, item)
        else:
            fp32_ms, candidate_ms = item_milliseconds([self._fp32, candidate], item)
        return replace(result, fp32_ms=fp32_ms, candidate_ms=candidate_ms)

    def _score_on_openvino(
        self, candidate: ModelProto, form: Form, told: Callable[[int, int], None]
    ) -> NDArray[np.float64]:
        name = self.gate_set.contract.score.name
        scores = []
        with self._on_openvino(candidate, form, self._threads) as backend:
            for items in self.gate_set.images():
                feeds = list(items)
                batch = {tensor: np.concatenate([feed[tensor] for feed in feeds]) for tensor in feeds[0]}
                values = [float(value) for value in backend.infer(batch, [name])[name]]
                scores.append(math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan)
                told(len(scores), len(self.gate_set.renditions))
        return np.array(scores)

    def _milliseconds_on_openvino(self, candidate: ModelProto, form: Form, item: Feed) -> tuple[float | None, ...]:
        fp32_form = replace(form, precision="int8-weights")  # any whose arithmetic is float32
        times: list[list[float]] = [[], []]
        name = self.gate_set.contract.score.name
        with self._on_openvino(self._fp32, fp32_form, 1) as fp32, self._on_openvino(candidate, form, 1) as other:
            for run in range(_WARM_UP_RUNS + _TIMED_RUNS):
                for backend, seconds in zip((fp32, other), times, strict=True):
                    began = perf_counter()
                    backend.infer(item, [name])
                    if run >= _WARM_UP_RUNS:
                        seconds.append(perf_counter() - began)
        return tuple(1000 * median(seconds) for seconds in times)

    @contextmanager
    def _on_openvino(self, model: ModelProto, form: Form, threads: int) -> Iterator[Backend]:
        """Open a graph as the runtime would an artefact of this form."""
        contract = replace(self.gate_set.contract, precision=form.precision, target=form.target)
        path = Path(f"{form.precision}.onnx")
        artefact = Artefact(path=path, contract=contract, graph=GraphFile(path, model.SerializeToString()))
        choice = choose_backend(artefact, "openvino", device="cpu")
        with choice.create(artefact.graph, GraphSpec.of_artefact(contract), threads=threads) as backend:
            yield backend

    def _told(self, stage: str) -> Callable[[int, int], None]:
        return lambda done, total: self._progress(stage, done, total)


def judged_on(form: Form) -> str:
    """Name the backend whose scores decide about a form."""
    if form.target != "openvino" or form.precision == "fp16":
        return "onnxruntime"
    return "openvino" if form.as_it_is or find_spec("openvino") is not None else "onnxruntime"
