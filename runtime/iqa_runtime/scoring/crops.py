"""Crops and whole pictures as a graph eats them: one such input of the contract, its buffers, how they are filled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.contract import Contract, PatchPlan, TensorInput
from iqa_runtime.errors import ArtefactError, UsageError
from iqa_runtime.kernels import aligned_empty, extract_patches


@dataclass(frozen=True, slots=True, kw_only=True)
class CropInput:
    """An input of crops or whole pictures: ``N x 3 x h x w``, or ``N x P x 3 x h x w`` where one item is P crops.

    Attributes
    ----------
    name
        Of the input.
    size
        Height and width of an item, in pixels; None where whole pictures come at their own size.
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
    size: tuple[int, int] | None
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
        return cls.of_tensor(tensor, contract.patch_plan)

    @classmethod
    def of_tensor(cls, tensor: TensorInput, plan: PatchPlan) -> Self:
        """Read the crop input that a tensor is, for the items of a patch plan.

        Raises
        ------
        ArtefactError
            If its shape is not that of its layout, its crops are of another size, or its normalisation is incomplete.
        """
        *_, channels, height, width = (0, 0, 0, *tensor.shape)
        fits = plan.kind == "whole" or height == width == plan.size
        if len(tensor.shape) != len(tensor.layout) or channels != 3 or not fits:
            items = "whole pictures" if plan.kind == "whole" else f"crops of {plan.size} x {plan.size}"
            raise ArtefactError(
                f"contract, inputs, {tensor.name}: shape {list(tensor.shape)} is not {tensor.layout} with 3 channels "
                f"and {items}, the patch plan's; export the model again"
            )
        if tensor.mean is None or tensor.std is None or tensor.color is None:
            raise ArtefactError(
                f"contract, inputs, {tensor.name}: color, mean or std is missing; export the model again"
            )
        return cls(
            name=tensor.name,
            size=None if isinstance(height, str) or isinstance(width, str) else (height, width),
            per_item=int(tensor.shape[1]) if tensor.layout == "NPCHW" else 1,
            stacked=tensor.layout == "NPCHW",
            dtype=np.dtype(tensor.dtype),
            swap_channels=tensor.color == "BGR",
            mean=tensor.mean,
            std=tensor.std,
        )

    def buffer(self, items: int, size: tuple[int, int] | None = None) -> NDArray[Any]:
        """Return an uninitialised batch of so many items, aligned to cache lines.

        Raises
        ------
        UsageError
            If no `size`, height and width, is given where pictures come at their own.
        """
        sides = self.size or size
        if sides is None:
            raise UsageError(f"{self.name}: pictures come at their own size; give one")
        stack = (self.per_item,) if self.stacked else ()
        return aligned_empty((items, *stack, 3, *sides), self.dtype)

    def fill(self, out: NDArray[Any], image: NDArray[np.uint8], positions: NDArray[np.int64]) -> None:
        """Cut the crops at `positions` out of an image, straight into the items of `out`.

        What of a crop lies outside the image is reflected about its edge.

        Parameters
        ----------
        out
            Items of a buffer, C-contiguous; its last two axes are height and width of the crops.
        image
            H x W x 3, RGB.
        positions
            Top left corners, shape (items, `per_item`, 2).
        """
        size = (out.shape[-2], out.shape[-1])
        extract_patches(
            image,
            positions.reshape(-1, 2),
            size,
            self.mean,
            self.std,
            swap_channels=self.swap_channels,
            dtype=self.dtype,
            out=out.reshape(-1, 3, *size),
        )
