"""Module containers that tell type checkers, and readers, what their members are."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator
from typing import Generic, TypeVar, cast

from torch import nn

M = TypeVar("M", bound=nn.Module)


class Layers(nn.ModuleList, Generic[M]):
    """`torch.nn.ModuleList` of modules of one class."""

    def __getitem__(self, index: int) -> M:  # type: ignore[override]  # one layer, never a slice
        return cast(M, super().__getitem__(index))

    def __iter__(self) -> Iterator[M]:
        return cast("Iterator[M]", super().__iter__())


class NamedLayers(nn.ModuleDict, Generic[M]):
    """`torch.nn.ModuleDict` of modules of one class."""

    def __getitem__(self, key: str) -> M:
        return cast(M, super().__getitem__(key))

    def items(self) -> ItemsView[str, M]:
        """Return names and modules in the order they were added."""
        return cast("ItemsView[str, M]", super().items())
