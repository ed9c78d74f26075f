"""The ranking loss against its definition."""

import torch

from iqa_training.losses.ranking import ranking


def test_definition():
    better, worse = torch.tensor([0.9, 0.5, 0.4]), torch.tensor([0.5, 0.49, 0.6])
    # In order by more than the margin; by less; out of order.
    torch.testing.assert_close(ranking(better, worse, 0.02), torch.tensor((0.0 + 0.01 + 0.22) / 3))


def test_only_what_is_out_of_order_is_pushed():
    better = torch.tensor([0.9, 0.4], requires_grad=True)
    worse = torch.tensor([0.5, 0.6], requires_grad=True)
    ranking(better, worse, 0.02).backward()
    torch.testing.assert_close(better.grad, torch.tensor([0.0, -0.5]))
    torch.testing.assert_close(worse.grad, torch.tensor([0.0, 0.5]))
