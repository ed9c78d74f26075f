"""The line at the end of a run."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from iqa_runtime.commands.clips import Scored
from iqa_runtime.commands.rows import Row
from iqa_runtime.contract import Contract

LOW = 10
"""Percentile below which an image is worse than nine of ten."""


@dataclass(slots=True)
class Summary:
    """Totals of a run."""

    values: list[float] = field(default_factory=list)
    low: int = 0
    judged: int = 0
    below: int = 0
    failed: int = 0
    clips: int = 0
    failed_clips: int = 0
    undrawn: int = 0
    interrupted: bool = False
    start: float = field(default_factory=time.perf_counter)

    def add(self, scored: Scored) -> None:
        """Count a result."""
        result = scored.result
        if scored.is_clip:
            self.clips += 1
            self.failed_clips += result.value is None
        elif result.value is None:
            self.failed += 1
        else:
            self.values.append(result.value)
            self.low += result.percentile is not None and result.percentile < LOW

    def judge(self, row: Row) -> None:
        """Count a verdict, if the row has one; it may be of an earlier run."""
        self.judged += row["verdict"] is not None
        self.below += row["verdict"] == "fail"

    @property
    def is_clean(self) -> bool:
        """Whether nothing failed."""
        return not (self.failed or self.failed_clips or self.undrawn)

    def text(self, contract: Contract) -> str:
        """Return the line that ends a run."""
        seconds = time.perf_counter() - self.start
        count = len(self.values) + self.failed
        parts = [f"{count} image{'s' * (count != 1)}, {self.failed} failed"]
        if self.clips:
            parts[0] = f"{count} images and frames, {self.failed} failed"
            parts.append(f"{self.clips} video{'s' * (self.clips != 1)}, {self.failed_clips} failed")
        if self.values:
            mean = math.fsum(self.values) / len(self.values)
            parts.append(
                f"score mean {mean:.4f}, min {min(self.values):.4f}, max {max(self.values):.4f} ({contract.score})"
            )
        if self.values and contract.score.quantiles is not None:
            low = f"{self.low} of {len(self.values)} worse than 9 of 10 of the reference population"
            parts.append(f"{low} of {contract.score.quantiles.images} images")
        if self.judged:
            parts.append(f"{self.below} of {self.judged} worse than the threshold")
        parts += [f"{self.undrawn} without heat map"] * (self.undrawn > 0)
        parts.append(f"{count / seconds:.2f} images/s")
        parts += ["interrupted"] * self.interrupted + ["untrained weights"] * (not contract.weights.trained)
        return "; ".join(parts)
