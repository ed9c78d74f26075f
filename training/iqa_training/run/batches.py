"""Pictures of a source in batches, made into examples by the recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from iqa_runtime.errors import IqaError
from iqa_training.configuration import LoopConfig
from iqa_training.datasets.items import Source
from iqa_training.recipes.base import Batch, Example, Recipe


class Examples(Dataset[Example | IqaError]):
    """Examples of a recipe by index; one that cannot be made is its error.

    Parameters
    ----------
    recipe
        Makes them.
    source
        Pictures.
    draws
        Of training, what seeds the draws of an example beside its index, so that they depend on neither order nor
        workers; None for examples of validation, which are always the same.
    """

    def __init__(self, recipe: Recipe, source: Source, draws: tuple[int, ...] | None = None) -> None:
        self._recipe, self._source, self._draws = recipe, source, draws

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Example | IqaError:
        try:
            if self._draws is None:
                return self._recipe.validation_example(self._source, index)
            return self._recipe.example(self._source, index, np.random.default_rng([*self._draws, index]))
        except IqaError as error:
            return error


def batches(examples: Dataset[Example | IqaError], loop: LoopConfig, order: Sequence[int]) -> Iterator[Batch]:
    """Yield the examples of an order, stacked.

    Parameters
    ----------
    examples
        Of which an error stands in the place of one that cannot be made.
    loop
        Its `batch` and `workers` count.
    order
        Indices of examples.

    Yields
    ------
    dict
        A batch; the last may be smaller.

    Raises
    ------
    IqaError
        That of the first example that could not be made.
    """
    loader: DataLoader[Example | IqaError] = DataLoader(
        examples,
        batch_size=loop.batch,
        sampler=order,
        num_workers=loop.workers,
        collate_fn=_stack,
        generator=torch.Generator(),  # it draws a seed for its workers, which must not move the draws of training
    )
    for batch in loader:
        # Raised here: what a worker raises comes with its traceback in the message.
        if isinstance(batch, IqaError):
            raise batch
        yield batch


def _stack(examples: list[Example | IqaError]) -> Batch | IqaError:
    """Make a batch, or hand on the first error."""
    for example in examples:
        if isinstance(example, IqaError):
            return example
    batch: Batch = default_collate(examples)
    return batch
