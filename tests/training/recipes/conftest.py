"""What the tests of all recipes share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed() -> None:
    """The weights that start at random."""
    torch.manual_seed(0)
