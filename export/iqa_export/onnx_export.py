"""PyTorch to ONNX: one file, the batch the only dynamic axis, nothing of the source tree inside."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import numpy as np
import torch
from onnx import ModelProto
from torch import nn
from torch.onnx import ONNXProgram

from iqa_calibration.graphs.batch_normalization import fold_batch_normalization
from iqa_calibration.graphs.finishing import strip_sources
from iqa_calibration.graphs.folding import fold
from iqa_export.exporter_errors import explained
from iqa_export.outputs import ExportError, as_outputs
from iqa_runtime.contract import TensorInput
from iqa_runtime.errors import UsageError

OPSET = 20
"""The first with Gelu as one node, and the last that TensorRT 10.3, the oldest we build for, parses."""
NEWEST_OPSET = 23
_EXAMPLE_BATCH = 2
_EPSILON_ROUNDING = 1e-7
"""Relative, of a number in float32."""
_MAX_BATCH = 1024
_MOST_BYTES = 2**31 - 2**24
"""Of weights in one ONNX file, which protobuf limits to two gigabytes; some are left to the graph itself."""


def check_opset(opset: int) -> int:
    """Return `opset` if it is one we export; raise `UsageError` otherwise."""
    if not (type(opset) is int and OPSET <= opset <= NEWEST_OPSET):
        raise UsageError(f"``opset={opset}``: choose {OPSET} to {NEWEST_OPSET}")
    return opset


def to_onnx(
    module: nn.Module, inputs: Sequence[TensorInput], outputs: Sequence[str], *, opset: int = OPSET
) -> ModelProto:
    """Export a network.

    Parameters
    ----------
    module
        Takes one float32 tensor for each of `inputs` and returns what `iqa_export.outputs.as_outputs` takes. Its
        parameters stop requiring gradients.
    inputs
        Names and shapes; the first axis is the batch.
    outputs
        Names.
    opset
        ONNX operator set.

    Raises
    ------
    ExportError
        If the network cannot be traced or has an operator that ONNX has not, is larger than a file may be, computes in
        float64 with numbers that float32 has not, or returns something else.
    """
    model: ModelProto = to_program(module, inputs, outputs, opset=opset).model_proto
    fold(model)
    fold_batch_normalization(model)
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
    size = sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
    if size > _MOST_BYTES:
        raise ExportError(
            f"the weights take {size / 1e9:.1f} GB, and an ONNX file holds 2 GB at most; export a smaller variant"
        )
    shapes = tuple({0: batch} for _ in examples)
    wrapped = _Positional(module, outputs)
    with _quiet() as said:
        try:
            program = torch.onnx.export(
                wrapped,
                examples,
                dynamo=True,
                opset_version=opset,
                dynamic_shapes=shapes,
                input_names=[tensor.name for tensor in inputs],
                output_names=list(outputs),
                verbose=False,
                # Its rules take an epsilon for zero, and a flat picture then divides by it; `fold` has none of these.
                optimize=False,
            )
        except Exception as error:  # the exporter's own and whatever a network raises while it is traced
            raise explained(error, wrapped, examples, shapes, said.getvalue()) from error
    if program is None or program.exported_program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    _check_doubles(program.exported_program)
    return program


def _check_doubles(program: torch.export.ExportedProgram) -> None:
    """Refuse numbers of float64 that are others in float32, which the exporter writes: 1e-50 is zero there.

    Raises
    ------
    ExportError
        It names the operator and the module.
    """
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op != "call_function" or not isinstance(value, torch.Tensor) or value.dtype is not torch.float64:
            continue
        names = [argument.name for argument in node.target._schema.arguments]
        for name, number in (dict(zip(names, node.args, strict=False)) | node.kwargs).items():
            if not isinstance(number, float):
                continue
            # An epsilon may be rounded, as that of a layer normalisation is, but not to nothing.
            rounding = _EPSILON_ROUNDING * abs(number) if name == "eps" else 0.0
            with np.errstate(over="ignore"):
                written = float(np.float32(number))
            if written != number and not abs(written - number) <= rounding:
                users = [node, *node.users] if node.target is torch.ops.aten.scalar_tensor.default else [node]
                path = [path for path, _ in (users[-1].meta.get("nn_module_stack") or {}).values()]
                where = path[-1].removeprefix("module").removeprefix(".") if path else ""
                raise ExportError(
                    f"{users[-1].target} in {where or 'the network'} computes in float64 with {number!r}, which the "
                    f"graph would have as {written!r}; compute in float32, with a number that it has"
                )


class _Positional(nn.Module):
    """Give the exporter a signature with named tensors, which ``*inputs`` does not tell it."""

    def __init__(self, module: nn.Module, outputs: Sequence[str]) -> None:
        super().__init__()
        self.module, self.outputs = module, tuple(outputs)

    def forward(self, first: torch.Tensor, second: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        return as_outputs(self.module(first) if second is None else self.module(first, second), self.outputs)


@contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Keep what the exporter remarks on its own internals from the user, and collect what it prints when it fails."""
    said = io.StringIO()
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(said), redirect_stdout(said):
            warnings.simplefilter("ignore")
            yield said
    finally:
        logging.disable(disabled)
