"""Statistics of agreement, against values worked out by hand and by SciPy's own functions."""

import json
import math

import msgspec
import numpy as np
import pytest
from scipy import stats

from iqa_runtime.errors import UsageError
from iqa_training.evaluation.statistics import (
    MIN_CONTENTS,
    STATISTICS,
    Logistic,
    Statistic,
    agreement,
    fit_logistic,
)

EXACT = 1e-12
"""Rounding of a float64 sum over some hundred values."""
FITTED = 1e-4
"""Of a parameter: a fit ends when the squared error changes by less than 1e-6 of itself, without noise far below."""
STRAIGHT = 1e-4
"""What a logistic may lack of a PLCC of 1 on a straight line, which it only approaches."""
QUANTILE = 0.02
"""A third of the half width: what 400 resamples leave uncertain, and the sample's own difference from a normal one."""
NOISE_SHARE = 0.05
"""Three standard errors of a standard deviation over some 1900 images: 3 / sqrt(2 * 1900)."""

RANDOM = np.random.default_rng(0)
TRUTH = Logistic(b1=0.95, b2=0.05, b3=30.0, b4=4.0)


def names(images, contents):
    return [f"photo {index % contents}" for index in range(images)]


def related(images=240, noise=0.1, seed=1):
    random = np.random.default_rng(seed)
    scores = random.uniform(15, 45, images)
    return scores, np.clip(TRUTH(scores) + noise * random.standard_normal(images), 0, 1)


def judge(scores, human, contents=12, *, higher_is_better=True, **options):
    scores, human = np.asarray(scores, dtype=np.float64), np.asarray(human, dtype=np.float64)
    return agreement(
        scores, human, names(len(scores), contents), higher_is_better=higher_is_better, **{"resamples": 50, **options}
    )


def values(result):
    return {name: getattr(result, name).value for name in STATISTICS}


def test_correlations_are_those_worked_out_by_hand():
    result = judge([1, 2, 3, 4, 5], [0.2, 0.1, 0.4, 0.3, 0.5], contents=5)
    # Ranks 2 1 4 3 5 against 1 to 5: squared differences add up to 4, and 2 of 10 pairs are in the wrong order.
    assert result.srcc.value == pytest.approx(1 - 6 * 4 / (5 * 24), abs=EXACT)
    assert result.krcc.value == pytest.approx((8 - 2) / 10, abs=EXACT)
    assert result.plcc_raw.value == pytest.approx(0.8, abs=EXACT)


def test_correlations_with_ties_are_scipys():
    scores = RANDOM.integers(0, 8, 60).astype(float)
    human = (scores + RANDOM.integers(-3, 4, 60)) / 20 + 0.3
    result = judge(scores, human)
    ranked = stats.pearsonr(stats.rankdata(scores), stats.rankdata(human)).statistic
    assert result.srcc.value == pytest.approx(ranked, abs=EXACT)
    assert result.krcc.value == pytest.approx(stats.kendalltau(scores, human).statistic, abs=EXACT)


def test_logistic_is_the_published_formula():
    scores = np.array([-3.0, 0.0, 7.0])
    expected = [(0.9 - 0.2) / (1 + math.exp(-(x - 1.5) / abs(-2.0))) + 0.2 for x in scores]
    np.testing.assert_allclose(Logistic(b1=0.9, b2=0.2, b3=1.5, b4=-2.0)(scores), expected, atol=EXACT)


@pytest.mark.parametrize("truth", [TRUTH, Logistic(b1=0.1, b2=0.8, b3=0.02, b4=0.005)], ids=["rising", "falling"])
def test_logistic_is_recovered_whatever_units_the_scores_have(truth):
    scores = truth.b3 + truth.b4 * np.linspace(-6, 6, 50)
    fitted = fit_logistic(scores, truth(scores))
    for name in ("b1", "b2", "b3", "b4"):
        assert getattr(fitted, name) == pytest.approx(getattr(truth, name), rel=FITTED, abs=FITTED * truth.b4)


def test_scores_on_a_logistic_have_a_plcc_of_one_after_it_and_less_before():
    scores, human = related(noise=0)
    result = judge(scores, human)
    assert result.plcc.value == pytest.approx(1, abs=FITTED)
    assert result.rmse.value == pytest.approx(0, abs=FITTED)
    assert result.srcc.value == pytest.approx(1, abs=EXACT)
    assert result.plcc_raw.value < 0.99


def test_the_logistic_follows_a_straight_line():
    scores = np.linspace(0, 1, 40)
    result = judge(scores, scores, nominal_range=(0, 1))
    assert result.plcc.value == pytest.approx(1, abs=STRAIGHT)
    assert result.rmse_raw.value == pytest.approx(0, abs=EXACT)


def test_error_after_the_logistic_is_that_of_the_noise():
    scores, human = related(images=2000, noise=0.02)
    inside = (human > 0) & (human < 1)
    assert judge(scores[inside], human[inside], resamples=0).rmse.value == pytest.approx(0.02, rel=NOISE_SHARE)


def test_raw_error_puts_scores_on_zero_to_one_by_their_range_and_direction():
    human = np.array([0.0, 0.25, 0.5, 0.75, 1.0, 0.5])
    scores = 10 - 10 * human
    scores[0] -= 3  # three tenths of the range in one image of six
    result = judge(scores, human, higher_is_better=False, nominal_range=(0, 10))
    assert result.rmse_raw.value == pytest.approx(0.3 / math.sqrt(6), abs=EXACT)


def test_turning_the_direction_and_the_scores_changes_nothing():
    scores, human = related()
    plain = judge(scores, human, nominal_range=(0, 50))
    turned = judge(50 - scores, human, higher_is_better=False, nominal_range=(0, 50))
    for name in STATISTICS:
        one, other = getattr(plain, name), getattr(turned, name)
        assert (other.value, other.low, other.high) == pytest.approx((one.value, one.low, one.high), abs=FITTED)


def test_scores_that_run_the_wrong_way_have_negative_correlations_after_the_logistic_too():
    scores, human = related()
    right, wrong = judge(scores, human), judge(scores, human, higher_is_better=False)
    for name in ("srcc", "krcc", "plcc", "plcc_raw"):
        assert getattr(wrong, name).value == pytest.approx(-getattr(right, name).value, abs=EXACT)
    assert wrong.plcc.value < -0.9


def test_intervals_contain_the_value_and_narrow_with_more_contents():
    scores, human = related(images=600)
    many = judge(scores, human, contents=600, resamples=200)
    for name in ("srcc", "krcc", "plcc", "rmse", "plcc_raw"):
        statistic = getattr(many, name)
        assert statistic.low < statistic.value < statistic.high
    scores, human = related(images=60)
    fewer = judge(scores, human, contents=60, resamples=200)
    assert fewer.srcc.high - fewer.srcc.low > 2 * (many.srcc.high - many.srcc.low)


def test_interval_over_contents_is_wider_than_over_images_where_errors_go_by_content():
    scores, human = related(images=240, noise=0)
    contents = names(240, 12)
    offsets = dict(zip(dict.fromkeys(contents), np.random.default_rng(3).normal(0, 5, 12), strict=True))
    shifted = scores + np.array([offsets[content] for content in contents])

    def width(labels):
        srcc = agreement(shifted, human, labels, higher_is_better=True, resamples=300).srcc
        return srcc.high - srcc.low

    assert width(contents) > 1.5 * width(names(240, 240))


def test_interval_of_a_plain_correlation_is_the_textbook_one():
    random = np.random.default_rng(5)
    left = random.standard_normal(400)
    right = 0.6 * left + 0.8 * random.standard_normal(400)
    result = judge(left, right, contents=400, resamples=400)
    # Fisher's transform, whose standard error is 1 / sqrt(n - 3).
    middle, half = math.atanh(result.plcc_raw.value), 1.96 / math.sqrt(397)
    assert result.plcc_raw.low == pytest.approx(math.tanh(middle - half), abs=QUANTILE)
    assert result.plcc_raw.high == pytest.approx(math.tanh(middle + half), abs=QUANTILE)


def test_seed_decides_the_interval_and_nothing_else():
    scores, human = related()
    first, again, other = judge(scores, human), judge(scores, human), judge(scores, human, seed=1)
    assert first == again
    assert first.srcc.low != other.srcc.low
    assert values(first) == values(other)


def test_order_of_images_changes_no_interval():
    scores, human = related()
    contents = np.array(names(len(scores), 12))
    order = RANDOM.permutation(len(scores))
    options = {"higher_is_better": True, "resamples": 50}
    one = agreement(scores, human, contents.tolist(), **options)
    other = agreement(scores[order], human[order], contents[order].tolist(), **options)
    assert other.srcc.low == pytest.approx(one.srcc.low, abs=EXACT)


@pytest.mark.parametrize(
    ("scores", "human", "reason"),
    [
        ([], [], "0 images; a statistic needs 5"),
        ([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4], "4 images; a statistic needs 5"),
        ([2, 2, 2, 2, 2, 2], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "all scores are equal"),
        ([math.inf] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "all scores are equal"),
        ([1, 2, 3, 4, 5, 6], [0.3] * 6, "all human scores are equal"),
    ],
)
def test_what_cannot_be_computed_is_missing_with_its_reason(scores, human, reason):
    result = judge(scores, human, contents=6)
    assert [getattr(result, name) for name in STATISTICS] == [Statistic(reason=reason)] * len(STATISTICS)
    assert result.logistic is None


def test_infinite_scores_have_ranks_alone():
    scores, human = related(images=40)
    best = np.argmax(human)
    scores[best] = scores.max() + 1
    finite = judge(scores, human)
    scores[best] = math.inf
    result = judge(scores, human)
    assert result.srcc == finite.srcc
    assert result.plcc.value is None
    assert "infinite" in result.plcc.reason


def test_few_contents_have_values_without_intervals():
    scores, human = related()
    result = judge(scores, human, contents=MIN_CONTENTS - 1)
    assert result.srcc.value is not None
    assert (result.srcc.low, result.srcc.high) == (None, None)
    assert result.srcc.reason == f"{MIN_CONTENTS - 1} contents; an interval needs {MIN_CONTENTS}"


def test_random_little_sets_never_warn_and_always_make_valid_json():
    random = np.random.default_rng(7)
    for _ in range(60):
        images = int(random.integers(0, 12))
        scores = np.round(random.normal(size=images) * 10 ** random.uniform(-3, 3), int(random.integers(0, 3)))
        result = judge(scores, random.integers(0, 4, images) / 4, contents=6, resamples=20, nominal_range=(0, 1))
        parsed = json.loads(msgspec.json.encode(result))
        for name in STATISTICS:
            assert (parsed[name]["value"] is None) <= (parsed[name]["reason"] is not None)
            assert parsed[name]["value"] == getattr(result, name).value


@pytest.mark.parametrize(
    ("scores", "human", "contents", "message"),
    [
        ([1.0, 2.0], [0.5], ["a", "b"], "2 scores, 1 human scores and 2 contents"),
        ([math.nan], [0.5], ["a"], "a score is NaN"),
        ([1.0], [math.inf], ["a"], "human score not finite"),
    ],
)
def test_bad_input_is_refused(scores, human, contents, message):
    with pytest.raises(UsageError, match=message):
        agreement(np.array(scores), np.array(human), contents, higher_is_better=True)
