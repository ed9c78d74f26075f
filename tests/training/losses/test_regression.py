import pytest
import torch
from scipy import stats

from iqa_training.losses.regression import absolute_error, decorrelation, differences, squared_error

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


def test_differences_are_of_pictures_of_one_content():
    predicted, label = torch.tensor([0.5, 0.9, 0.2, 0.1, 7.0]), torch.tensor([0.1, 0.4, 0.3, 0.4, 0.0])
    content = torch.tensor([3.0, 5.0, 3.0, 3.0, 4.0])
    apart = [0.4 - -0.1, 0.4 - -0.3, -0.1 - -0.3]  # of the first, third and fourth
    expected = sum(value**2 for value in apart) / 3
    assert differences(predicted, label, content).item() == pytest.approx(expected, abs=ROUNDING)


def test_differences_without_a_pair_are_none():
    predicted = torch.zeros(3, requires_grad=True)
    loss = differences(predicted, torch.ones(3), torch.arange(3.0))
    loss.backward()
    assert loss.item() == 0
    assert (predicted.grad == 0).all()


def test_decorrelation_of_constant_scores_has_a_finite_gradient():
    """Where an untrained network starts."""
    predicted = torch.full((4,), 0.5, requires_grad=True)
    loss = decorrelation(predicted, torch.linspace(0, 1, 4))
    loss.backward()
    assert loss.item() == pytest.approx(0.5, abs=ROUNDING)
    assert torch.isfinite(predicted.grad).all()
