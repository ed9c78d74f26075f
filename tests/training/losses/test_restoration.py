import math

import pytest
import torch

from iqa_training.losses.restoration import (
    RATIO_FLOOR,
    logarithmic_error,
    representation_ratio,
    representation_semantic,
    restoration_error,
)

ROUNDING = 1e-6
"""Float32 results of size 1."""
X, Y = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])


def test_restoration_error():
    restored, pristine = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    restored[0, 0, 0, 0], pristine[1, 2, 1, 1] = 3.0, 9.0
    assert restoration_error(restored, pristine).item() == pytest.approx(12 / 24, abs=ROUNDING)


def test_logarithmic_error_is_psnr_turned_round():
    """Of crops by themselves: half the error of either is worth the same."""
    restored, pristine = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    restored[0], restored[1] = 0.2, 0.02
    first = logarithmic_error(restored, pristine)
    assert first.item() == pytest.approx((math.log(0.2**2) + math.log(0.02**2)) / 2, abs=0.01)
    for index in (0, 1):
        better = restored.clone()
        better[index] /= 2
        assert (first - logarithmic_error(better, pristine)).item() == pytest.approx(math.log(2), abs=0.02)


def test_logarithmic_error_of_what_is_equal():
    crop = torch.rand(2, 3, 2, 2)
    assert logarithmic_error(crop, crop).isfinite()


def test_semantic_loss_of_both_halves():
    """One half restored perfectly, cosines 0 and 1, the other not at all, 1 and 0."""
    loss = representation_semantic((X, Y), (Y, Y), (X, X), temperature=0.5)
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(2))) / 2
    assert loss.item() == pytest.approx(expected, abs=ROUNDING)


def test_semantic_loss_sees_directions_only():
    once = representation_semantic((X,), (Y,), (X + Y,))
    assert representation_semantic((5 * X,), (0.1 * Y,), (3 * (X + Y),)).item() == pytest.approx(
        once.item(), abs=ROUNDING
    )


def test_semantic_loss_between_the_two_is_log_2():
    assert representation_semantic((X,), (Y,), (Y,)).item() == pytest.approx(math.log(2), abs=ROUNDING)


def test_semantic_loss_is_the_mean_over_the_batch():
    restored, degraded, pristine = torch.cat([X, Y]), torch.cat([Y, Y]), torch.cat([X, X])
    loss = representation_semantic((restored,), (degraded,), (pristine,), temperature=0.5)
    assert loss.item() == pytest.approx((math.log1p(math.exp(-2)) + math.log1p(math.exp(2))) / 2, abs=ROUNDING)


def test_semantic_loss_pulls_to_the_pristine():
    restored = torch.tensor([[1.0, 1.0]], requires_grad=True)
    representation_semantic((restored,), (X,), (Y,)).backward()
    # A step against the gradient leads from X, the degraded, to Y, the pristine.
    assert restored.grad[0, 0] > 0 > restored.grad[0, 1]


def test_ratio_sums_the_halves_and_averages_the_batch():
    """Distances are means over features: |X - Y| is (2 + 3) / 2."""
    restored = (torch.cat([X, X]), Y)
    degraded = (torch.cat([Y, X]), Y)
    pristine = (torch.cat([X, Y]), X)
    first = (0 + 2.5 / RATIO_FLOOR) / 2
    second = 2.5 / RATIO_FLOOR
    assert representation_ratio(restored, degraded, pristine).item() == pytest.approx(first + second, rel=ROUNDING)


def test_ratio_of_a_half_way_restoration():
    between = (X + Y) / 2
    assert representation_ratio((between,), (X,), (Y,)).item() == pytest.approx(
        1.25 / (1.25 + RATIO_FLOOR), abs=ROUNDING
    )
