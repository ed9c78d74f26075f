"""Parity: the network as published, in PyTorch, against the exported graph on ONNX Runtime."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from iqa_calibration.graphs.runner import Runner
from iqa_export.outputs import BATCH_HINT, SQUEEZE_HINT, ExportError, as_outputs
from iqa_export.samples import Items, together
from iqa_runtime.errors import ArtefactError, IqaError

TOLERANCE = 1e-4
"""Largest allowed difference, as a share of the output's largest absolute value: twenty times what float32 rounding was
seen to make of these networks (5e-6), small beside any difference in quality that a person could see."""

ISOLATED_SHARE = 1e-3
ISOLATED_TOLERANCE = 1e-3
"""So many of an output's elements may differ by more than `TOLERANCE`, but by no more than this.

Training drives single attentions into saturation: with logits of several hundreds, rounding decides between two close
keys, and single tokens of a map then move by some 1e-4 in float32 however the network is written (measured on the edge
variant after an epoch of training, against float64: at most 4e-4, on average 3e-7, the score 2e-7). A wrong rewrite
moves most tokens. Of a few scores, none is exempt.
"""


ILL_CONDITIONED = 10.0
"""How many times further from PyTorch a graph may be, on a crop that is no photograph, than PyTorch is from itself in
float64 or on a crop an ulp away, where that is more than `TOLERANCE` allows: of a flat crop some networks divide
rounding by rounding. Ways to round differ by a few times what one is off (our choice, wide because nothing there is a
score); what lost a constant mostly divides by zero, and what is no number is never excused."""
_NEIGHBOURS, _SEED = 3, 0


class ParityError(IqaError, RuntimeError):
    """An exported graph does not compute what the network as published does."""


@dataclass(frozen=True, kw_only=True)
class OutputParity:
    """One output over the samples of one kind, at one batch size.

    Attributes
    ----------
    output, batch
        Name of the output; items in one run of the graph.
    samples
        ``photographs``, noise included, or ``plain``: black, white, flat, saturated, a single pixel.
    largest
        Largest absolute value PyTorch computed.
    spread
        Its largest minus its smallest value over the samples.
    difference
        Largest absolute difference of the two.
    passed
        Whether the differences are within `TOLERANCE` of `largest`, but for isolated elements (`ISOLATED_SHARE`), and
        the values of photographs are neither zero nor constant.
    fault
        What is wrong, in words; None if it passed.
    """

    output: str
    batch: int
    samples: str = "photographs"
    largest: float
    spread: float
    difference: float
    passed: bool
    fault: str | None = None


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """What the network as published computes on the samples, and the work it takes."""

    outputs: tuple[Items, ...]
    gmac: float


def run_as_written(module: nn.Module, inputs: Sequence[Items], names: Sequence[str]) -> Oracle:
    """Run the network as published, item by item so that memory stays that of one.

    `Oracle.gmac` counts the products and convolutions of the last item, in 10^9 multiply-accumulates.

    Raises
    ------
    ExportError
        If what it returns are no outputs of these names, or it fails or returns something else when run again.
    """
    columns: list[list[NDArray[np.float32]]] = []
    flops = 0
    module.eval()
    with torch.no_grad():
        for index in range(len(inputs[0])):
            with FlopCounterMode(display=False) as counter:
                columns.append(_run_item(module, inputs, index, names))
            flops = counter.get_total_flops()
        again = _run_item(module, inputs, 0, names)
    if any(not np.array_equal(first, second, equal_nan=True) for first, second in zip(columns[0], again, strict=True)):
        raise ExportError(
            "the network computes another score each time it is run; switch off what draws at random in it, such as "
            "dropout outside of nn.Dropout"
        )
    outputs = tuple(together([part[0] for part in parts]) for parts in zip(*columns, strict=True))
    return Oracle(outputs=outputs, gmac=flops / 2e9)


def run_otherwise(
    module: nn.Module, inputs: Sequence[Items], index: int, names: Sequence[str]
) -> list[list[NDArray[np.float64]]]:
    """Run one item as the network might as well have been: on items an ulp away, and in float64 if it can be."""
    item = [items[index][None] for items in inputs]
    random = np.random.RandomState(_SEED)
    runs = []
    with torch.no_grad():
        for _ in range(_NEIGHBOURS):
            near = [array + random.choice((-1, 0, 1), array.shape) * np.spacing(array) for array in item]
            runs.append(_run_item(module, [array.astype(np.float32) for array in near], 0, names))
        try:
            exact = copy.deepcopy(module).double().eval()
            runs.append(_run_item(exact, [array.astype(np.float64) for array in item], 0, names))
        except Exception:  # a network may hold float32 constants, or be unable to copy itself, in any way
            pass
    return [[values.astype(np.float64) for values in run] for run in runs]


def _run_item(module: nn.Module, inputs: Sequence[Items], index: int, names: Sequence[str]) -> list[NDArray[Any]]:
    # Of its own, because a network may change its inputs in place.
    tensors = [torch.from_numpy(items[index][None].copy()) for items in inputs]
    outputs = as_outputs(module(*tensors), names)
    for name, output in zip(names, outputs, strict=True):
        if output.shape[:1] != (1,):
            raise ExportError(
                f"the network as published gives {list(output.shape)} in {name!r} for a batch of 1; {SQUEEZE_HINT}"
            )
    # NumPy has no bfloat16; of other floats every bit is kept.
    return [(output.float() if output.dtype is torch.bfloat16 else output).numpy() for output in outputs]


def run_onnx(runner: Runner, inputs: dict[str, Items], batch: int) -> list[Items]:
    """Run a graph on all samples, `batch` of them a run: one where they differ in shape.

    Raises
    ------
    ParityError
        If ONNX Runtime cannot run it in batches of this size.
    """
    count = len(next(iter(inputs.values())))
    try:
        runs = [
            runner.run({name: np.stack([*items[start : start + batch]]) for name, items in inputs.items()})
            for start in range(0, count, batch)
        ]
    except ArtefactError as error:
        raise ParityError(f"{error}, {batch} at once; {BATCH_HINT}") from error
    return [together([item for values in runs for item in values[name]]) for name in runner.outputs]


def compare(names: Sequence[str], oracle: Sequence[Items], outputs: Sequence[Items], batch: int) -> list[OutputParity]:
    """Compare the outputs of both sides on photographs and noise, in the order of `names`."""
    rows = []
    for name, wanted, got in zip(names, oracle, outputs, strict=True):
        if _shapes(wanted) != _shapes(got):
            rows.append(_misshapen(name, wanted, got, batch, "photographs"))
            continue
        expected, actual = _values(wanted), _values(got)
        largest = float(np.abs(expected).max())
        with np.errstate(invalid="ignore"):
            spread = float(np.ptp(expected))
            differences = np.abs(expected - actual)
            difference = float(differences.max())
        within = _is_within(differences, largest)
        broken = sum(not np.isfinite(item).all() for item in wanted)
        fault = None
        if broken:
            fault = (
                f"the network itself computes NaN or infinity for {broken} of {len(wanted)} samples in {name}: its "
                "weights overflow, or something is divided by zero; take another checkpoint"
            )
        elif not spread > TOLERANCE * largest > 0:
            fault = (
                f"the network computes {float(expected.flat[0]):.4g} in {name} whatever the picture: are the weights "
                "zero or untrained, or is the output saturated?"
            )
        elif not (np.isfinite(actual).all() and within):
            fault = (
                f"the graph differs from the network in {name} (batch {batch}): {difference:.2e} where "
                f"{TOLERANCE * largest:.2e} is allowed, values up to {largest:.3g}"
            )
        rows.append(
            OutputParity(
                output=name,
                batch=batch,
                largest=largest,
                spread=spread,
                difference=difference,
                passed=fault is None,
                fault=fault,
            )
        )
    return rows


def explain_batches(rows: Sequence[OutputParity]) -> tuple[OutputParity, ...]:
    """Add a question to the faults of outputs that pass one item at a time."""
    alone = {(row.output, row.samples) for row in rows if row.passed and row.batch == 1}
    hint = "; one item at a time it agrees: does the network use other items of the batch?"
    return tuple(
        replace(row, fault=row.fault + hint) if row.fault and (row.output, row.samples) in alone else row
        for row in rows
    )


def compare_plain(
    names: Sequence[str],
    oracle: Sequence[Items],
    outputs: Sequence[Items],
    batch: int,
    scales: Sequence[float],
    otherwise: Callable[[int], list[list[NDArray[np.float64]]]] = lambda _: [],
) -> list[OutputParity]:
    """Compare both sides on what is no photograph, item by item and only where PyTorch is finite.

    Parameters
    ----------
    names, oracle, outputs, batch
        As in `compare`.
    scales
        Largest value of each output on photographs: an item is measured by this or by its own largest value.
    otherwise
        Computes the outputs of an item as `run_otherwise` does; asked where it differs. Where PyTorch is as far from
        itself, the item is ill-conditioned, and the graph may be off by as much (`ILL_CONDITIONED`).
    """
    rows = []
    for place, name in enumerate(names):
        expected, actual = oracle[place], outputs[place]
        if _shapes(expected) != _shapes(actual):
            rows.append(_misshapen(name, expected, actual, batch, "plain"))
            continue
        largest = spread = difference = 0.0
        failed = []
        for index, (wanted, got) in enumerate(zip(expected, actual, strict=True)):
            finite = np.isfinite(wanted)
            if not finite.any():
                continue
            wanted, got = np.atleast_1d(wanted[finite]), np.atleast_1d(got[finite])
            scale = max(scales[place], float(np.abs(wanted).max()))
            with np.errstate(invalid="ignore", over="ignore"):
                differences = np.abs(wanted - got)
            largest, difference = max(largest, scale), max(difference, float(differences.max()))
            if np.isfinite(got).all() and _is_within(differences, scale):
                continue
            others = [np.atleast_1d(values[place][0][finite]) for values in otherwise(index)]
            if not _is_rounding(wanted, got, others):
                failed.append(index)
        with np.errstate(invalid="ignore"):
            numbers = _values(expected)
            finite = np.isfinite(numbers)
            spread = float(np.ptp(numbers[finite])) if finite.any() else 0.0
        fault = None
        if failed:
            fault = (
                f"the graph differs from the network in {name} (batch {batch}) on {len(failed)} of {len(expected)} "
                f"crops that are black, white, flat, saturated or a single pixel: {difference:.2e} where "
                f"{TOLERANCE * largest:.2e} is allowed"
            )
        rows.append(
            OutputParity(
                output=name,
                batch=batch,
                samples="plain",
                largest=largest,
                spread=spread,
                difference=difference,
                passed=fault is None,
                fault=fault,
            )
        )
    return rows


def _values(items: Items) -> NDArray[np.float32]:
    """Return the values of all items in a row."""
    return np.concatenate([np.ravel(item) for item in items])


def _shapes(items: Items) -> list[tuple[int, ...]]:
    return [np.shape(item) for item in items]


def _is_within(differences: NDArray[Any], scale: float) -> bool:
    isolated = np.mean(~(differences <= TOLERANCE * scale)) <= ISOLATED_SHARE
    return bool(isolated) and bool((differences <= ISOLATED_TOLERANCE * scale).all())


def _is_rounding(wanted: NDArray[Any], got: NDArray[Any], others: Sequence[NDArray[np.float64]]) -> bool:
    """Tell whether PyTorch itself is as far off; what is no number is never rounding."""
    if not np.isfinite(got).all():
        return False
    own = max((float(np.nanmax(np.abs(wanted - other), initial=0.0)) for other in others), default=0.0)
    return own > 0 and float(np.abs(wanted.astype(np.float64) - got).max()) <= ILL_CONDITIONED * own


def _misshapen(name: str, expected: Items, actual: Items, batch: int, samples: str) -> OutputParity:
    return OutputParity(
        output=name,
        batch=batch,
        samples=samples,
        largest=float("nan"),
        spread=float("nan"),
        difference=float("nan"),
        passed=False,
        fault=(
            f"the graph gives {_shape_in_words(actual)} for {len(expected)} items in {name} (batch {batch}), the "
            f"network {_shape_in_words(expected)}: {BATCH_HINT}"
        ),
    )


def _shape_in_words(items: Items) -> str:
    return str(list(items.shape) if isinstance(items, np.ndarray) else [list(item.shape) for item in items])
