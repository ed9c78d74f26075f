import numpy as np
import pytest

from iqa_export.parity import ILL_CONDITIONED, TOLERANCE, compare, compare_plain

EXPECTED = np.array([0.5, 0.25, -1.0], dtype=np.float32)


def verdict(actual, expected=EXPECTED):
    (row,) = compare(["score"], [expected], [np.asarray(actual, dtype=np.float32)], 4)
    return row


def test_equal_outputs_pass():
    row = verdict(EXPECTED)
    assert row.passed
    assert (row.output, row.batch, row.largest, row.spread, row.difference) == ("score", 4, 1.0, 1.5, 0.0)


@pytest.mark.parametrize(("share", "passed"), [(0.5, True), (2, False)])
def test_the_largest_value_sets_the_tolerance(share, passed):
    row = verdict(EXPECTED + np.float32([0, share * TOLERANCE, 0]))
    assert row.passed is passed


@pytest.mark.parametrize("values", [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.500001]])
def test_zero_and_constant_scores_fail_though_equal(values):
    expected = np.array(values, dtype=np.float32)
    assert not verdict(expected, expected).passed


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_fail(bad):
    assert not verdict([0.5, bad, -1]).passed
    assert not verdict([0.5, bad, -1], np.float32([0.5, bad, -1])).passed


@pytest.mark.parametrize(
    ("elements", "factor", "passed"), [(2, 5, True), (2, 11, False), (3, 5, False), (2000, 0.5, True)]
)
def test_isolated_elements_of_a_map_may_differ_more(elements, factor, passed):
    """Of 2000 elements one in a thousand, that is two, by up to ten times as much."""
    expected = np.linspace(-1, 1, 2000, dtype=np.float32)
    actual = expected.copy()
    actual[:elements] += np.float32(factor * TOLERANCE)
    assert verdict(actual, expected).passed is passed


PLAIN = np.array([0.5, 0.25, np.nan, -1.0], dtype=np.float32)


def plain_verdict(actual, expected=PLAIN, scale=1.0, others=()):
    (row,) = compare_plain(
        ["score"],
        [expected],
        [np.asarray(actual, np.float32)],
        1,
        [scale],
        lambda _: [[np.array([other])] for other in others],
    )
    return row


def test_plain_crops_are_compared_where_pytorch_is_finite():
    assert plain_verdict(PLAIN).passed
    assert plain_verdict([0.5, 0.25, 7.0, -1.0]).passed
    for bad in (np.nan, np.inf, -1.7e38, 0.2501 + TOLERANCE):
        row = plain_verdict([0.5, bad, np.nan, -1.0])
        assert not row.passed
        assert "black, white, flat" in row.fault


def test_plain_crops_may_all_score_alike():
    assert plain_verdict([0.5] * 4, np.full(4, 0.5, np.float32)).passed
    assert plain_verdict([0.0] * 4, np.zeros(4, np.float32)).passed


def test_one_crop_that_overflows_does_not_excuse_the_others():
    expected = np.float32([1e30, 0.5])
    assert plain_verdict(expected, expected).passed
    assert not plain_verdict([1e30, 0.6], expected).passed
    assert not plain_verdict([1e30, np.inf], expected).passed


def test_a_crop_is_measured_by_what_photographs_score():
    assert plain_verdict([1e-9], np.float32([0.0])).passed
    assert not plain_verdict([1e-9], np.float32([0.0]), scale=0.0).passed


def test_only_where_pytorch_itself_is_off_may_a_graph_be():
    """PyTorch says 0.9, or 0 in float64 or an ulp away: the graph may be about as wrong, but nothing wilder."""
    expected = np.float32([0.9])
    assert plain_verdict([-0.9], expected, others=[0.9, 0.0]).passed
    assert not plain_verdict([0.9 - 1.1 * 0.9 * ILL_CONDITIONED], expected, others=[0.9, 0.0]).passed
    assert not plain_verdict([np.nan], expected, others=[0.9, 0.0]).passed
    assert not plain_verdict([-0.9], expected, others=[0.9, 0.9]).passed
    assert not plain_verdict([-0.9], expected).passed


def test_shapes_that_differ_are_said_to():
    (row,) = compare(["score"], [EXPECTED], [EXPECTED[:2]], 4)
    assert not row.passed
    assert "int(a / b)" in row.fault
