"""The half of the fake that runs plans: runtime, engine, execution context and refitter."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from fake_tensorrt_build import ParserError, parsed
from fake_tensorrt_types import (
    DataType,
    ExecutionContextAllocationStrategy,
    IHostMemory,
    ILogger,
    LayerInformationFormat,
    SerializationFlag,
    TensorIOMode,
    construct,
    fake,
    make_plan,
    plan_content,
    report_error,
)

_DTYPES = {DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.UINT8: np.uint8}


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        construct(logger)
        self.logger = logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        fake.deserialised += 1
        try:
            content = plan_content(bytes(serialized_engine))
        except ValueError:
            report_error(self.logger, "Error Code 1: Serialization (magic tag does not match)")
            return None
        if content["version"] != fake.version and "VERSION_COMPATIBLE" not in content["flags"]:
            report_error(self.logger, f"The engine was built with {content['version']}, the library is {fake.version}")
            return None
        if "VERSION_COMPATIBLE" in content["flags"] and not self.engine_host_code_allowed:
            report_error(self.logger, "The plan holds host code; set engine_host_code_allowed")
            return None
        if "deserialize returns None" in fake.faults:
            report_error(self.logger, "IRuntime::deserializeCudaEngine: Error Code 2: OutOfMemory")
            return None
        return ICudaEngine(content, self.logger)


class ISerializationConfig:
    def __init__(self, flags: set[SerializationFlag]) -> None:
        self._flags = flags

    def set_flag(self, flag: SerializationFlag) -> bool:
        self._flags.add(flag)
        return True

    def clear_flag(self, flag: SerializationFlag) -> bool:
        self._flags.discard(flag)
        return True


class EngineInspector:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine

    def get_engine_information(self, format: LayerInformationFormat) -> str:
        layers = [f"layer {index}" for index in range(self._engine.num_layers)]
        return json.dumps({"Layers": layers}) if format == LayerInformationFormat.JSON else "\n".join(layers)


class ICudaEngine:
    def __init__(self, content: dict[str, Any], logger: ILogger) -> None:
        self._content, self._logger = content, logger
        tensors = [(entry, TensorIOMode.INPUT) for entry in content["inputs"]]
        tensors += [(entry, TensorIOMode.OUTPUT) for entry in content["outputs"]]
        self._tensors = {entry[0]: (DataType(entry[1]), tuple(entry[2]), mode) for entry, mode in tensors}
        self.num_io_tensors = len(tensors)
        self.num_layers = content["layers"]
        self.num_optimization_profiles = max(1, len(content["profiles"]))
        self.device_memory_size_v2 = 4096
        self.refittable = bool({"REFIT", "REFIT_IDENTICAL"} & set(content["flags"]))

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._tensors[name][2] if name in self._tensors else TensorIOMode.NONE

    def get_tensor_dtype(self, name: str) -> DataType:
        return self._tensors[name][0]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name][1]

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self._content["profiles"][profile_index][name]]

    def create_execution_context(
        self, strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC
    ) -> IExecutionContext | None:
        if "context is None" in fake.faults:
            report_error(self._logger, "ICudaEngine::createExecutionContext: Error Code 2: OutOfMemory")
            return None
        fake.contexts += 1
        return IExecutionContext(self)

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self)

    def create_serialization_config(self) -> ISerializationConfig:
        stripped = "STRIP_PLAN" in self._content["flags"]
        return ISerializationConfig({SerializationFlag.EXCLUDE_WEIGHTS} if stripped else set())

    def serialize_with_config(self, arg0: ISerializationConfig) -> IHostMemory:
        content = dict(self._content)
        if SerializationFlag.EXCLUDE_WEIGHTS in arg0._flags:
            content["weights"] = None
        return make_plan(content)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self.engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        return 0 <= profile_index < self.engine.num_optimization_profiles

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        if self.engine.get_tensor_mode(name) != TensorIOMode.INPUT:
            return False
        low, _, high = self.engine.get_tensor_profile_shape(name, 0)
        if len(shape) != len(low) or not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            return False
        self._shapes[name] = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        """Names of the inputs whose shapes are missing."""
        return [entry[0] for entry in self.engine._content["inputs"] if entry[0] not in self._shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        declared = self.engine.get_tensor_shape(name)
        batch = next((shape[0] for shape in self._shapes.values()), -1)
        if fake.shape is not None and -1 in declared[1:]:
            return fake.shape(next(iter(self._shapes.values())))
        return (batch if declared[:1] == (-1,) else declared[0], *declared[1:])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self.engine._tensors:
            return False
        self._addresses[name] = int(memory)
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def execute_async_v3(self, stream_handle: int) -> bool:
        missing = set(self.engine._tensors) - set(self._addresses)
        if self.infer_shapes() or missing or "enqueue fails" in fake.faults or self.engine._content["weights"] is None:
            report_error(self.engine._logger, "IExecutionContext::enqueueV3: Error Code 3: API Usage Error")
            return False
        fake.executions += 1
        # Shapes and addresses are fixed when the work is enqueued, as in a CUDA graph.
        inputs = [self._memory(entry[0]) for entry in self.engine._content["inputs"]]
        outputs = {entry[0]: self._memory(entry[0]) for entry in self.engine._content["outputs"]}

        def work() -> None:
            means = [tensor.reshape(len(tensor), -1).mean(axis=1, dtype=np.float64) for tensor in inputs]
            values = means[0] - sum(means[1:])
            for name, tensor in outputs.items():
                if fake.compute is None:
                    tensor[...] = values.reshape(-1, *[1] * (tensor.ndim - 1))
                else:
                    tensor[...] = fake.compute(name, inputs)

        if fake.enqueue is None:
            work()
        else:
            fake.enqueue(stream_handle, work)
        return True

    def _memory(self, name: str) -> np.ndarray:
        shape = self.get_tensor_shape(name)
        dtype = np.dtype(
            {DataType.HALF: np.float16, DataType.UINT8: np.uint8}.get(self.engine.get_tensor_dtype(name), "f4")
        )
        size = int(np.prod(shape)) * dtype.itemsize
        memory = (ctypes.c_byte * size).from_address(self._addresses[name])
        return np.frombuffer(memory, dtype=dtype).reshape(shape)


class Refitter:
    def __init__(self, engine: ICudaEngine, logger: ILogger) -> None:
        construct(logger)
        self._engine = engine
        self._weights: str | None = None

    def get_missing_weights(self) -> list[str]:
        return [] if self._weights else ["weights"]

    def refit_cuda_engine(self) -> bool:
        if "refit fails" in fake.faults or not self._engine.refittable or self._weights is None:
            report_error(self._engine._logger, "IRefitter::refitCudaEngine: Error Code 3: missing weights")
            return False
        self._engine._content["weights"] = self._weights
        return True


class OnnxParserRefitter:
    def __init__(self, refitter: Refitter, logger: ILogger) -> None:
        self._refitter = refitter
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def refit_from_bytes(self, model: bytes, path: str | None = None) -> bool:
        self._errors, self._refitter._weights = parsed(model, None)
        return not self._errors
