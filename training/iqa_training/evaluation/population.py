"""Measure which scores a population of pictures has, and write them into the contract of an artefact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from iqa_runtime.artefacts.opening import Artefact
from iqa_runtime.contract import Quantiles
from iqa_runtime.errors import UsageError
from iqa_runtime.files.overwriting import write_at_once
from iqa_runtime.scorer import Scorer

STEPS = 100
"""Steps of probability between the quantiles that are kept, one a percent: our choice, as fine as one reads them."""


@dataclass(frozen=True, slots=True)
class Population:
    """What was measured.

    Attributes
    ----------
    quantiles
        Of the scores.
    failures
        Why each image without a score has none.
    """

    quantiles: Quantiles
    failures: tuple[str, ...]


def check_artefact(artefact: Artefact) -> None:
    """Refuse an artefact that no quantiles can be measured for or written into.

    Raises
    ------
    UsageError
        If it takes a reference, or is an engine.
    """
    if artefact.engine is not None:
        raise UsageError(
            f"{artefact.path}: quantiles are written into an ONNX file; give the one that the engine was built of, and "
            "build the engine anew"
        )
    if artefact.contract.needs_reference:
        raise UsageError(f"{artefact.path}: it takes a reference, and pictures alone have none; give another")


def measure_population(
    scorer: Scorer, images: Sequence[str], name: str, *, advance: Callable[[], None] = lambda: None
) -> Population:
    """Score pictures and return the quantiles of their scores, 0 to 100 percent.

    Between two scores a quantile is interpolated linearly (Hyndman and Fan 1996, "Sample quantiles in statistical
    packages", definition 7).

    Parameters
    ----------
    scorer
        With the artefact's own crops and size, for which the quantiles will be taken.
    images
        Paths.
    name
        Which pictures they are, in words.
    advance
        Called after each.

    Raises
    ------
    UsageError
        If fewer than two of them have a score.
    """
    values: list[float] = []
    failures: list[str] = []
    for result in scorer.score_many(images):
        if result.value is None:
            failures.append(str(result.error))
        else:
            values.append(result.value)
        advance()
    if len(values) < 2:
        first = f" (the first: {failures[0]})" if failures else ""
        raise UsageError(f"{len(values)} of {len(images)} images have a score{first}; a population has two or more")
    # Interpolation rounds: what is between two equal scores may be a bit off, and quantiles never fall.
    scores = np.maximum.accumulate(np.quantile(np.asarray(values), np.linspace(0, 1, STEPS + 1)))
    quantiles = Quantiles(population=name, images=len(values), scores=tuple(scores.tolist()))
    return Population(quantiles, tuple(failures))


def write_with_quantiles(artefact: Artefact, quantiles: Quantiles, output: Path) -> None:
    """Write an artefact anew, with quantiles in its contract and the same graph.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    import onnx

    from iqa_calibration.graphs.finishing import embed_contract

    model = onnx.load(artefact.path)
    contract = artefact.contract
    embed_contract(model, replace(contract, score=replace(contract.score, quantiles=quantiles)))
    write_at_once(output, model.SerializeToString())
