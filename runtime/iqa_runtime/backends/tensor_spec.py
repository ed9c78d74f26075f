"""What a graph takes and gives, as its contract promises."""

from __future__ import annotations

from dataclasses import dataclass

from iqa_runtime.contract import OWN_SIZE, Contract
from iqa_runtime.errors import ArtefactError

_CELLS = ("rows", "columns")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a graph.

    Attributes
    ----------
    name
        Its name in the graph.
    item_shape
        Its shape without the batch axis, which always comes first. Axes that follow from a picture's own size are
        names: ``height`` and ``width`` of an input, ``rows`` and ``columns`` of a map.
    dtype
        ``float32`` or ``float16``; None where either will do, as it does for outputs.
    cell
        Side in pixels of what a row and a column stand for, where they follow from a picture's size; else 0.
    """

    name: str
    item_shape: tuple[int | str, ...]
    dtype: str | None = None
    cell: int = 0

    @property
    def is_fixed(self) -> bool:
        """Whether every item has the same shape."""
        return all(isinstance(side, int) for side in self.item_shape)

    def shape_for(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Return the shape of an item of an input, without the batch axis, for pictures of a height and width."""
        sides = dict(zip(OWN_SIZE, size, strict=True))
        return tuple(side if isinstance(side, int) else sides[side] for side in self.item_shape)

    def admits(self, shape: tuple[int, ...], size: tuple[int, int]) -> bool:
        """Tell whether an item may have a shape where the pictures have a height and width."""
        if not self.cell:
            return shape == self.shape_for(size)
        return len(shape) == len(size) and all(
            max(1, side // self.cell) <= cells <= -(-side // self.cell) for cells, side in zip(shape, size, strict=True)
        )


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """The inputs and outputs a graph must have."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in order."""
        return [output.name for output in self.outputs]

    @property
    def has_own_size(self) -> bool:
        """Whether it takes whole pictures at their own size, one a run."""
        return not all(tensor.is_fixed for tensor in self.inputs)

    @staticmethod
    def of_artefact(contract: Contract) -> GraphSpec:
        """Return what the contract promises of the artefact's own graph."""
        outputs = [TensorSpec(contract.score.name, ())]
        for output in contract.maps:
            cells = _CELLS if output.cell else (output.rows, output.columns)
            outputs.append(TensorSpec(output.name, cells, cell=output.cell))
        outputs += [TensorSpec(output.name, output.shape) for output in contract.extras]
        return GraphSpec(tuple(_input_spec(contract, tensor.name) for tensor in contract.inputs), tuple(outputs))

    @staticmethod
    def of_reference_encoder(contract: Contract) -> GraphSpec:
        """Return what the contract promises of the graph that makes ``reference_features`` out of reference crops."""
        image, features = _input_spec(contract, "image"), _input_spec(contract, "reference_features")
        return GraphSpec(
            (TensorSpec("reference", image.item_shape, image.dtype),),
            (TensorSpec("reference_features", features.item_shape, features.dtype),),
        )


def _input_spec(contract: Contract, name: str) -> TensorSpec:
    tensor = contract.input(name)
    if tensor is None:
        raise ArtefactError(f"the contract has no input {name!r}; export the model again")
    return TensorSpec(name, tensor.shape[1:], tensor.dtype)
