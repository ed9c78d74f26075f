"""What a network returns, as the outputs that its contract file says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from iqa_export.outputs import ExportError
from iqa_export.systems.contract_file import ContractFile, HeadTable, Output

_SUMS_TO_ONE = 1e-3
"""How far probabilities of a softmax in float16 may sum to something else than 1; logits never do so for all items."""

_MAP_OF_ONE_CHANNEL = 4
"""Axes of a map that still has its channel, as convolutions give it."""


class ScoreHead(nn.Module):
    """A network behind the outputs of its graph: the score, from a distribution where it is one, maps and extras."""

    grades: Tensor

    def __init__(self, network: nn.Module, description: ContractFile) -> None:
        super().__init__()
        self.network = network
        self._picked = [("score", description.score.output)]
        self._picked += [(output.name, output.output) for output in description.further]
        self._maps = {output.name for output in description.maps}
        self._head = description.head if isinstance(description.head, HeadTable) else None
        if self._head is not None:
            self.register_buffer("grades", torch.tensor(self._head.distribution))

    def forward(self, *pictures: Tensor) -> tuple[Any, ...]:
        """Return the score, (N,) or (N, 1), then maps and extras."""
        result = self.network(*pictures)
        score, *others = (self._value(result, name, output) for name, output in self._picked)
        if self._head is not None:
            score = self._mean(score, self._head)
        if isinstance(score, Tensor) and score.ndim > 1 and score.shape[1:].numel() == 1:
            score = score.flatten()  # one number an item, whatever axes of one a network leaves behind it
        return score, *others

    def _value(self, result: object, name: str, output: Output) -> Any:
        value = _pick(result, output, name)
        is_channel = name in self._maps and isinstance(value, Tensor) and value.ndim == _MAP_OF_ONE_CHANNEL
        return value.squeeze(1) if is_channel else value

    def _mean(self, values: Any, head: HeadTable) -> Tensor:
        """Return the mean grade; outside of the exporter, values that are no distribution are refused."""
        count = len(head.distribution)
        if not isinstance(values, Tensor) or values.ndim != 2 or values.shape[1] != count:
            there = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ExportError(
                f"head.distribution has {count} grades, and the network returns {there} for {count} values an item; "
                "give one worth for each of its values, and check score.output"
            )
        if not torch.compiler.is_compiling():
            sums = values.sum(1)
            sound = bool(((sums - 1).abs() <= _SUMS_TO_ONE).all()) and bool((values >= 0).all())
            if sound != (head.values == "probabilities") and bool(values.isfinite().all()):
                raise ExportError(
                    f'head.values is "{head.values}", and the network returns values that sum to '
                    f"{float(sums[0]):.4g}, the least of them {float(values.min()):.4g}; "
                    + ('write "probabilities"' if sound else 'write "logits"')
                )
        if head.values == "logits":
            values = values.softmax(1)
        return torch.sum(values * self.grades, 1)


def _pick(result: object, output: Output, name: str) -> Any:
    """Return one of the values that a network returns."""
    if isinstance(result, Tensor):
        if output == 0:
            return result
        raise ExportError(f"{name}: output = {output!r}, and the network returns one tensor; leave output out")
    values: list[Any] = []
    names: list[str] = []
    if isinstance(result, Mapping):
        values, names = list(result.values()), [str(key) for key in result]
    elif isinstance(result, tuple | list):
        values, names = list(result), list(getattr(result, "_fields", ()))
    else:
        raise ExportError(f"the network returns {type(result).__name__}; return a tensor, a tuple of tensors or a dict")
    if isinstance(output, str) and output in names:
        return values[names.index(output)]
    if isinstance(output, int) and 0 <= output < len(values):
        return values[output]
    there = ", ".join(names) or "no names"
    raise ExportError(
        f"{name}: output = {output!r}, and the network returns {len(values)} values ({there}); write the place of one, "
        "from 0, or its name"
    )
