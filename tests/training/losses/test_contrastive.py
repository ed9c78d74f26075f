import math

import pytest
import torch

from iqa_runtime.errors import UsageError
from iqa_training.losses.contrastive import nt_xent, same_class

ROUNDING = 1e-5
"""Float32 sums of a few terms of size 20, which a temperature of 0.1 makes of cosines."""


def test_classes_of_one_and_of_several_numbers():
    expected = [[True, False, True], [False, True, False], [True, False, True]]
    assert same_class(torch.tensor([3, 5, 3])).tolist() == expected
    assert same_class(torch.tensor([[3, 1], [3, 2], [3, 1]])).tolist() == expected


def test_one_positive_each_is_the_cross_entropy_of_the_other_view():
    """Two pairs along two axes: the positive has cosine 1, the two negatives 0."""
    axes = torch.eye(2).repeat_interleave(2, 0)
    loss = nt_xent(axes, same_class(torch.tensor([0, 0, 1, 1])), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(math.exp(2) + 2) - 2, abs=ROUNDING)


def test_one_positive_each_equals_cross_entropy_over_the_other_items():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 5, generator=generator)
    unit = features / features.norm(dim=1, keepdim=True)
    logits = unit @ unit.T / 0.1
    logits.fill_diagonal_(-math.inf)
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([1, 0, 3, 2, 5, 4]))
    loss = nt_xent(features, same_class(torch.arange(3).repeat_interleave(2)))
    assert loss.item() == pytest.approx(expected.item(), abs=ROUNDING)


def test_several_positives_are_averaged():
    """Of three items of one class two point the same way: cosines 1, 0 and 0 among them, 0 to the fourth."""
    features = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    loss = nt_xent(features, same_class(torch.tensor([0, 0, 0, 1])), temperature=0.5)
    log_sum = math.log(math.exp(2) + 2)
    expected = (2 * (log_sum - 2 / 2) + math.log(3)) / 3
    assert loss.item() == pytest.approx(expected, abs=ROUNDING)


def test_items_without_a_positive_are_negatives_alone():
    features = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    alone = nt_xent(features, same_class(torch.tensor([0, 0, 1])), temperature=1.0)
    assert alone.item() == pytest.approx(math.log(math.e + 1) - 1, abs=ROUNDING)


def test_length_and_diagonal_do_not_matter():
    features = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    positives = same_class(torch.tensor([0, 0, 1, 1]))
    lengths = torch.tensor([[1.0], [20], [0.3], [5]])
    expected = nt_xent(features, positives)
    torch.testing.assert_close(nt_xent(lengths * features, positives), expected)
    torch.testing.assert_close(nt_xent(features, positives & ~torch.eye(4, dtype=torch.bool)), expected)


def test_precision_around_it_does_not_matter():
    features = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    positives = same_class(torch.arange(4).repeat_interleave(2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = nt_xent(features, positives)
    assert torch.equal(loss, nt_xent(features, positives))


def test_gradient_is_finite_and_pulls_a_pair_together():
    features = torch.tensor([[1.0, 0.2], [0.2, 1.0], [-1.0, -0.5], [-0.5, -1.0]], requires_grad=True)
    positives = same_class(torch.tensor([0, 0, 1, 1]))
    before = nt_xent(features, positives, temperature=1.0)
    before.backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()
    assert nt_xent(features - 0.1 * features.grad, positives, temperature=1.0) < before


def test_nothing_to_contrast_is_an_error():
    with pytest.raises(UsageError, match="without any two pictures of one class"):
        nt_xent(torch.eye(3), same_class(torch.arange(3)))
