"""The judge of a job: a gate set, the float32 scores of it, and the backend that each form is judged on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from iqa_calibration.gate.gate import LIMITS, Extreme, GateResult, compare
from iqa_calibration.gate.gate_set import GateSet
from iqa_calibration.gate.scoring import item_milliseconds, opened, score, score_extremes
from iqa_calibration.half.casting import emulated, is_half
from iqa_calibration.images.extremes import EXTREMES
from iqa_calibration.jobs.forms import Form
from iqa_runtime.contract import Contract
from iqa_runtime.errors import ArtefactError, BackendError

Progress = Callable[[str, int, int | None], None]
"""Called with the name of a stage, what of it is done, and of how much; None where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemTimes:
    """What one item takes on this host, on one thread: the median, in milliseconds.

    Attributes
    ----------
    fp32, candidate
        In float32 and in the candidate, both in turns on the backend that judged.
    """

    fp32: float
    candidate: float


class Judge:
    """Judges candidates for the place of one float32 graph.

    A candidate for OpenVINO is judged on OpenVINO where it is installed, in the precision its contract asks for; one in
    half by ONNX Runtime with every half rounded where hardware would store it; all others by ONNX Runtime.

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
    def _expected(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores of the gate set, and of pictures at the limits."""
        return self._scores(self._fp32, self.gate_set.contract, "onnxruntime", "float32")

    def verdict(self, candidate: ModelProto, form: Form) -> GateResult:
        """Score the gate set with a candidate and compare.

        Raises
        ------
        ArtefactError
            If a graph cannot be loaded, or the float32 scores are not finite.
        DependencyError, BackendError
            If OpenVINO is needed and is not there, the processor has no bfloat16, or a graph cannot be run.
        FileError, ImageError, UsageError
            If an image cannot be scored.
        """
        expected, expected_extremes = self._expected
        judging = judged_on(form)
        # ONNX Runtime has few kernels in half on a CPU, and leaves out the roundings where it has none.
        judged = emulated(candidate) if judging == "onnxruntime" and is_half(candidate) else candidate
        contract = replace(self.gate_set.contract, precision=form.precision, target=form.target)
        actual, actual_extremes = self._scores(judged, contract, judging, form.precision)
        pairs = zip(EXTREMES, expected_extremes.tolist(), actual_extremes.tolist(), strict=True)
        extremes = [Extreme(picture=picture, fp32=fp32, candidate=other) for picture, fp32, other in pairs]
        limits = LIMITS["int8" if form.precision == "int8-weights" else form.precision]
        return compare(expected, actual, self.gate_set, limits, extremes)

    def times(self, candidate: ModelProto, form: Form) -> ItemTimes | None:
        """Measure what an item takes in float32 and in a candidate, on one thread of what it is judged on.

        None for TensorRT, which is none of the backends here, and for what ONNX Runtime has no kernels for.
        """
        if form.target == "tensorrt":
            return None
        judging, contract = judged_on(form), self.gate_set.contract
        item = next(next(self.gate_set.images()))
        try:
            with ExitStack() as stack:
                backends = [
                    stack.enter_context(opened(self._fp32, replace(contract, target=form.target), judging)),
                    stack.enter_context(
                        opened(candidate, replace(contract, precision=form.precision, target=form.target), judging)
                    ),
                ]
                fp32, other = item_milliseconds(backends, item, contract.score.name)
        except (ArtefactError, BackendError):
            return None
        return ItemTimes(fp32=fp32, candidate=other)

    def _scores(
        self, model: ModelProto, contract: Contract, backend: str, precision: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        def told(done: int, total: int) -> None:
            self._progress(f"scoring the gate set in {precision}", done, total)

        with opened(model, contract, backend, threads=self._threads) as running:
            return score(running, self.gate_set, progress=told), score_extremes(running, contract)


def judged_on(form: Form) -> str:
    """Name the backend whose scores decide about a form."""
    if form.target != "openvino" or form.precision == "fp16":
        return "onnxruntime"
    return "openvino" if form.as_it_is or find_spec("openvino") is not None else "onnxruntime"
