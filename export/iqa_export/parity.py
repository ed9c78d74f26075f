"""Parity: the network as published, in PyTorch, against the exported graph on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from iqa_calibration.graphs.runner import Runner
from iqa_runtime.errors import IqaError

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


class ParityError(IqaError, RuntimeError):
    """An exported graph does not compute what the network as published does."""


@dataclass(frozen=True, kw_only=True)
class OutputParity:
    """One output over all samples, at one batch size.

    Attributes
    ----------
    output, batch
        Name of the output; items in one run of the graph.
    largest
        Largest absolute value PyTorch computed.
    spread
        Its largest minus its smallest value over the samples.
    difference
        Largest absolute difference of the two.
    passed
        Whether the differences are within `TOLERANCE` of `largest`, but for isolated elements (`ISOLATED_SHARE`), and
        the values are neither zero nor constant.
    """

    output: str
    batch: int
    largest: float
    spread: float
    difference: float
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """What the network as published computes on the samples, and the work it takes."""

    outputs: tuple[NDArray[np.float32], ...]
    gmac: float


def run_as_written(module: nn.Module, inputs: Sequence[NDArray[Any]]) -> Oracle:
    """Run the network as published, item by item so that memory stays that of one.

    `Oracle.gmac` counts the products and convolutions of one item, in 10^9 multiply-accumulates.
    """
    columns: list[list[NDArray[np.float32]]] = []
    flops = 0
    with torch.no_grad():
        for index in range(len(inputs[0])):
            tensors = [torch.from_numpy(array[index : index + 1]) for array in inputs]
            with FlopCounterMode(display=False) as counter:
                columns.append([output.numpy() for output in module(*tensors)])
            flops = counter.get_total_flops()
    outputs = tuple(np.concatenate(parts) for parts in zip(*columns, strict=True))
    return Oracle(outputs=outputs, gmac=flops / 2e9)


def run_onnx(path: Path, inputs: dict[str, NDArray[Any]], batch: int) -> list[NDArray[np.float32]]:
    """Run a graph on ONNX Runtime's CPU provider, in a session with the options that ship, `batch` items a run.

    Raises
    ------
    ArtefactError
        If ONNX Runtime cannot load or run it.
    """
    runner = Runner(path)
    count = len(next(iter(inputs.values())))
    runs = [
        runner.run({name: array[start : start + batch] for name, array in inputs.items()})
        for start in range(0, count, batch)
    ]
    return [np.concatenate([values[name] for values in runs]) for name in runner.outputs]


def compare(
    names: Sequence[str], oracle: Sequence[NDArray[np.float32]], outputs: Sequence[NDArray[np.float32]], batch: int
) -> list[OutputParity]:
    """Compare the outputs of both sides, in the order of `names`."""
    rows = []
    for name, expected, actual in zip(names, oracle, outputs, strict=True):
        largest = float(np.abs(expected).max())
        with np.errstate(invalid="ignore"):
            spread = float(np.ptp(expected))
            differences = np.abs(expected - actual)
            difference = float(differences.max())
        finite = bool(np.isfinite(expected).all() and np.isfinite(actual).all())
        isolated = np.mean(differences > TOLERANCE * largest) <= ISOLATED_SHARE
        within = bool(isolated) and difference <= ISOLATED_TOLERANCE * largest
        passed = finite and within and spread > TOLERANCE * largest > 0
        rows.append(
            OutputParity(output=name, batch=batch, largest=largest, spread=spread, difference=difference, passed=passed)
        )
    return rows
