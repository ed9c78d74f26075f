"""What all sections of the document are measured with: how much, and how cases and figures are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from speed import networks
from speed.document import Case, Section
from speed.turns import Contender, Limits, Outcome, prepare, take_turns

MODELS = ("yoto-nr", "edge-nr", "cvrkd", "dri", "mfe")
EDGE, YOTO = "edge-nr", "yoto-nr"
TITLES = {EDGE: "edge", YOTO: "YOTO"}
Say = Callable[[str], None]

MAKE_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much to measure.

    Attributes
    ----------
    photographs, artefacts
        Folders of what is made once and kept for the next run.
    threads
        Of everyone.
    quick
        Small sizes and few rounds, to see that all works; its numbers are worth little.
    thorough
        Rounds and limits for numbers to publish, instead of a quarter of an hour for everything.
    say
        Told what is being done.
    """

    photographs: Path
    artefacts: Path
    threads: int
    models: tuple[str, ...] = MODELS
    quick: bool = False
    thorough: bool = False
    say: Say

    @property
    def rounds(self) -> int:
        return 2 if self.quick else 15 if self.thorough else 7


def export(settings: Settings, model: str) -> Path:
    """Return the float32 artefact of a model, made if it is not there."""
    makers = networks.makers(model, str(settings.artefacts), settings.threads)
    exporter = next(maker for maker in makers if maker.name == networks.DEPLOYED)
    made = prepare(exporter, MAKE_SECONDS)
    if made.error is not None:
        raise RuntimeError(f"{model} cannot be exported: {made.error}")
    return settings.artefacts / f"{model}.onnx"


def case_of(
    name: str,
    contenders: list[Contender],
    limits: Limits,
    *,
    base: str | None = None,
    tolerance: float | None = None,
) -> Case:
    return Case(name=name, outcomes=take_turns(contenders, limits), base=base, tolerance=tolerance)


def outcome_of(case: Case, name: str) -> Outcome:
    return next(outcome for outcome in case.outcomes if outcome.name == name)


def median_of(case: Case, name: str) -> float | None:
    return outcome_of(case, name).median


def note(section: Section, figure: str, value: float | None, divisor: float | None = 1.0) -> None:
    """Keep a figure, if what it is made of was measured."""
    if value is not None and divisor:
        section.figures[figure] = value / divisor
