import pytest
import torch
from scipy import stats

from iqa_training.losses.regression import absolute_error, decorrelation, squared_error

ROUNDING = 1e-5
"""Float32 sums of a hundred terms of size 1, and the 1e-6 that keeps the correlation's division finite."""


def test_errors_are_means_over_the_batch():
    predicted, label = torch.tensor([1.0, 0.0, 0.5]), torch.tensor([0.0, 2.0, 0.5])
    assert squared_error(predicted, label).item() == pytest.approx(5 / 3, abs=ROUNDING)
    assert absolute_error(predicted, label).item() == pytest.approx(1, abs=ROUNDING)


def test_decorrelation_is_pearsons():
    generator = torch.Generator().manual_seed(0)
    predicted, label = torch.randn(2, 100, generator=generator).unbind()
    expected = (1 - stats.pearsonr(predicted.numpy(), label.numpy()).statistic) / 2
    assert decorrelation(predicted, label).item() == pytest.approx(expected, abs=ROUNDING)


@pytest.mark.parametrize(("slope", "expected"), [(3.0, 0.0), (-0.5, 1.0)])
def test_decorrelation_sees_neither_scale_nor_shift(slope, expected):
    label = torch.linspace(0, 1, 100)
    assert decorrelation(slope * label + 7, label).item() == pytest.approx(expected, abs=ROUNDING)


def test_decorrelation_of_constant_scores_has_a_finite_gradient():
    """Where an untrained network starts."""
    predicted = torch.full((4,), 0.5, requires_grad=True)
    loss = decorrelation(predicted, torch.linspace(0, 1, 4))
    loss.backward()
    assert loss.item() == pytest.approx(0.5, abs=ROUNDING)
    assert torch.isfinite(predicted.grad).all()
