import torch

from iqa_training.losses.distillation import feature_distillation


def test_sum_over_blocks_of_mean_squares():
    """Block 0 differs by 1 and 3, block 1 by 2 in one of two values: (1 + 9) / 2 + 4 / 2."""
    student = torch.tensor([[[1.0, 2.0]], [[0.0, 5.0]]])
    teacher = torch.tensor([[[2.0, 5.0]], [[0.0, 3.0]]])
    assert feature_distillation(student, teacher).item() == 7


def test_equal_features_cost_nothing():
    features = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert feature_distillation(features, features).item() == 0


def test_low_precision_is_squared_in_float32():
    """The square of 2^-14 is 2^-28, below the smallest of float16."""
    student = torch.full((1, 2, 2), 2.0**-14, dtype=torch.float16)
    loss = feature_distillation(student, torch.zeros_like(student))
    assert loss.dtype == torch.float32
    assert loss.item() == 2.0**-28
