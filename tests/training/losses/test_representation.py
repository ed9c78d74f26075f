import math

import pytest
import torch

from iqa_training.losses.representation import dual_contrast, triple_classes

ROUNDING = 1e-5
"""Float32 sums of a few terms of size 20, which a temperature of 0.1 makes of cosines."""


def alike(classes) -> list[set[int]]:
    return [
        {other for other in range(len(classes)) if other != item and classes[other] == classes[item]}
        for item in range(len(classes))
    ]


def test_positives_of_two_triples():
    """The table of the paper's scheme: patches 0 and 1 of x1, 2 and 3 of x2, 4 and 5 of y; 6 to 11 the next triple."""
    quality, degradation = triple_classes(2, same_kind=True)
    pairs = [{1}, {0}, {3}, {2}, {5}, {4}]
    assert alike(quality.tolist()) == pairs + [{other + 6 for other in pair} for pair in pairs]
    kinds = [{1, 2, 3}, {0, 2, 3}, {0, 1, 3}, {0, 1, 2}, {5}, {4}]
    assert alike(degradation.tolist()) == kinds + [{other + 6 for other in kind} for kind in kinds]


def test_independent_versions_are_alike_in_nothing():
    quality, degradation = triple_classes(2, same_kind=False)
    assert alike(degradation.tolist()) == alike(quality.tolist())


def test_a_perfect_quality_half():
    """Each picture its own axis: every patch has one positive at cosine 1 and four others at cosine 0."""
    axes = torch.eye(3).repeat_interleave(2, 0)
    quality, degradation = dual_contrast(axes, axes, same_kind=True, temperature=0.1)
    assert quality.item() == pytest.approx(math.log(math.exp(10) + 4) - 10, abs=ROUNDING)
    # In the degradation half the patches of x1 and x2 have positives at cosines 1, 0 and 0; those of y still one.
    log_sum = math.log(math.exp(10) + 4)
    expected = (4 * (log_sum - 10 / 3) + 2 * (log_sum - 10)) / 6
    assert degradation.item() == pytest.approx(expected, abs=ROUNDING)


def test_a_perfect_degradation_half():
    """One axis for x1 and x2: three positives at cosine 1, two negatives at 0; y has one and four."""
    axes = torch.eye(2)[[0, 0, 0, 0, 1, 1]]
    degradation = dual_contrast(axes, axes, same_kind=True, temperature=0.5)[1].item()
    expected = (4 * (math.log(3 * math.exp(2) + 2) - 2) + 2 * (math.log(math.exp(2) + 4) - 2)) / 6
    assert degradation == pytest.approx(expected, abs=ROUNDING)


def test_each_half_has_its_own_loss():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(12, 8, generator=generator) for _ in range(2))
    quality, degradation = dual_contrast(first, second, same_kind=True)
    assert dual_contrast(first, first, same_kind=True)[0] == quality
    assert dual_contrast(second, second, same_kind=True)[1] == degradation
    assert dual_contrast(second, second, same_kind=True)[0] != quality
