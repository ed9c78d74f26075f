"""Half precision that passes a gate: the parts whose rounding moves scores most go back to float32, worst first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice

import numpy as np
from onnx import ModelProto

from iqa_calibration.graphs.runner import Feed, item_scores
from iqa_calibration.half.casting import FORMATS, Kind, at_opset_for, converted, emulated
from iqa_calibration.half.conversion import HalfReport, in_half, to_half

PARTS = 16
"""Parts of the graph that are told apart: each costs a run over the items, and a sixteenth of the speed if kept."""

ITEMS = 24
"""Items on which the effect of a part on scores is measured."""

MAX_KEPT = PARTS // 2
"""Parts that may go back; with more in float32 there is little left to win."""


def to_half_accepted(
    model: ModelProto,
    feeds: Callable[[], Iterable[Feed]],
    accepted: Callable[[ModelProto], bool],
    *,
    kind: Kind = "fp16",
    keep_float: Collection[str] = (),
    output: str = "score",
    threads: int = 1,
) -> tuple[ModelProto, HalfReport, bool]:
    """Put a graph into half precision as `to_half` does, and give up as much of it as a gate demands.

    If the gate refuses, the nodes in half are divided into `PARTS` parts in the order of execution. The effect of a
    part is the root mean square change of the score over `ITEMS` items when that part alone is in half. Parts return
    to float32 in the order of their effects, one more for each time the gate refuses.

    Parameters
    ----------
    model, feeds, kind, keep_float, threads
        As for `to_half`.
    accepted
        The gate: tells whether a graph may be used. It is called once for each graph tried.
    output
        The output whose changes count.

    Returns
    -------
    model, report, accepted
        The first graph that was accepted; if none was, the last that was tried, and False.

    Raises
    ------
    UsageError, ArtefactError
        As `to_half`.
    """
    half, report = to_half(model, feeds, kind=kind, keep_float=keep_float, threads=threads)
    if accepted(half):
        return half, report, True
    for effect, part in _effects(model, report, list(islice(feeds(), ITEMS)), output, threads)[:MAX_KEPT]:
        report = report.with_float(dict.fromkeys(part, f"its part of the graph in half moves scores by {effect:.2g}"))
        half = in_half(model, report, feeds(), threads=threads)
        if accepted(half):
            return half, report, True
    return half, report, False


def _effects(
    model: ModelProto, report: HalfReport, items: Sequence[Feed], output: str, threads: int
) -> list[tuple[float, list[str]]]:
    """Measure each part alone in half; the largest effect comes first."""
    half = FORMATS[report.kind]
    model = at_opset_for(model, half)
    exact = item_scores(model, items, output, threads=threads)
    everything = {*report.in_half, *report.kept_float}
    effects = []
    for names in np.array_split(np.array(report.in_half, dtype=object), min(PARTS, len(report.in_half))):
        part = [str(name) for name in names]
        alone = converted(model, half, everything.difference(part))
        change = item_scores(emulated(alone), items, output, threads=threads) - exact
        effects.append((float(np.sqrt(np.square(change).mean())), part))
    return sorted(effects, key=lambda entry: -entry[0])
