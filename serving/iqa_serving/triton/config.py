"""Configurations of Triton's models, and the text format of protocol buffers that they are written in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from iqa_runtime.artefacts.contract_json import contract_to_json
from iqa_runtime.backends.tensor_spec import GraphSpec, TensorSpec
from iqa_runtime.contract import METADATA_KEY, Contract
from iqa_runtime.errors import UsageError

_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16"}
_GPU = re.compile(r"cuda(?::([0-9]{1,3}))?")
_INDENT = "  "

OUTPUTS = {"score": "TYPE_FP64", "percentile": "TYPE_FP64", "error": "TYPE_STRING", "row": "TYPE_STRING"}
"""What is said of an encoded image: its score and percentile, NaN where there is none; why there is no score, else
empty; the row of ``iqa-run`` as JSON."""

Message = Mapping[str, Any]
"""A message of protocol buffers: fields by name. Values are numbers, texts, `Word`, messages, or lists of these."""


class Word(str):
    """A value that stands without quotes, such as of an enumeration."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How the server runs a model.

    Attributes
    ----------
    max_batch_size
        Most images, or items, of a request, and of requests that are put together.
    queue_delay
        Microseconds that a request may wait for others.
    instances
        How many; on a GPU, so many on each.
    device
        ``cpu``, ``cuda`` (every GPU that the server sees) or ``cuda:N``.

    Raises
    ------
    UsageError
        If the device is another one.
    """

    max_batch_size: int
    queue_delay: int
    instances: int
    device: str

    def __post_init__(self) -> None:
        if self.device != "cpu" and _GPU.fullmatch(self.device) is None:
            raise UsageError(f"``device={self.device}``: Triton has cpu, cuda or cuda:N; give one of these")

    def fields(self) -> dict[str, Any]:
        """Return the fields of a configuration that say so."""
        group: dict[str, Any] = {"count": self.instances, "kind": Word("KIND_CPU")}
        gpu = _GPU.fullmatch(self.device)
        if gpu is not None:
            group["kind"] = Word("KIND_GPU")
            group |= {} if gpu[1] is None else {"gpus": [int(gpu[1])]}
        return {
            "max_batch_size": self.max_batch_size,
            "dynamic_batching": {"max_queue_delay_microseconds": self.queue_delay},
            "instance_group": [group],
        }


def bytes_config(name: str, contract: Contract, placement: Placement, parameters: Mapping[str, Any]) -> Message:
    """Return the configuration of the model that takes encoded images.

    Parameters
    ----------
    name
        Of the model.
    contract
        Of the artefact.
    placement
        How it is run.
    parameters
        Further ones that `iqa_serving.triton.model` reads; what is no text becomes JSON.
    """
    inputs = ["image", "reference"] if contract.needs_reference else ["image"]
    return {
        "name": name,
        "backend": "python",
        **placement.fields(),
        "input": [_tensor(each, "TYPE_STRING") for each in inputs],
        "output": [_tensor(each, kind) for each, kind in OUTPUTS.items()],
        "parameters": _parameters(contract, parameters),
    }


def plain_config(name: str, spec: GraphSpec, contract: Contract, placement: Placement, *, platform: str) -> Message:
    """Return the configuration of a graph by itself, for clients that cut and normalise crops.

    Parameters
    ----------
    name
        Of the model.
    spec
        What the graph takes and gives.
    contract
        Of the artefact that it belongs to.
    placement
        How it is run.
    platform
        ``onnxruntime_onnx`` or ``tensorrt_plan``.
    """
    return {
        "name": name,
        "platform": platform,
        **placement.fields(),
        "input": [_graph_tensor(each) for each in spec.inputs],
        "output": [_graph_tensor(each) for each in spec.outputs],
        "parameters": _parameters(contract, {}),
    }


def to_text(message: Message) -> str:
    """Write a message in the text format of protocol buffers."""
    return "".join(f"{line}\n" for line in _lines(message))


def _tensor(name: str, kind: str) -> Message:
    return {"name": name, "data_type": Word(kind), "dims": [1]}


def _graph_tensor(spec: TensorSpec) -> Message:
    tensor = {"name": spec.name, "data_type": Word(_TYPES[spec.dtype or "float32"])}
    if not spec.item_shape:  # Triton has no tensors without axes beside that of the batch
        return tensor | {"dims": [1], "reshape": {"shape": []}}
    return tensor | {"dims": [side if isinstance(side, int) else -1 for side in spec.item_shape]}


def _parameters(contract: Contract, more: Mapping[str, Any]) -> list[Message]:
    values = {METADATA_KEY: contract_to_json(contract), **more}
    return [
        {"key": key, "value": {"string_value": value if isinstance(value, str) else json.dumps(value)}}
        for key, value in values.items()
    ]


def _lines(message: Message) -> Iterator[str]:
    for name, value in message.items():
        if isinstance(value, Mapping):
            yield from _block(name, value)
        elif not isinstance(value, list):
            yield f"{name}: {_scalar(value)}"
        elif value and isinstance(value[0], Mapping):
            for each in value:
                yield from _block(name, each)
        else:
            yield f"{name}: [{', '.join(map(_scalar, value))}]"


def _block(name: str, message: Message) -> Iterator[str]:
    yield f"{name} {{"
    yield from (_INDENT + line for line in _lines(message))
    yield "}"


def _scalar(value: Any) -> str:
    if isinstance(value, Word) or not isinstance(value, str):
        return str(value)
    quote = "'" if '"' in value else '"'
    return quote + value.replace("\\", "\\\\").replace(quote, f"\\{quote}").replace("\n", "\\n") + quote
