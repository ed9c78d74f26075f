"""Crops as a graph eats them: one crop input of the contract, its buffers and how they are filled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.contract import Contract, TensorInput
from iqa_runtime.errors import ArtefactError
from iqa_runtime.kernels import aligned_empty, extract_patches


@dataclass(frozen=True, slots=True, kw_only=True)
class CropInput:
    """A crop input: ``N x 3 x side x side``, or ``N x P x 3 x side x side`` where one item is P crops.

    Attributes
    ----------
    name
        Of the input.
    side
        Of the square crop, in pixels.
    per_item
        Crops in one item: P, or 1.
    stacked
        Whether the input has the axis of P.
    dtype
        Of the values.
    swap_channels
        Whether the network wants BGR.
    mean, std
        Of ``(x / 255 - mean) / std``, in the network's channel order.
    """

    name: str
    side: int
    per_item: int
    stacked: bool
    dtype: np.dtype[Any]
    swap_channels: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def of_contract(cls, contract: Contract, name: str) -> Self:
        """Read the crop input `name` out of a contract.

        Raises
        ------
        ArtefactError
            If it is missing, or as `of_tensor`.
        """
        tensor = contract.input(name)
        if tensor is None or tensor.layout == "features":
            raise ArtefactError(f"the contract has no crop input {name!r}; export the model again")
        return cls.of_tensor(tensor, contract.patch_plan.size)

    @classmethod
    def of_tensor(cls, tensor: TensorInput, side: int) -> Self:
        """Read the crop input that a tensor is, for crops of `side` pixels.

        Raises
        ------
        ArtefactError
            If its shape is not that of its layout, its crops are of another size, or its normalisation is incomplete.
        """
        *_, channels, height, width = (0, 0, 0, *tensor.shape)
        if len(tensor.shape) != len(tensor.layout) or channels != 3 or not height == width == side:
            raise ArtefactError(
                f"contract, inputs, {tensor.name}: shape {list(tensor.shape)} is not {tensor.layout} with 3 channels "
                f"and crops of {side} x {side}, the patch plan's; export the model again"
            )
        if tensor.mean is None or tensor.std is None or tensor.color is None:
            raise ArtefactError(
                f"contract, inputs, {tensor.name}: color, mean or std is missing; export the model again"
            )
        return cls(
            name=tensor.name,
            side=side,
            per_item=int(tensor.shape[1]) if tensor.layout == "NPCHW" else 1,
            stacked=tensor.layout == "NPCHW",
            dtype=np.dtype(tensor.dtype),
            swap_channels=tensor.color == "BGR",
            mean=tensor.mean,
            std=tensor.std,
        )

    def buffer(self, items: int) -> NDArray[Any]:
        """Return an uninitialised batch of so many items, aligned to cache lines."""
        stack = (self.per_item,) if self.stacked else ()
        return aligned_empty((items, *stack, 3, self.side, self.side), self.dtype)

    def fill(self, out: NDArray[Any], image: NDArray[np.uint8], positions: NDArray[np.int64]) -> None:
        """Cut the crops at `positions` out of an image, straight into the items of `out`.

        Parameters
        ----------
        out
            Items of a buffer, C-contiguous.
        image
            H x W x 3, RGB.
        positions
            Top left corners, shape (items, `per_item`, 2).
        """
        extract_patches(
            image,
            positions.reshape(-1, 2),
            (self.side, self.side),
            self.mean,
            self.std,
            swap_channels=self.swap_channels,
            dtype=self.dtype,
            out=out.reshape(-1, 3, self.side, self.side),
        )
