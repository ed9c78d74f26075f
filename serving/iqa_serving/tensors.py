"""Requests and responses of the Open Inference Protocol, version 2, with its extension for binary tensors."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from iqa_serving.problems import ProblemError

HEADER = "Inference-Header-Content-Length"
"""How many bytes of a body are JSON; tensors follow, one after the other."""

_DIGITS = 20
"""Of a number of bytes, at most."""

SHOWN = 80
"""Characters of a client's text that a message repeats, at most."""


class Tensor(msgspec.Struct):
    """An input of a request: its values are in `data`, or follow the JSON."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class Wanted(msgspec.Struct):
    """An output that a request asks for."""

    name: str
    parameters: dict[str, Any] = {}


class InferenceRequest(msgspec.Struct):
    """The JSON of a request."""

    inputs: list[Tensor]
    id: str | None = None
    outputs: list[Wanted] | None = None
    parameters: dict[str, Any] = {}


def read_request(body: bytes, json_length: str | None, *, most: int) -> tuple[InferenceRequest, dict[str, list[bytes]]]:
    """Read a request.

    Parameters
    ----------
    body
        Of the request.
    json_length
        The header `HEADER`; None if all of it is JSON.
    most
        Elements that a tensor may have.

    Returns
    -------
    request
        Its JSON.
    dict
        By the name of the input, the elements of its tensor; all are of type BYTES. In JSON they are base64, for JSON
        has no bytes.

    Raises
    ------
    ProblemError
        400, if it is none; 413, if a tensor has too many elements.
    """
    length = len(body)
    if json_length is not None:
        if not json_length.isdecimal() or len(json_length) > _DIGITS or int(json_length) > len(body):
            raise ProblemError(400, f"{HEADER}: {json_length[:SHOWN]!r} is no number of bytes of this body")
        length = int(json_length)
    try:
        request = msgspec.json.decode(body[:length], type=InferenceRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProblemError(400, f"the request is not one of the Open Inference Protocol: {error}") from error
    rest = memoryview(body)[length:]
    tensors: dict[str, list[bytes]] = {}
    for tensor in request.inputs:
        name = tensor.name[:SHOWN]
        if tensor.name in tensors:
            raise ProblemError(400, f"input {name!r} is there twice")
        if tensor.datatype != "BYTES":
            raise ProblemError(400, f"input {name!r} is {tensor.datatype[:SHOWN]}; send encoded images as BYTES")
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            elements = _from_json(name, tensor.data or [], most)
        elif type(size) is not int or not 0 <= size <= len(rest):
            raise ProblemError(400, f"input {name!r}: {str(size)[:SHOWN]} bytes are said to follow, and {len(rest)} do")
        else:
            elements, rest = _from_binary(name, rest[:size], most), rest[size:]
        if not elements or tensor.shape not in ([len(elements)], [len(elements), 1]):
            raise ProblemError(400, f"input {name!r} has {len(elements)} elements; its shape is [N] or [N, 1]")
        tensors[tensor.name] = elements
    if rest:
        raise ProblemError(400, f"{len(rest)} bytes follow the last tensor; give each its binary_data_size")
    return request, tensors


def write_response(
    head: dict[str, Any], outputs: Sequence[tuple[str, str, list[int], list[Any]]], binary: Sequence[bool]
) -> tuple[bytes, dict[str, str]]:
    """Write a response.

    Parameters
    ----------
    head
        Members of its JSON beside the outputs.
    outputs
        Name, datatype (FP64 or BYTES), shape and values of each. None among numbers is NaN in binary form, and null in
        JSON, which has no NaN.
    binary
        Which of them go behind the JSON.

    Returns
    -------
    body, headers
        Of the response.
    """
    described, blobs = [], []
    for (name, datatype, shape, values), apart in zip(outputs, binary, strict=True):
        tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
        if apart:
            blob = _to_binary(datatype, values)
            tensor["parameters"] = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            tensor["data"] = values
        described.append(tensor)
    text = json.dumps(head | {"outputs": described}, ensure_ascii=False, allow_nan=False).encode()
    if not blobs:
        return text, {"Content-Type": "application/json"}
    return b"".join([text, *blobs]), {"Content-Type": "application/octet-stream", HEADER: str(len(text))}


def _from_binary(name: str, content: memoryview, most: int) -> list[bytes]:
    elements: list[bytes] = []
    while content:
        _check_count(name, len(elements) + 1, most)
        size = int.from_bytes(content[:4], "little")
        if len(content) < 4 + size:
            raise ProblemError(
                400, f"input {name!r} is cut short: an element of {size} bytes has {max(0, len(content) - 4)}"
            )
        elements.append(bytes(content[4 : 4 + size]))
        content = content[4 + size :]
    return elements


def _from_json(name: str, data: list[Any], most: int) -> list[bytes]:
    elements: list[bytes] = []
    _check_count(name, len(data), most)
    for nested in data:
        texts = nested if isinstance(nested, list) else [nested]
        _check_count(name, len(elements) + len(texts), most)
        for text in texts:
            try:
                elements.append(base64.b64decode(text, validate=True))
            except (TypeError, ValueError, binascii.Error) as error:
                raise ProblemError(
                    400,
                    f"input {name!r}: an element is no base64 ({error}); send images as base64, or binary",
                ) from error
    return elements


def _check_count(name: str, count: int, most: int) -> None:
    if count > most:
        raise ProblemError(413, f"input {name!r} has more than {most} elements; send them in several requests")


def _to_binary(datatype: str, values: list[Any]) -> bytes:
    if datatype == "FP64":
        return np.array(values, np.dtype("<f8")).tobytes()
    encoded = [value.encode() for value in values]
    return b"".join(len(value).to_bytes(4, "little") + value for value in encoded)
