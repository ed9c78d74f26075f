"""PyTorch to ONNX: one file, batch and a picture's own size the only dynamic axes, no source tree inside."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from math import prod

import numpy as np
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from torch import nn
from torch.onnx import ONNXProgram

from iqa_calibration.graphs.batch_normalization import fold_batch_normalization
from iqa_calibration.graphs.finishing import strip_sources
from iqa_calibration.graphs.folding import fold
from iqa_export.dynamic_axes import check_traced, dynamic_axes, example_shape
from iqa_export.exporter_errors import explained
from iqa_export.outputs import ExportError, as_outputs
from iqa_runtime.contract import PatchPlan, TensorInput
from iqa_runtime.errors import UsageError

OPSET = 20
"""The first with Gelu as one node, and the last that TensorRT 10.3, the oldest we build for, parses."""
NEWEST_OPSET = 23
_EXAMPLE_BATCH = 2
_EPSILON_ROUNDING = 1e-7
"""Relative, of a number in float32."""
_FLOATS = (torch.float32, torch.float64, torch.float16)
_WITHOUT_EFFECT = (0.0, 1.0)
"""What ONNX Runtime's optimiser compares a number with, rounded to float32, whatever its type."""
MOST_BYTES = 2**31 - 2**24
"""Of weights in one ONNX file, which protobuf limits to two gigabytes; some are left to the graph itself."""


def check_opset(opset: int) -> int:
    """Return `opset` if it is one we export; raise `UsageError` otherwise."""
    if not (type(opset) is int and OPSET <= opset <= NEWEST_OPSET):
        raise UsageError(f"``opset={opset}``: choose {OPSET} to {NEWEST_OPSET}")
    return opset


def to_onnx(
    module: nn.Module,
    inputs: Sequence[TensorInput],
    outputs: Sequence[str],
    *,
    opset: int = OPSET,
    patch_plan: PatchPlan | None = None,
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
    patch_plan
        Says of whole pictures at their own size what heights and widths there are; of no use for others.

    Raises
    ------
    ExportError
        If the network cannot be traced or has an operator that ONNX has not, is larger than a file may be, computes in
        bfloat16, or in float64 with numbers that float32 has not, returns something else, or takes no pictures as small
        as the patch plan says.
    """
    model: ModelProto = to_program(module, inputs, outputs, opset=opset, patch_plan=patch_plan).model_proto
    simplify(model)
    return model


def simplify(model: ModelProto) -> None:
    """Take out of an exported graph, in place, what it computes in vain, and what it tells of its sources.

    Raises
    ------
    ExportError
        If ONNX Runtime would compute something else than the graph says.
    """
    fold(model)
    fold_batch_normalization(model)
    fold(model)
    _check_constants(model)
    strip_sources(model)
    model.producer_name = "iqa-deploy"
    model.producer_version = ""


def to_program(
    module: nn.Module,
    inputs: Sequence[TensorInput],
    outputs: Sequence[str],
    *,
    opset: int = OPSET,
    patch_plan: PatchPlan | None = None,
) -> ONNXProgram:
    """Export a network, and keep what was translated beside the translation; arguments as in `to_onnx`."""
    # With gradients required, attention masks computed from parameters fail to trace for a dynamic batch.
    module.eval().requires_grad_(False)
    examples = tuple(torch.zeros(_EXAMPLE_BATCH, *example_shape(tensor, patch_plan)) for tensor in inputs)
    size = sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
    if size > MOST_BYTES:
        raise ExportError(
            f"the weights take {size / 1e9:.1f} GB, and an ONNX file holds 2 GB at most; export a smaller variant"
        )
    shapes = dynamic_axes(inputs, patch_plan)
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
    _check_precision(program.exported_program)
    check_traced(program.exported_program, inputs, patch_plan)
    return program


def _check_precision(program: torch.export.ExportedProgram) -> None:
    """Refuse what would be computed with other numbers: in bfloat16, or of float64 what float32 has not.

    The exporter writes the numbers among the arguments of an operator in float32, and 1e-50 is zero there.

    Raises
    ------
    ExportError
        It names the operator and the module.
    """
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op != "call_function" or not isinstance(value, torch.Tensor):
            continue
        if value.is_floating_point() and value.dtype not in _FLOATS:
            kind = str(value.dtype).removeprefix("torch.")
            raise ExportError(
                f"{_place(node)} computes in {kind}, which ONNX Runtime does not; compute in float32, without "
                "torch.autocast"
            )
        if value.dtype is not torch.float64:
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
                place = next(iter(node.users), node) if node.target is torch.ops.aten.scalar_tensor.default else node
                kept = f"self.register_buffer(NAME, torch.tensor({number!r}, dtype=torch.float64))"
                raise ExportError(
                    f"{_place(place)} computes in float64 with {number!r}, which the graph would have as {written!r}; "
                    "compute in float32, without .double()"
                    + ("" if written in _WITHOUT_EFFECT else f", or keep the number in a float64 buffer: {kept}")
                )


def _place(node: torch.fx.Node) -> str:
    """Name the operator of a node and the module that it is in."""
    path = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    where = path[-1].removeprefix("module").removeprefix(".") if path else ""
    return f"{node.target} in {where or 'the network'}"


def _check_constants(model: ModelProto) -> None:
    """Refuse single numbers of float64 that ONNX Runtime takes for zero or one, and drops with what adds or multiplies.

    Raises
    ------
    ExportError
        It names the number.
    """
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.DOUBLE or prod(tensor.dims) != 1:
            continue
        number = numpy_helper.to_array(tensor).item()
        with np.errstate(over="ignore"):
            taken = float(np.float32(number))
        if taken in _WITHOUT_EFFECT and taken != number:
            raise ExportError(
                f"the network computes in float64 with {number!r}, which ONNX Runtime takes for {taken!r}; compute in "
                "float32, without .double(), and with a number that is another one there"
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
