"""Read what an ONNX file says about itself, and check that it is whole, without onnx.

Only the wire format is needed (https://protobuf.dev/programming-guides/encoding). A ModelProto is a row of fields; the
graph is one of them and is passed over by its length, so that hundreds of megabytes cost a few steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5

_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14
_TENSORS_WITHIN: dict[str, dict[int, str]] = {
    "model": {_MODEL_GRAPH: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""By message, the fields in which tensors lie: field number to message (onnx.proto3)."""

_LOCATION = b"location"
"""The key that every reference to a file beside the graph must have."""


def read_metadata(content: bytes) -> dict[str, str]:
    """Return the metadata properties of an ONNX model.

    Raises
    ------
    ValueError
        If it is not a protobuf with a graph, it ends early, or two properties have one name.
    """
    metadata: dict[str, str] = {}
    has_graph = False
    for field, _, payload in _fields(content):
        has_graph |= field == _MODEL_GRAPH
        if field == _MODEL_METADATA:
            key, value = _entry(payload)
            if key in metadata:
                raise ValueError(f"it has two properties {key!r}")
            metadata[key] = value
    if not has_graph:
        raise ValueError("it holds no graph")
    return metadata


BLANK_DIGEST = "0" * 64
"""What stands in the place of a digest while it is computed."""


def artefact_digest(content: bytes, digest: str) -> str | None:
    """Return the SHA-256 of a file that holds its own, with zeros in that one place.

    Parameters
    ----------
    content
        All of the file.
    digest
        What stands in that place now, 64 hexadecimal digits.

    Returns
    -------
    str
        In hexadecimal; None if `digest` is not in the file, or more than once.
    """
    mark = digest.encode()
    place = content.find(mark)
    if len(mark) != len(BLANK_DIGEST) or place < 0 or content.find(mark, place + 1) >= 0:
        return None
    found = sha256(memoryview(content)[:place])
    found.update(BLANK_DIGEST.encode())
    found.update(memoryview(content)[place + len(mark) :])
    return found.hexdigest()


def has_external_data(content: bytes) -> bool:
    """Tell whether a tensor of an ONNX model lies in another file.

    Raises
    ------
    ValueError
        If it ends early, or graphs in it hold graphs without end.
    """
    # Looking through every node takes longer than loading a small graph, and hardly any file has the word in it.
    try:
        return _LOCATION in content and _refers_elsewhere("model", memoryview(content))
    except RecursionError as error:
        raise ValueError("its graphs are nested too deeply") from error


def _refers_elsewhere(message: str, content: memoryview) -> bool:
    if message == "tensor":
        return any(
            field == _TENSOR_EXTERNAL_DATA or (field == _TENSOR_DATA_LOCATION and bytes(whole[-1:]) != b"\x00")
            for field, whole, _ in _fields(content)
        )
    within = _TENSORS_WITHIN[message]
    return any(field in within and _refers_elsewhere(within[field], payload) for field, _, payload in _fields(content))


def _entry(payload: memoryview) -> tuple[str, str]:
    parts = {field: bytes(part).decode() for field, _, part in _fields(payload)}
    return parts.get(_ENTRY_KEY, ""), parts.get(_ENTRY_VALUE, "")


def _fields(content: bytes | memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Yield the fields of one message: number, all of its bytes, and what is in it (nothing of plain numbers)."""
    view = memoryview(content)
    place = 0
    while place < len(view):
        begin = place
        tag, place = _varint(view, place)
        field, wire = tag >> 3, tag & 7
        size = 0
        if wire == _VARINT:
            _, place = _varint(view, place)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        elif wire == _LENGTH:
            size, place = _varint(view, place)
        else:
            raise ValueError(f"unknown wire type {wire}")
        if field == 0 or size > len(view) - place:
            raise ValueError("it is damaged or ends early")
        yield field, view[begin : place + size], view[place : place + size] if wire == _LENGTH else view[:0]
        place += size


def _varint(view: memoryview, place: int) -> tuple[int, int]:
    """Return a number and where it ends."""
    value = shift = 0
    while shift < 64 and place < len(view):
        byte = view[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError("it is damaged or ends early")
