"""What the contract of an artefact says of how it was calibrated and judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from iqa_calibration.gate.gate import GateResult
from iqa_calibration.images.sets import SetRecord
from iqa_calibration.int8.search import Attention

_SCORES = frozenset(["trained", "fp32_scores", "candidate_scores", "extremes"])
"""Of a verdict, what is in the report alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRecord(SetRecord):
    """How the numbers of another precision were found.

    Attributes
    ----------
    method
        The observer that chose ranges, or ``range check`` for half precision.
    converted
        Nodes that compute in the precision of the contract.
    kept_float
        Nodes that could and don't, and why.
    attention
        ``int8``: what became of long products of two activations.
    """

    method: str
    converted: int
    kept_float: dict[str, str]
    attention: Attention | None

    def to_contract(self) -> dict[str, Any]:
        """Return it as the contract holds it: without what does not apply."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in content.items() if value is not None}


def gate_to_contract(verdict: GateResult | None, backend: str, seed: int) -> dict[str, Any]:
    """Return a verdict as the contract holds it: all but the scores, or that nobody judged.

    Parameters
    ----------
    verdict
        None where the gate was left out.
    backend
        Whose scores decided.
    seed
        Of the gate set.
    """
    if verdict is None:
        return {"skipped": True}
    content = {name: value for name, value in msgspec.to_builtins(verdict).items() if name not in _SCORES}
    # In which folder the photographs lay is nobody's business.
    worst = None if verdict.worst is None else Path(verdict.worst).name
    return {"backend": backend, "seed": seed} | content | {"worst": worst}
