"""Read the metadata of an ONNX file without onnx: walk the top-level protobuf fields and skip the graph by its length.

Only the wire format is needed (https://protobuf.dev/programming-guides/encoding): ModelProto.metadata_props is field
14, each entry a StringStringEntryProto with key (1) and value (2). A file of hundreds of megabytes costs a few seeks.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

_MODEL_METADATA_PROPS = 14
_MODEL_GRAPH = 7
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata properties of an ONNX model.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a protobuf with a graph, or it ends early.
    """
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        metadata: dict[str, str] = {}
        has_graph = False
        for field, payload in _fields(file, end, wanted=_MODEL_METADATA_PROPS):
            has_graph |= field == _MODEL_GRAPH
            if field == _MODEL_METADATA_PROPS:
                entry = dict(_fields(BytesIO(payload), len(payload), wanted=None))
                metadata[entry.get(_ENTRY_KEY, b"").decode()] = entry.get(_ENTRY_VALUE, b"").decode()
    if not has_graph:
        raise ValueError("it holds no graph")
    return metadata


def _fields(stream: BinaryIO, end: int, wanted: int | None) -> list[tuple[int, bytes]]:
    """List (field number, payload) of one message; payloads of fields other than `wanted` stay unread."""
    found = []
    while stream.tell() < end:
        tag = _varint(stream)
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _varint(stream)
            size = 0
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        elif wire == _LENGTH:
            size = _varint(stream)
        else:
            raise ValueError(f"unknown wire type {wire}")
        if field == 0 or size > end - stream.tell():
            raise ValueError("it is damaged or ends early")
        if wire == _LENGTH and wanted in (None, field):
            found.append((field, stream.read(size)))
        else:
            stream.seek(size, os.SEEK_CUR)
            found.append((field, b""))
    return found


def _varint(stream: BinaryIO) -> int:
    value = shift = 0
    while shift < 64:
        byte = stream.read(1)
        if not byte:
            raise ValueError("it is damaged or ends early")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
    raise ValueError("it is damaged or ends early")
