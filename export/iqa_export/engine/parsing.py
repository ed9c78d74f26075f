"""From an ONNX file to a network of TensorRT, or to an error that names the node and what to do."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from iqa_export.engine.logs import last_error
from iqa_runtime.backends import GraphSpec
from iqa_runtime.errors import ArtefactError, BackendError

_SHOWN = 3
"""Parser errors a message shows; further ones mostly follow from the first."""

_ELSEWHERE = "score with the ONNX artefact on another backend"

_REMEDIES = {
    "UNSUPPORTED_NODE": "TensorRT has no such operator: write the model with others, or " + _ELSEWHERE,
    "UNSUPPORTED_NODE_ATTR": "export with another ``opset``, or " + _ELSEWHERE,
    "UNSUPPORTED_NODE_DATATYPE": "convert the graph with ``target=tensorrt``",
    "UNSUPPORTED_NODE_INPUT": "convert the graph with ``target=tensorrt``, or " + _ELSEWHERE,
    "UNSUPPORTED_NODE_DYNAMIC": "only the batch axis may be dynamic: export the model again",
    "MODEL_DESERIALIZE_FAILED": "the file is damaged, or weights beside it are missing: export the model again",
    "MEM_ALLOC_FAILED": "free some memory",
}
_OTHER_REMEDY = "convert the graph with ``target=tensorrt``, export with another ``opset``, or " + _ELSEWHERE


def parse(trt: ModuleType, network: Any, onnx: Path, source: bytes, log: Any) -> Any:
    """Fill a network from an ONNX file, whose path is for messages.

    Returns
    -------
    OnnxParser
        To be kept until the engine is built: the network's weights lie in its memory.

    Raises
    ------
    BackendError
        If the parser refuses the graph; with the nodes, their operators, and a remedy.
    """
    parser = trt.OnnxParser(network, log)
    if not parser.parse(source):
        raise BackendError(f"{onnx}: TensorRT cannot parse the graph: {describe_errors(parser, log)}")
    return parser


def check_network(trt: ModuleType, network: Any, onnx: Path, spec: GraphSpec) -> None:
    """Hold a parsed network to the contract of its artefact, before minutes are spent on building it.

    Raises
    ------
    ArtefactError
        If it has other inputs or outputs, or one of another shape or type.
    """
    floats = (trt.DataType.FLOAT, trt.DataType.HALF)
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    for kind, found, wanted in (("input", inputs, spec.inputs), ("output", outputs, spec.outputs)):
        tensors = {tensor.name: tensor for tensor in found}
        names = {each.name for each in wanted}
        # Further outputs, marked layers say, do no harm.
        if names - tensors.keys() or (kind == "input" and tensors.keys() - names):
            raise ArtefactError(
                f"{onnx}: the graph has {kind}s {sorted(tensors)}, its contract says "
                f"{sorted(names)}; export the model again"
            )
        for each in wanted:
            shape = tuple(tensors[each.name].shape)
            # An output may leave sizes open until it is run.
            fits = len(shape) == 1 + len(each.item_shape) and all(
                size == expected or size == -1 for size, expected in zip(shape[1:], each.item_shape, strict=True)
            )
            if not fits or tensors[each.name].dtype not in floats:
                raise ArtefactError(
                    f"{onnx}: {kind} {each.name!r} of the graph is {tensors[each.name].dtype} {list(shape)}, its "
                    f"contract says float {['batch', *each.item_shape]}; export the model again"
                )


def describe_errors(parser: Any, log: Any) -> str:
    """Return what a parser complains about, and a remedy, in one line."""
    complaints = [parser.get_error(index) for index in range(parser.num_errors)]
    if not complaints:
        return f"{last_error(log)}; {_OTHER_REMEDY}"
    shown = complaints[:_SHOWN]
    more = f"; and {len(complaints) - _SHOWN} more" if len(complaints) > _SHOWN else ""
    remedies = dict.fromkeys(_REMEDIES.get(complaint.code().name, _OTHER_REMEDY) for complaint in shown)
    return f"{'; '.join(map(_described, shown))}{more}; {'; or '.join(remedies)}"


def _described(complaint: Any) -> str:
    text = " ".join(complaint.desc().split()).rstrip(".")
    if complaint.node() < 0:  # not about a node
        return text
    return f"node {complaint.node_name() or complaint.node()!r} ({complaint.node_operator()}): {text}"
