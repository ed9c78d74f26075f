"""What a network returns, as the outputs of its graph: told before anything is exported or compared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from iqa_runtime.backends import GraphSpec, TensorSpec
from iqa_runtime.errors import IqaError, first_line

_BATCHES = (2, 1)

SQUEEZE_HINT = "write squeeze(-1) where it is squeeze(), which drops the axis of a batch of one too"
BATCH_HINT = (
    "a size was fixed to the batch it was traced with: use a // b for int(a / b), x.shape[0] rather than a number in "
    "view and reshape, and no loop over the items of a batch"
)
_FIXED_SHAPE = re.compile(
    r"invalid for input of size|must match the size|match the existing size|Expected size for first"
)
"""What PyTorch says where a number of items is written down."""


class ExportError(IqaError, RuntimeError):
    """A network cannot become a graph; the message says what in it and what to change.

    Attributes
    ----------
    details
        What the exporter said at length; empty where the message says all.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


def as_outputs(result: object, names: Sequence[str]) -> tuple[Tensor, ...]:
    """Return what a network returned in the order of the graph's outputs.

    Parameters
    ----------
    result
        A tensor, a tuple or list of one tensor for each name, or a dict that has the names. The first is the score,
        (N,) or (N, 1).
    names
        Of the outputs.

    Returns
    -------
    tuple of Tensor
        The score is (N,).

    Raises
    ------
    ExportError
        If it is anything else.
    """
    if isinstance(result, Tensor):
        values: Sequence[object] = (result,)
    elif isinstance(result, Mapping):
        missing = [name for name in names if name not in result]
        if missing:
            there = ", ".join(map(str, result)) or "nothing"
            raise ExportError(f"the network returns a dict without {missing[0]!r}; it has {there}: name the outputs so")
        values = [result[name] for name in names]
    elif isinstance(result, (tuple, list)):
        values = result
    else:
        raise ExportError(f"the network returns {type(result).__name__}; return a tensor, a tuple of tensors or a dict")
    if len(values) != len(names):
        raise ExportError(
            f"the network returns {len(values)} values where its graph has {len(names)}: {', '.join(names)}; return "
            "these alone, or a dict that has them"
        )
    tensors = []
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, Tensor):
            raise ExportError(f"the output {name!r} is of type {type(value).__name__}; return a tensor")
        tensors.append(value)
    if tensors[0].ndim == 2 and tensors[0].shape[1] == 1:
        tensors[0] = tensors[0].squeeze(1)
    return tuple(tensors)


def check_outputs(module: nn.Module, spec: GraphSpec, size: tuple[int, int] = (0, 0)) -> None:
    """Run a network on batches of two items and of one, and hold what it returns to what its contract will say.

    Parameters
    ----------
    module, spec
        The network, and what it must take and return.
    size
        Height and width of the pictures where it takes them at their own; of no use elsewhere.

    Raises
    ------
    ExportError
        If it fails, or an output has another shape or is not float32.
    """
    for batch in _BATCHES:
        _check_batch(module, spec, batch, size)


def check_built(network: nn.Module) -> None:
    """Refuse a network that no checkpoint can be loaded into, or that would round what is loaded.

    Raises
    ------
    ExportError
        If a tensor of it is not on the CPU, or a parameter is a float of another precision than float32.
    """
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.device.type != "cpu":
            raise ExportError(
                f"{type(network).__name__} is built on the device {tensor.device} ({name}); build it on the CPU"
            )
    for name, parameter in network.named_parameters():
        if parameter.is_floating_point() and parameter.dtype is not torch.float32:
            kind = str(parameter.dtype).removeprefix("torch.")
            raise ExportError(
                f"{type(network).__name__} is built in {kind} ({name}); build it in float32, with .float(): an "
                "artefact gets less precision after the export, if it is asked for"
            )


def _check_batch(module: nn.Module, spec: GraphSpec, batch: int, size: tuple[int, int]) -> None:
    examples = [torch.zeros(batch, *tensor.shape_for(size)) for tensor in spec.inputs]
    try:
        with torch.no_grad():
            result = module.eval()(*examples)
    except ExportError:
        raise
    except Exception as error:  # a network of somebody else may raise anything
        said = first_line(error)
        if _FIXED_SHAPE.search(said):
            remedy = BATCH_HINT
        else:
            given = " and ".join(str(list(example.shape)) for example in examples)
            remedy = f"it has to take any number of crops, {given} here" if batch > 1 else SQUEEZE_HINT
        raise ExportError(
            f"the network fails on a batch of {batch} crops: {said}; {remedy}"
            if batch > 1
            else f"the network takes two crops and fails on a batch of one: {said}; {remedy}"
        ) from error
    outputs = as_outputs(result, spec.output_names)
    for output, value in zip(spec.outputs, outputs, strict=True):
        _check(output, value, batch, size)


def _check(output: TensorSpec, value: Tensor, batch: int, size: tuple[int, int]) -> None:
    expected, actual = (batch, *output.item_shape), tuple(value.shape)
    if actual[:1] != (batch,) or not output.admits(actual[1:], size):
        remedy = "check the declared shape"
        if not output.item_shape:
            remedy = "return one number for each item of the batch"
            if len(actual) == 2 and actual[0] == batch:
                remedy = f"return one number for each item, such as the mean of a distribution over {actual[1]} grades"
            elif actual in ((), (1,)):
                remedy = "return one number for each item, not one for the whole batch"
        if batch == 1:
            remedy = f"for two it was right; {BATCH_HINT if max(_BATCHES) in actual[:1] else SQUEEZE_HINT}"
        raise ExportError(
            f"the output {output.name!r} is {list(actual)} for a batch of {batch}, {list(expected)} is declared; "
            + remedy
        )
    if value.dtype is not torch.float32:
        kind = str(value.dtype).removeprefix("torch.")
        remedy = (
            "return it as float32: add .float()" if value.is_floating_point() else "return float32, without rounding"
        )
        raise ExportError(f"the output {output.name!r} is {kind}; {remedy}")
