"""Score a data set with an artefact, and with classical metrics on the same images."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import ImageError, IqaError, UsageError
from iqa_runtime.images.header import Frame
from iqa_runtime.images.loading import load_image
from iqa_runtime.scorer import Scorer
from iqa_training.datasets import Sample
from iqa_training.evaluation.statistics import Agreement, agreement
from iqa_training.metrics import METRICS

BASELINES = ("psnr", "ssim", "gmsd")
"""The metrics that results are usually set beside; GMSD is the hardest of the three to beat."""

ALL = "all"
"""Name of the group of all images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """What gives scores, and what they mean.

    Attributes
    ----------
    name
        The artefact's model and variant, or the metric's name.
    higher_is_better
        Direction.
    nominal_range
        Scores that mean 0 and 1; None where only their order and distances have a meaning.
    """

    name: str
    higher_is_better: bool
    nominal_range: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An image that could not be scored, and why."""

    image: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Scores of the images that every method could score, and what became of the others.

    Attributes
    ----------
    samples
        The scored ones, in the order of the data set.
    methods
        The artefact first.
    scores
        float64, (methods, samples), in each method's own units.
    failures
        The others.
    """

    samples: tuple[Sample, ...]
    methods: tuple[Method, ...]
    scores: NDArray[np.float64]
    failures: tuple[Failure, ...]

    @property
    def human(self) -> NDArray[np.float64]:
        """Human scores, (samples,), 0 (worst) to 1 (best)."""
        return np.array([sample.mos for sample in self.samples], dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the result: a method on a group of images."""

    images: str
    method: str
    agreement: Agreement


def judge(
    scorer: Scorer,
    samples: Sequence[Sample],
    *,
    baselines: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> Judged:
    """Score every sample; what is wrong with one image does not keep the others from being scored.

    Parameters
    ----------
    scorer
        Open.
    samples
        With references, if the artefact or the baselines take them.
    baselines
        Whether to compute `BASELINES` too, on as many threads as the scorer uses.
    advance
        Called after every image that the artefact has scored.

    Raises
    ------
    UsageError
        If references are needed and no sample has one.
    """
    contract = scorer.contract
    if not any(sample.reference for sample in samples):
        if contract.needs_reference:
            raise UsageError(
                f"this artefact ({contract.model}, {contract.task}) compares with references and the data set has "
                "none; choose another data set, or a no-reference artefact"
            )
        if baselines:
            raise UsageError("``baselines`` compares with references and the data set has none; leave it out")
    images = [sample.distorted for sample in samples]
    references = [sample.reference for sample in samples] if contract.needs_reference else None
    outcomes: list[tuple[float, ...] | IqaError] = []
    for result in scorer.score_many(images, references):
        outcomes.append((result.value,) if result.value is not None else result.error or ImageError("no score"))
        advance()
    if baselines:
        with ThreadPoolExecutor(scorer.threads) as pool:
            outcomes = list(pool.map(partial(_add_baselines, frame=scorer.frame), samples, outcomes))
    score = contract.score
    methods = [
        Method(
            name=f"{contract.model} {contract.variant}",
            higher_is_better=score.higher_is_better,
            nominal_range=None if score.low is None or score.high is None else (score.low, score.high),
        )
    ]
    methods += [Method(name=name, higher_is_better=METRICS[name].higher_is_better) for name in BASELINES if baselines]
    pairs = list(zip(samples, outcomes, strict=True))
    scored = [(sample, outcome) for sample, outcome in pairs if isinstance(outcome, tuple)]
    return Judged(
        samples=tuple(sample for sample, _ in scored),
        methods=tuple(methods),
        scores=np.array([outcome for _, outcome in scored], dtype=np.float64).reshape(-1, len(methods)).T,
        failures=tuple(
            Failure(image=os.fspath(sample.distorted), error=str(outcome))
            for sample, outcome in pairs
            if isinstance(outcome, IqaError)
        ),
    )


def measure(
    judged: Judged,
    groups: Mapping[str, Sequence[str]],
    *,
    resamples: int,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Measure the agreement of every method: on all images, on each group of types, on each type if there are several.

    Parameters
    ----------
    judged
        What `judge` returned.
    groups
        Types by name of the group; see `check_groups`.
    resamples, seed
        Of the bootstrap.
    advance
        Called after every row.
    """
    human = judged.human
    types = np.array([sample.distortion or "" for sample in judged.samples])
    contents = np.array([sample.content for sample in judged.samples])
    rows = []
    for name, members in image_groups(judged.samples, groups).items():
        chosen = np.flatnonzero(np.isin(types, members)) if name != ALL else np.arange(len(types))
        for method, scores in zip(judged.methods, judged.scores, strict=True):
            rows.append(
                Row(
                    images=name,
                    method=method.name,
                    agreement=agreement(
                        scores[chosen],
                        human[chosen],
                        contents[chosen].tolist(),
                        higher_is_better=method.higher_is_better,
                        nominal_range=method.nominal_range,
                        resamples=resamples,
                        seed=seed,
                    ),
                )
            )
            advance()
    return rows


def image_groups(samples: Sequence[Sample], groups: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Return the types in each group that gets a row: all, the named groups, then the types if there are several."""
    types = distortion_types(samples)
    return {ALL: types, **groups, **({name: [name] for name in types} if len(types) > 1 else {})}


def distortion_types(samples: Sequence[Sample]) -> list[str]:
    """Return the names of the distortion types, sorted."""
    return sorted({sample.distortion for sample in samples if sample.distortion is not None})


def select_types(samples: Sequence[Sample], types: Sequence[str] | None) -> list[Sample]:
    """Keep the samples of some distortion types; None keeps all.

    Raises
    ------
    UsageError
        If there is no such type.
    """
    if types is None:
        return list(samples)
    _check_known("``types``", types, distortion_types(samples))
    return [sample for sample in samples if sample.distortion in types]


def check_groups(samples: Sequence[Sample], groups: Mapping[str, Sequence[str]]) -> None:
    """Check that groups are made of types there are, under names of their own.

    Raises
    ------
    UsageError
        If not.
    """
    known = distortion_types(samples)
    for name, members in groups.items():
        if name in (ALL, *known):
            raise UsageError(f"``groups={name}``: the name is taken; choose another one")
        _check_known(f"``groups={name}``", members, known)


def _check_known(parameter: str, types: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in types if name not in known]
    if unknown:
        there = f"there is {', '.join(known)}" if known else "the data set tells none"
        raise UsageError(f"{parameter}: no distortion type {', '.join(map(repr, unknown))}; {there}")


def _add_baselines(
    sample: Sample, outcome: tuple[float, ...] | IqaError, frame: Frame | None
) -> tuple[float, ...] | IqaError:
    """Extend the artefact's score of an image by those of the metrics; an error stays one."""
    if isinstance(outcome, IqaError):
        return outcome
    if sample.reference is None:
        return UsageError(f"{sample.distorted}: no reference to compare with; name one, or leave the baselines out")
    try:
        reference, distorted = (load_image(each, frame=frame) for each in (sample.reference, sample.distorted))
        return (*outcome, *(METRICS[name].function(reference, distorted) for name in BASELINES))
    except IqaError as error:
        return error
