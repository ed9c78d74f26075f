"""What the backend uses of TensorRT is in every version of it."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

import iqa_runtime.backends.tensorrt as backend_module
import iqa_runtime.backends.tensorrt_worker as worker_module

API = sorted((Path(__file__).parents[2] / "tensorrt_api").glob("tensorrt_*.json"))


def _attributes(*modules: Any) -> set[str]:
    """Names after a dot, in code that speaks to TensorRT's objects."""
    found = set()
    for module in modules:
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
    return found


NAMES = {
    "Runtime": {"deserialize_cuda_engine", "engine_host_code_allowed"},
    "ILogger": {"ERROR", "INTERNAL_ERROR", "log"},
    "ICudaEngine": {
        "create_execution_context",
        "get_tensor_dtype",
        "get_tensor_mode",
        "get_tensor_name",
        "get_tensor_shape",
        "num_io_tensors",
    },
    "IExecutionContext": {
        "execute_async_v3",
        "get_tensor_shape",
        "infer_shapes",
        "set_input_shape",
        "set_optimization_profile_async",
        "set_tensor_address",
    },
}
"""What the backend uses of TensorRT."""

OURS = {"__init__", "allocate", "append", "dtype", "engine", "max", "name", "nbytes", "opt", "path", "shape"}
"""Names that TensorRT has too, but in the backend belong to other objects."""


@pytest.mark.parametrize("api", API, ids=lambda path: path.stem)
def test_every_name_used_is_in_every_version(api: Path) -> None:
    classes = json.loads(api.read_text(encoding="utf-8"))["classes"]
    for name, members in NAMES.items():
        assert members <= set(classes[name]), name
    assert {"FLOAT", "HALF", "UINT8"} <= set(classes["DataType"])
    assert "INPUT" in classes["TensorIOMode"]


def test_the_names_listed_are_those_in_the_code() -> None:
    every = set()
    for api in API:
        for members in json.loads(api.read_text(encoding="utf-8"))["classes"].values():
            every |= set(members)
    used = _attributes(backend_module, worker_module) & every
    assert used - OURS == set().union(*NAMES.values()) - {"log"}


def test_there_are_versions_to_compare_with() -> None:
    assert len(API) >= 5
