"""Candidates: a float32 graph in another form, made so that a gate accepts it, if it can be."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from onnx import ModelProto

from iqa_calibration.graphs.runner import Feed
from iqa_calibration.half.casting import Kind
from iqa_calibration.half.conversion import HalfReport, to_half
from iqa_calibration.half.search import to_half_accepted
from iqa_calibration.images.sets import CalibrationSet
from iqa_calibration.int8.observers import OBSERVERS, Observation, Range
from iqa_calibration.int8.placement import Placement, Target, place
from iqa_calibration.int8.search import Attention, to_int8_accepted
from iqa_calibration.int8.sensitivity import Sensitivity
from iqa_calibration.int8.statistics import collect
from iqa_calibration.int8.weight_only import compress_weights
from iqa_calibration.jobs.forms import Form
from iqa_calibration.jobs.judging import Progress

SEARCH_ITEMS = 32
"""Items, drawn from the whole calibration set, on which the effect of a layer on scores is measured."""

Accepted = Callable[[ModelProto], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A graph that may take the place of the float32 one.

    Attributes
    ----------
    form
        What it was made as.
    model
        The graph.
    converted
        Nodes that compute in the form's precision.
    attention
        ``int8``: what became of long products of two activations.
    kept_float
        Nodes that could and don't, and why.
    sensitivities
        Effect of each part on the score, worst first; empty where it was not measured.
    """

    form: Form
    model: ModelProto
    converted: int = 0
    attention: Attention | None = None
    kept_float: dict[str, str]
    sensitivities: tuple[Sensitivity, ...] = ()


class Maker:
    """Makes candidates of one graph; what several of them need is measured once.

    Parameters
    ----------
    fp32
        The graph; it is left as it is.
    calibration
        Builds the calibration set, when the first form needs it.
    cache
        Folder where the statistics are kept.
    threads
        Items computed at once, each on one thread; no result depends on it.
    progress
        Is told of each item.
    """

    def __init__(
        self,
        fp32: ModelProto,
        calibration: Callable[[], CalibrationSet],
        *,
        cache: Path | None,
        threads: int,
        progress: Progress,
    ) -> None:
        self._fp32 = fp32
        self._build = calibration
        self._cache = cache
        self._threads = threads
        self._progress = progress
        self._observed: dict[str, Observation] = {}

    @cached_property
    def calibration(self) -> CalibrationSet:
        """The calibration set."""
        return self._build()

    def make(self, form: Form, accepted: Accepted, *, measure: bool = False) -> Candidate:
        """Make the graph of a form.

        Parameters
        ----------
        form
            What is asked for.
        accepted
            The gate; called at least once, the last time or the last time that it accepted with the result.
        measure
            Whether to measure sensitivities even if the gate accepts at once; only with a search.

        Returns
        -------
        Candidate
            The first that was accepted, or where none was, the last that was tried.

        Raises
        ------
        UsageError, ArtefactError, FileError
            If the graph or the images cannot be used.
        """
        if form.precision == "int8":
            return self._int8(form, accepted, measure)
        if form.as_it_is:
            return self._judged(Candidate(form=form, model=self._fp32, kept_float={}), accepted)
        if form.precision == "int8-weights":
            target: Target = "onnxruntime" if form.target == "any" else form.target
            return self._judged(
                Candidate(form=form, model=compress_weights(self._fp32, target), kept_float={}), accepted
            )
        return self._half(form, form.precision, accepted)

    def _judged(self, candidate: Candidate, accepted: Accepted) -> Candidate:
        accepted(candidate.model)
        return candidate

    def _half(self, form: Form, kind: Kind, accepted: Accepted) -> Candidate:
        feeds = self.calibration.feeds_and_extremes
        self._progress("checking ranges", 0, None)
        report: HalfReport
        if form.search:
            output = self.calibration.contract.score.name
            model, report, _ = to_half_accepted(
                self._fp32,
                feeds,
                accepted,
                kind=kind,
                keep_float=form.keep_float,
                output=output,
                threads=self._threads,
            )
        else:
            model, report = to_half(self._fp32, feeds, kind=kind, keep_float=form.keep_float, threads=self._threads)
            accepted(model)
        return Candidate(form=form, model=model, converted=len(report.in_half), kept_float=report.kept_float)

    def _int8(self, form: Form, accepted: Accepted, measure: bool) -> Candidate:
        target: Target = "onnxruntime" if form.target == "any" else form.target
        placement = place(self._fp32, target, attention=form.attention is not False, keep_float=form.keep_float)
        ranges = self._ranges(placement, str(form.method))
        model, report, _ = to_int8_accepted(
            self._fp32,
            placement,
            ranges,
            self._search_items if form.search else (),
            accepted,
            output=self.calibration.contract.score.name,
            threads=self._threads,
            optional_attention=form.attention is None,
            search=form.search,
            always_measure=measure and form.search,
            progress=lambda done, total: self._progress("measuring sensitivity", done, total),
        )
        return Candidate(
            form=form,
            model=model,
            converted=len(report.quantised),
            attention=report.attention,
            kept_float=report.kept_float,
            sensitivities=report.sensitivities,
        )

    def _ranges(self, placement: Placement, method: str) -> dict[str, Range]:
        missing = [tensor for tensor in placement.tensors if tensor not in self._observed]
        if missing:
            self._observed |= collect(
                self._fp32,
                missing,
                self.calibration.feeds,
                cache=self._cache,
                key=self.calibration.digest,
                threads=self._threads,
                progress=lambda done, _: self._progress("observing ranges", done, None),
            )
        observer = OBSERVERS[method]
        return {tensor: observer(self._observed[tensor], symmetric=placement.symmetric) for tensor in placement.tensors}

    @cached_property
    def _search_items(self) -> list[Feed]:
        # The largest of random keys are a uniform sample of a stream of unknown length, in bounded memory.
        random = np.random.RandomState(self.calibration.seed)
        keyed = ((random.random_sample(), index, feed) for index, feed in enumerate(self.calibration.feeds()))
        return [feed for _, _, feed in heapq.nlargest(SEARCH_ITEMS, keyed)]
