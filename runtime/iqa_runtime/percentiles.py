"""The place of a score among those of a population."""

from __future__ import annotations

from bisect import bisect_left

from iqa_runtime.contract import ScoreOutput


def percentile(output: ScoreOutput, score: float) -> float | None:
    """Return the share of the contract's population that is worse than a score, in percent.

    Parameters
    ----------
    output
        With the quantiles of the population and the direction.
    score
        Any finite number.

    Returns
    -------
    float or None
        0 to 100: between two quantiles on the straight line through them, 0 and 100 beyond the outer ones. What has the
        same score is not worse, so of several equal quantiles it is the one with the least share. None without
        quantiles.
    """
    if output.quantiles is None:
        return None
    scores = output.quantiles.scores
    if not output.higher_is_better:
        scores, score = tuple(-each for each in reversed(scores)), -score
    place = bisect_left(scores, score)
    if place in (0, len(scores)):
        return 100.0 if place else 0.0
    low, high = scores[place - 1], scores[place]
    return 100 * (place - 1 + (score - low) / (high - low)) / (len(scores) - 1)
