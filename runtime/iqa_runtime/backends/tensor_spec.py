"""What a graph takes and gives, as its contract promises."""

from __future__ import annotations

from dataclasses import dataclass

from iqa_runtime.contract import Contract
from iqa_runtime.errors import ArtefactError


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a graph.

    Attributes
    ----------
    name
        Its name in the graph.
    item_shape
        Its shape without the batch axis, which always comes first.
    dtype
        ``float32`` or ``float16``; None where either will do, as it does for outputs.
    """

    name: str
    item_shape: tuple[int, ...]
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """The inputs and outputs a graph must have."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in order."""
        return [output.name for output in self.outputs]

    @staticmethod
    def of_artefact(contract: Contract) -> GraphSpec:
        """Return what the contract promises of the artefact's own graph."""
        outputs = [TensorSpec(contract.score.name, ())]
        outputs += [TensorSpec(output.name, (output.rows, output.columns)) for output in contract.maps]
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
    return TensorSpec(name, tuple(int(size) for size in tensor.shape[1:]), tensor.dtype)
