"""Batches of examples, made in the loop or in processes of their own."""

import numpy as np
import pytest
from torch.utils.data import Dataset

from iqa_runtime.errors import ImageError
from iqa_training.configuration import LoopConfig
from iqa_training.run.batches import batches


class Numbers(Dataset):
    """Examples of their index; the eighth cannot be made."""

    def __getitem__(self, index):
        return ImageError("7.jpg: cut off") if index == 7 else {"label": np.float32(index)}


@pytest.mark.parametrize("workers", [0, 1])
def test_examples_come_in_the_order_given(workers):
    order = [5, 3, 9, 0, 2]
    found = [batch["label"].tolist() for batch in batches(Numbers(), LoopConfig(batch=2, workers=workers), order)]
    assert found == [[5, 3], [9, 0], [2]]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_example_that_cannot_be_made_is_its_own_error(workers):
    made = batches(Numbers(), LoopConfig(batch=2, workers=workers), [1, 2, 7, 3])
    assert next(made)["label"].tolist() == [1, 2]
    with pytest.raises(ImageError, match=r"^7\.jpg: cut off$"):
        next(made)
