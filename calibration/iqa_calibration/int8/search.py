"""Integers that pass a gate: the cheapest parts of the network that must stay float32 for that, found automatically."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from onnx import ModelProto

from iqa_calibration.graphs.runner import Feed
from iqa_calibration.int8.observers import Range
from iqa_calibration.int8.placement import Placement, Target
from iqa_calibration.int8.quantisation import quantise
from iqa_calibration.int8.sensitivity import Progress, Sensitivity, measure_sensitivity
from iqa_runtime.errors import UsageError

MAX_GATES = 12
"""Calls of the gate: the first one or two, up to 6 that bisect 48 parts, and a few to take back what was kept
needlessly."""

Attention = Literal["quantised", "refused", "float32"]
"""What became of long products of two activations; refused: tried, and given back because of the gate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Report:
    """What became integer.

    Attributes
    ----------
    target
        For whom.
    quantised
        Products in integers, in the order of execution.
    attention
        What became of those of two activations; ``float32`` too where there are none that the placement would quantise.
    kept_float
        Products in float32, and why: those that the placement keeps and those that the gate demanded.
    sensitivities
        Every part, the one with the largest effect first; empty if they were not measured.
    tried
        Number of graphs that the gate judged.
    """

    target: Target
    quantised: tuple[str, ...]
    attention: Attention
    kept_float: dict[str, str]
    sensitivities: tuple[Sensitivity, ...]
    tried: int


def to_int8_accepted(
    model: ModelProto,
    placement: Placement,
    ranges: Mapping[str, Range],
    items: Sequence[Feed],
    accepted: Callable[[ModelProto], bool],
    *,
    output: str = "score",
    threads: int = 1,
    optional_attention: bool = False,
    search: bool = True,
    max_gates: int = MAX_GATES,
    always_measure: bool = False,
    progress: Progress | None = None,
) -> tuple[ModelProto, Int8Report, bool]:
    """Quantise a graph as planned, and give up as much of that as a gate demands, as cheaply as can be found.

    Cost is the multiplications and additions that stay float32, a measure of time that needs no target at hand. If the
    gate refuses the whole placement, parts are ranked by the square of their effect on the score over their cost:
    rounding errors of different parts are nearly independent, so squares of effects add up, and to keep what weighs
    most for its cost is the greedy solution of the knapsack problem of removing enough of that sum. Bisection finds the
    shortest beginning of the ranking with which the gate accepts. Of the parts in it some may be there only for their
    rank; the costliest first, each is quantised again and stays so if the gate still accepts. The ranking and the two
    steps are our choice.

    Products of two activations stay as planned, unless they are optional: then they go back to float32 first, all of
    them, and where more has to go, they are tried once more with what was found.

    Parameters
    ----------
    model, placement, ranges, items, output, threads
        As for `measure_sensitivity`.
    accepted
        The gate: tells whether a graph may be used. It is called once for each graph tried.
    optional_attention
        Whether products of two activations may go back to float32.
    search
        Whether others may; if not, `items` are needed for `always_measure` alone.
    max_gates
        Most calls of the gate.
    always_measure
        Measure sensitivities, for the report, also if the gate accepts at once.
    progress
        Is told of each part measured.

    Returns
    -------
    model, report, accepted
        The cheapest graph that was accepted; if none was, the last that was tried, and False. At least one part of it
        is in integers.

    Raises
    ------
    UsageError
        If `max_gates` is less than 1; and as `measure_sensitivity`.
    ArtefactError
        As `measure_sensitivity`.
    """
    if max_gates < 1:
        raise UsageError(f"max_gates is {max_gates}; the gate must judge at least 1 graph")
    best = _Best(model, placement, ranges, accepted)
    if not best.accepts(()) and optional_attention and placement.attention and max_gates > 1:
        best.accepts((), attention=False)
    sensitivities: tuple[Sensitivity, ...] = ()
    searching = search and not best.passed
    if searching or always_measure:
        sensitivities = measure_sensitivity(
            model, placement, ranges, items, output=output, threads=threads, progress=progress
        )
    if searching:
        ranking = sorted(sensitivities, key=lambda part: -(part.effect**2) / part.macs)
        shortest, longest = 1, len(ranking) - 1
        while shortest <= longest and best.tried < max_gates:
            middle = (shortest + longest) // 2
            if best.accepts(ranking[:middle]):
                longest = middle - 1
            else:
                shortest = middle + 1
        if best.passed and not best.attention and best.tried < max_gates:
            best.accepts(best.kept, attention=True)
        # The last of them is needed: the gate has refused the others without it.
        dispensable: Sequence[Sensitivity] = best.kept[:-1] if best.passed else ()
        for part in sorted(dispensable, key=lambda part: -part.macs)[: max_gates - best.tried]:
            best.accepts([other for other in best.kept if other is not part])
    return best.model, best.report(sensitivities), best.passed


class _Best:
    """The best graph so far: the last that was accepted, or the last tried while none was."""

    def __init__(
        self,
        model: ModelProto,
        placement: Placement,
        ranges: Mapping[str, Range],
        accepted: Callable[[ModelProto], bool],
    ) -> None:
        self._original = model
        self._placement = placement
        self._ranges = ranges
        self._accepted = accepted
        self.model = model
        self.kept: Sequence[Sensitivity] = ()
        self.attention = True
        self.passed = False
        self.tried = 0

    def accepts(self, kept: Sequence[Sensitivity], *, attention: bool | None = None) -> bool:
        """Ask the gate about the graph in which some parts stay float32, products of two activations as before."""
        attention = self.attention if attention is None else attention
        names = [node for part in kept for node in part.nodes]
        if not attention:
            names += self._placement.attention
        model = quantise(self._original, self._placement, self._ranges, keep_float=names)
        self.tried += 1
        passed = self._accepted(model)
        if passed or not self.passed:
            self.model, self.kept, self.attention, self.passed = model, kept, attention, passed
        return passed

    def report(self, sensitivities: tuple[Sensitivity, ...]) -> Int8Report:
        placement = self._placement
        kept_float = placement.kept_float | {
            node: f"its part {part.part} alone in integers moves scores by {part.effect:.2%} of their spread"
            for part in self.kept
            for node in part.nodes
        }
        if not self.attention:
            kept_float |= dict.fromkeys(placement.attention, "a product of two activations, which the gate refused")
        attention: Attention = "float32"
        if placement.attention:
            attention = "quantised" if self.attention else "refused"
        return Int8Report(
            target=placement.target,
            quantised=tuple(node for node in placement.layers if node not in kept_float),
            attention=attention,
            kept_float={node: kept_float[node] for node in placement.layers if node in kept_float},
            sensitivities=sensitivities,
            tried=self.tried,
        )
