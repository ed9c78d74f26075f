"""Average precision, calibration error and top-1 on cases worked out by hand."""

import math

import numpy as np
import pytest

from iqa_training.evaluation.names import average_precision, calibration_error, top_1


def flags(text: str) -> np.ndarray:
    return np.array([letter == "x" for letter in text])


def test_average_precision_is_of_the_ranks_of_what_fits():
    """Found at ranks 1, 3 and 4 of five."""
    assert average_precision(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), flags("x.xx.")) == pytest.approx(
        (1 + 2 / 3 + 3 / 4) / 3
    )
    assert average_precision(np.array([0.1, 0.9, 0.3]), flags(".x.")) == 1
    assert math.isnan(average_precision(np.array([0.1, 0.9]), flags("..")))


def test_equal_probabilities_count_alike():
    probabilities = np.full(4, 0.5)
    for right in ("x...", "...x"):
        assert average_precision(probabilities, flags(right)) == 0.25


def test_calibration_error_is_the_distance_of_the_bins():
    """Four pictures of 0.9, of which three fit, and one of 0.1 that doesn't."""
    probabilities = np.array([0.9, 0.9, 0.9, 0.9, 0.1])
    assert calibration_error(probabilities, flags("xxx..")) == pytest.approx((4 * 0.15 + 0.1) / 5)
    assert calibration_error(np.array([1.0, 0.0]), flags("x.")) == 0
    # In one bin too much and too little cancel, in two they don't.
    assert calibration_error(np.array([0.5, 0.5]), flags("x.")) == 0
    assert calibration_error(np.array([0.2, 0.8]), flags("x.")) == pytest.approx(0.8)


def test_top_1_is_the_likeliest_name():
    probabilities = np.array([[0.9, 0.8], [0.1, 0.2], [0.6, 0.3]])
    right = np.array([[True, True], [True, False], [True, False]])
    assert top_1(probabilities, right) == pytest.approx(2 / 3)
    assert math.isnan(top_1(np.empty((0, 2)), np.empty((0, 2), bool)))
