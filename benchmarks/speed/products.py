"""Matrix products, the quickest of which stands for what the machine can do in a precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from speed.turns import Contender, Work

_SIDE = 1536
_FACTS = {"gflop": 2 * _SIDE**3 / 1e9}
_PRECISION_OF = {"float32": "fp32", "bfloat16": "bf16", "int8": "int8"}


def contenders(threads: int) -> list[Contender]:
    """Return matrix products of each precision; the quickest of a precision stands for the machine's peak."""
    kinds = {
        "NumPy float32": ("gemm_numpy", "float32"),
        "PyTorch float32": ("gemm_torch", "float32"),
        "PyTorch bfloat16": ("gemm_torch", "bfloat16"),
        "PyTorch int8": ("gemm_torch", "int8"),
        "ONNX Runtime float32": ("gemm_onnxruntime", "float32"),
        "ONNX Runtime int8": ("gemm_onnxruntime", "int8"),
    }
    return [
        Contender(
            name=f"{name} product",
            role="limit",
            make=f"speed.products:{function}",
            options={"threads": threads, "dtype": dtype, "precision": _PRECISION_OF[dtype]},
            environment={"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)},
        )
        for name, (function, dtype) in kinds.items()
    ]


def gemm_numpy(options: dict[str, Any]) -> Work:
    del options
    left = np.random.default_rng(0).random((_SIDE, _SIDE), dtype=np.float32)
    out = np.empty_like(left)
    return Work(call=lambda: np.matmul(left, left, out=out), facts=_FACTS)


def gemm_torch(options: dict[str, Any]) -> Work:
    import torch

    torch.set_num_threads(options["threads"])
    dtype: torch.dtype = getattr(torch, options["dtype"])
    left = (torch.rand(_SIDE, _SIDE) * 100).to(dtype)
    if dtype == torch.int8:
        return Work(call=lambda: torch._int_mm(left, left), facts=_FACTS)
    out = torch.empty_like(left)
    return Work(call=lambda: torch.matmul(left, left, out=out), facts=_FACTS)


def gemm_onnxruntime(options: dict[str, Any]) -> Work:
    """Multiply floats, or uint8 activations with int8 weights, the pair that processors have instructions for."""
    import onnx
    import onnxruntime
    from onnx import helper

    sides = [_SIDE, _SIDE]
    random = np.random.default_rng(0)
    left = random.integers(0, 200, sides, dtype=np.uint8)
    right = random.integers(-100, 100, sides, dtype=np.int8)
    operator, out = "MatMulInteger", "int32"
    values: list[NDArray[Any]] = [left, right]
    if options["dtype"] == "float32":
        operator, out = "MatMul", "float32"
        values = [value.astype(np.float32) for value in values]
    graph = helper.make_graph(
        [helper.make_node(operator, ["left", "right"], ["out"])],
        "product",
        [helper.make_tensor_value_info("left", helper.np_dtype_to_tensor_dtype(values[0].dtype), sides)],
        [helper.make_tensor_value_info("out", helper.np_dtype_to_tensor_dtype(np.dtype(out)), sides)],
        [onnx.numpy_helper.from_array(values[1], "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options["threads"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return Work(call=lambda: session.run(None, {"left": values[0]}), facts=_FACTS)
