"""Make the tensors inside a network outputs, so that ``iqa-compare --layers`` can look at them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from onnx import load_model_from_string

from iqa_calibration.graphs.half_storage import widen
from iqa_calibration.graphs.structure import Structure


def mark_layers(trt: ModuleType, network: Any, parser: Any, source: bytes) -> dict[str, tuple[int, ...]]:
    """Mark each float tensor that a node of the ONNX graph computes as an output of the network.

    Layers that the parser adds make tensors which nothing could be compared with; these and constants are left alone,
    as are tensors in bfloat16, which NumPy has no type for, and those of nodes without a name of their own.

    Parameters
    ----------
    trt
        TensorRT.
    network
        As parsed; changed in place.
    parser
        What has parsed it.
    source
        The ONNX file, as read.

    Returns
    -------
    dict
        The tensors marked, and the network's own float outputs: name to shape for one item, in the graph's order.
    """
    model = load_model_from_string(source)
    widen(model)
    structure = Structure(model)
    shapes, floats = structure.item_shapes, (trt.DataType.FLOAT, trt.DataType.HALF)
    marked = {}
    for node in structure.nodes.values():
        for index, name in enumerate(node.output):
            if name not in shapes or structure.is_constant(name):
                continue
            tensor = parser.get_layer_output_tensor(node.name, index)
            if tensor is None or tensor.name != name or tensor.dtype not in floats:
                continue
            if not tensor.is_network_output:
                network.mark_output(tensor)
            marked[name] = shapes[name]
    return marked
