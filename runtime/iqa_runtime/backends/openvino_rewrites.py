"""Rewrites of 8-bit graphs that OpenVINO's CPU plugin (2026.4) computes wrongly, without a word.

Each leaves the values of the graph as they are. What goes wrong is known from graphs of a few nodes, beside ONNX
Runtime and beside NumPy; the tests hold them.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

_CONVOLUTIONS = ("Convolution", "GroupConvolution")
_DEQUANTISATION = ("Convert", "Subtract", "Multiply")


def sidestep_errors(openvino: ModuleType, model: Any) -> None:
    """Change a model in place, before it is compiled; one without int8 weights stays as it is.

    Parameters
    ----------
    openvino
        The library.
    model
        An ``openvino.Model`` that was read from ONNX.
    """
    operators = model.get_ordered_ops()
    roundings = [node for node in operators if node.get_type_name() == "FakeQuantize"]
    if not roundings:
        if any(_is_int8_weight(openvino, node) for node in operators):
            _decompress(model)
        return
    for rounding in roundings:
        for integers in _readers(rounding):
            if _is_int8(openvino, integers) and "Convolution" in set(_types_behind(integers)):
                _round_to_unsigned(openvino, rounding, integers)
    for node in operators:
        if node.get_type_name() in _CONVOLUTIONS and len(_readers(node)) > 1:
            _read_through_one(openvino, node)
    model.validate_nodes_and_infer_types()


def _decompress(model: Any) -> None:
    """Multiply int8 weights out, where all arithmetic is float32.

    Kept as they are, which is meant for large language models, they gave MFE-Net scores that were off by hundreds of
    times their spread, and DRI-IQA's 1 x 1 convolutions of slices could not be compiled.
    """
    passes = import_module("openvino.passes")
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(model)


def _round_to_unsigned(openvino: ModuleType, rounding: Any, integers: Any) -> None:
    """Let a convolution read activations as uint8 around 128 instead of int8 around 0, which are the same steps.

    With int8 it is wrong where a Concat lies ahead of the rounding: scores of an edge network were off by more than
    their spread.
    """
    make = openvino.opset13
    for position, limit in ((3, 0), (4, 255)):
        rounding.input(position).replace_source_output(make.constant(limit, np.float32).output(0))
    unsigned = make.convert(rounding, "u8")
    centred = make.subtract(make.convert(unsigned, "f32"), make.constant(128, np.float32))
    for reader in _readers(integers):
        reader.output(0).replace(centred.output(0))


def _read_through_one(openvino: ModuleType, convolution: Any) -> None:
    """Let the readers of a convolution read it through an operator that does nothing.

    The result of an integer convolution without bias is scaled wrongly if several operators read it. No pass takes the
    minimum with the largest float32 out, and none moves the scale behind it.
    """
    make = openvino.opset13
    readers = convolution.output(0).get_target_inputs()
    same = make.minimum(convolution, make.constant(np.finfo(np.float32).max, np.float32))
    for reader in readers:
        reader.replace_source_output(same.output(0))


def _is_int8(openvino: ModuleType, node: Any) -> bool:
    return bool(node.get_type_name() == "Convert" and node.get_output_element_type(0) == openvino.Type.i8)


def _is_int8_weight(openvino: ModuleType, node: Any) -> bool:
    return bool(node.get_type_name() == "Constant" and node.get_output_element_type(0) == openvino.Type.i8)


def _readers(node: Any) -> list[Any]:
    return [reader.get_node() for reader in node.output(0).get_target_inputs()]


def _types_behind(integers: Any) -> Iterator[str]:
    """Yield the types of the operators that read a tensor through its dequantisation."""
    for node in _readers(integers):
        if node.get_type_name() in _DEQUANTISATION:
            yield from _types_behind(node)
        else:
            yield node.get_type_name()
