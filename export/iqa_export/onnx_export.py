"""PyTorch to ONNX: one file, the batch the only dynamic axis, nothing of the source tree inside."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from onnx import ModelProto
from torch import nn
from torch.onnx import ONNXProgram

from iqa_calibration.graphs.finishing import strip_sources
from iqa_calibration.graphs.folding import fold
from iqa_runtime.contract import TensorInput
from iqa_runtime.errors import UsageError

OPSET = 20
"""The first with Gelu as one node, and the last that TensorRT 10.3, the oldest we build for, parses."""
NEWEST_OPSET = 23
_EXAMPLE_BATCH = 2
_MAX_BATCH = 1024


def check_opset(opset: int) -> int:
    """Return `opset` if it is one we export; raise `UsageError` otherwise."""
    if not OPSET <= opset <= NEWEST_OPSET:
        raise UsageError(f"--opset {opset}: choose {OPSET} to {NEWEST_OPSET}")
    return opset


def to_onnx(
    module: nn.Module, inputs: Sequence[TensorInput], outputs: Sequence[str], *, opset: int = OPSET
) -> ModelProto:
    """Export a network.

    Parameters
    ----------
    module
        Takes one float32 tensor for each of `inputs` and returns a tuple, one tensor for each of `outputs`. Its
        parameters stop requiring gradients.
    inputs
        Names and shapes; the first axis is the batch.
    outputs
        Names.
    opset
        ONNX operator set.
    """
    model: ModelProto = to_program(module, inputs, outputs, opset=opset).model_proto
    fold(model)
    strip_sources(model)
    model.producer_name = "iqa-deploy"
    model.producer_version = ""
    return model


def to_program(
    module: nn.Module, inputs: Sequence[TensorInput], outputs: Sequence[str], *, opset: int = OPSET
) -> ONNXProgram:
    """Export a network, and keep what was translated beside the translation; arguments as in `to_onnx`."""
    # With gradients required, attention masks computed from parameters fail to trace for a dynamic batch.
    module.eval().requires_grad_(False)
    examples = tuple(torch.zeros(_EXAMPLE_BATCH, *(int(size) for size in tensor.shape[1:])) for tensor in inputs)
    batch = torch.export.Dim("batch", min=1, max=_MAX_BATCH)
    with _quiet():
        program = torch.onnx.export(
            _Positional(module),
            examples,
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=tuple({0: batch} for _ in examples),
            input_names=[tensor.name for tensor in inputs],
            output_names=list(outputs),
            verbose=False,
            # Its rules take an epsilon for zero, and a flat picture then divides by it; `fold` has none of these.
            optimize=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    return program


class _Positional(nn.Module):
    """Give the exporter a signature with named tensors, which ``*inputs`` does not tell it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, first: torch.Tensor, second: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        result = self.module(first) if second is None else self.module(first, second)
        return result if isinstance(result, tuple) else (result,)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own deprecated internals and on absent torchvision from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
