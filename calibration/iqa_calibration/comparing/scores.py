"""Compare the scores that two artefacts give the same images.

Any two that mean the same by them: float32 and int8, ONNX and engine, one backend and another. Differences of
scores are told as a share of the spread of the first one's scores, from their 5th to their 95th percentile, as the gate
tells them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iqa_calibration.gate.agreement import pearson, spearman, spread_of
from iqa_runtime.contract import Contract, FileDigest
from iqa_runtime.errors import UsageError
from iqa_runtime.scorer import Scorer
from iqa_runtime.scoring.patch_plans import format_patch_plan
from iqa_runtime.scoring.resizing import format_resize

Progress = Callable[[str, int, int], None]
"""Called with what goes on, what is done and of how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two.

    Attributes
    ----------
    artefact
        File and digest.
    model, precision
        Model, variant and task; precision and target.
    backend
        What ran it: the backend and what that ran on.
    resize
        How pictures are resized before crops are cut.
    trained
        Whether its weights are trained.
    """

    artefact: FileDigest
    model: str
    precision: str
    backend: str
    resize: str
    trained: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """One image: the scores of both sides, and second minus first."""

    image: str
    first: float
    second: float
    difference: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was found.

    Attributes
    ----------
    first, second
        The two sides.
    crops
        The patch plan of both.
    spread
        Of the first one's scores, 5th to 95th percentile; 0 for a single image.
    mean, largest
        Mean and largest absolute difference of scores.
    mean_share, largest_share
        Those as a share of the spread; None if there is no spread.
    srcc, plcc
        Spearman and Pearson correlation; None where they are undefined.
    images
        The largest difference first.
    """

    first: Side
    second: Side
    crops: str
    spread: float
    mean: float
    largest: float
    mean_share: float | None
    largest_share: float | None
    srcc: float | None
    plcc: float | None
    images: tuple[ImageRow, ...]


def compare_scores(
    first: Scorer,
    second: Scorer,
    images: Sequence[str],
    references: str | Sequence[str] | None = None,
    *,
    progress: Progress | None = None,
) -> Comparison:
    """Score the same images with two artefacts.

    Parameters
    ----------
    first, second
        The two, open, with the same patch plan.
    images, references
        As for `Scorer.score_many`.
    progress
        Is told of each image.

    Raises
    ------
    UsageError
        If their scores don't mean the same, or there is no image.
    IqaError
        Whatever is wrong with an image.
    """
    check_comparable(first.contract, second.contract)
    if first.patch_plan != second.patch_plan:
        raise UsageError(
            f"crops {format_patch_plan(first.patch_plan)} and {format_patch_plan(second.patch_plan)}: "
            "scores of other crops differ anyway; give ``crops`` for both"
        )
    if not images:
        raise UsageError("there is no image to compare scores of; give at least one")
    scores = []
    for index, scorer in enumerate((first, second)):
        tell = part_of(progress, f"scoring, {'first' if index == 0 else 'second'}", len(images))
        scores.append(_scores(scorer, images, references, tell))
    left, right = scores
    difference = np.abs(right - left)
    spread = spread_of(left)
    mean, largest = float(difference.mean()), float(difference.max())
    order = np.argsort(-difference, kind="stable").tolist()
    return Comparison(
        first=_side(first),
        second=_side(second),
        crops=format_patch_plan(first.patch_plan),
        spread=spread,
        mean=mean,
        largest=largest,
        mean_share=mean / spread if spread > 0 else None,
        largest_share=largest / spread if spread > 0 else None,
        srcc=spearman(left, right),
        plcc=pearson(left, right),
        images=tuple(
            ImageRow(
                image=str(images[index]),
                first=float(left[index]),
                second=float(right[index]),
                difference=float(right[index] - left[index]),
            )
            for index in order
        ),
    )


def check_comparable(first: Contract, second: Contract) -> None:
    """Refuse two artefacts whose scores don't mean the same.

    Raises
    ------
    UsageError
        If task, range or direction of the scores differ.
    """
    sides = [(contract.task, contract.score.range, contract.score.direction) for contract in (first, second)]
    if sides[0] != sides[1]:
        words = [f"{contract.task}, {contract.score}" for contract in (first, second)]
        raise UsageError(
            f"scores of two kinds ({words[0]}; {words[1]}) cannot be compared; give artefacts of one model"
        )


def part_of(progress: Progress | None, stage: str, total: int) -> Callable[[int], None]:
    """Return what tells how much of one stage is done."""
    return lambda done: None if progress is None else progress(stage, done, total)


def _scores(
    scorer: Scorer, images: Sequence[str], references: str | Sequence[str] | None, tell: Callable[[int], None]
) -> NDArray[np.float64]:
    values = []
    for result in scorer.score_many(images, references):
        error = result.error
        if error is not None:
            raise type(error)(error if str(result.path) in str(error) else f"{result.path}: {error}") from error
        values.append(result.value)
        tell(len(values))
    return np.array(values, np.float64)


def _side(scorer: Scorer) -> Side:
    contract = scorer.contract
    return Side(
        artefact=scorer.file,
        model=f"{contract.model} {contract.variant} {contract.task}",
        precision=f"{contract.precision} for {contract.target}",
        backend=f"{scorer.backend_name} {scorer.provider}",
        resize=format_resize(scorer.resize),
        trained=contract.weights.trained,
    )
