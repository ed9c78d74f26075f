import numpy as np
import pytest

from iqa_export.parity import TOLERANCE, compare

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
