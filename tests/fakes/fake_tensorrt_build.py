"""The half of the fake that makes plans: parser, builder and what configures them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from fake_tensorrt_types import (
    BuilderFlag,
    DataType,
    ErrorCode,
    HardwareCompatibilityLevel,
    IHostMemory,
    ILogger,
    IProgressMonitor,
    MemoryPoolType,
    NetworkDefinitionCreationFlag,
    ProfilingVerbosity,
    construct,
    fake,
    make_plan,
    report_error,
)


@dataclass
class ITensor:
    name: str
    dtype: DataType
    shape: tuple[int, ...]


class INetworkDefinition:
    def __init__(self, flags: int) -> None:
        self._flags = flags
        self._inputs: list[ITensor] = []
        self._outputs: list[ITensor] = []
        self._weights = ""
        self.num_layers = 0

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]

    def get_output(self, index: int) -> ITensor:
        return self._outputs[index]

    def get_flag(self, flag: NetworkDefinitionCreationFlag) -> bool:
        return bool(self._flags >> int(flag) & 1)


@dataclass
class ParserError:
    _code: ErrorCode
    _desc: str
    _node: int = -1
    _name: str = ""
    _operator: str = ""

    def code(self) -> ErrorCode:
        return self._code

    def desc(self) -> str:
        return self._desc

    def node(self) -> int:
        return self._node

    def node_name(self) -> str:
        return self._name

    def node_operator(self) -> str:
        return self._operator


def parsed(model: bytes, network: INetworkDefinition | None) -> tuple[list[ParserError], str]:
    """Fill a network from an ONNX file; return what is wrong with it and the digest of its weights."""
    import onnx

    try:
        graph = onnx.load_model_from_string(model).graph
    except Exception as error:  # onnx raises what it likes
        return [ParserError(ErrorCode.MODEL_DESERIALIZE_FAILED, f"cannot read it: {error}")], ""
    errors = []
    for index, node in enumerate(graph.node):
        if node.op_type in fake.unsupported:
            text = f"No importer registered for op: {node.op_type}."
            errors.append(ParserError(ErrorCode.UNSUPPORTED_NODE, text, index, node.name, node.op_type))
    weights = sha256(b"".join(entry.SerializeToString() for entry in graph.initializer)).hexdigest()
    if network is not None:
        kinds = {onnx.TensorProto.FLOAT: DataType.FLOAT, onnx.TensorProto.FLOAT16: DataType.HALF}
        for entries, tensors in ((graph.input, network._inputs), (graph.output, network._outputs)):
            for entry in entries:
                shape = tuple(size.dim_value or -1 for size in entry.type.tensor_type.shape.dim)
                tensors.append(ITensor(entry.name, kinds[entry.type.tensor_type.elem_type], shape))
        network.num_layers = len(graph.node)
        network._weights = weights
    return errors, weights


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network, self._logger = network, logger
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def parse(self, model: bytes, path: str | None = None) -> bool:
        self._errors, _ = parsed(model, self._network)
        for error in self._errors:
            report_error(self._logger, error.desc())
        return not self._errors


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]) -> None:
        if not all(low <= middle <= high for low, middle, high in zip(min, opt, max, strict=True)):
            raise ValueError("the shapes of a profile must not decrease")
        self._shapes[input] = [tuple(min), tuple(opt), tuple(max)]

    def get_shape(self, input: str) -> list[tuple[int, ...]]:
        return self._shapes[input]


class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> IHostMemory:
        return IHostMemory(self._content)


class IBuilderConfig:
    def __init__(self) -> None:
        self._flags: set[BuilderFlag] = {BuilderFlag.TF32}
        self._pools: dict[MemoryPoolType, int] = {}
        self._profiles: list[IOptimizationProfile] = []
        self._cache: ITimingCache | None = None
        self.builder_optimization_level = 3
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.hardware_compatibility_level = HardwareCompatibilityLevel.NONE
        self.progress_monitor: IProgressMonitor | None = None

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._profiles)

    def set_flag(self, flag: BuilderFlag) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self._flags.discard(flag)

    def get_flag(self, flag: BuilderFlag) -> bool:
        return flag in self._flags

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self._pools[pool] = pool_size

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if "timing cache mismatch" in fake.faults and cache._content and not ignore_mismatch:
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache


class Builder:
    def __init__(self, logger: ILogger) -> None:
        construct(logger)
        self.logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        fake.builds += 1
        if "build returns None" in fake.faults:
            report_error(self.logger, "Error Code 10: Could not find any implementation for node score")
            return None
        if any(-1 in tensor.shape for tensor in network._inputs) and not config._profiles:
            report_error(self.logger, "Network has dynamic inputs, but no optimization profile has been defined.")
            return None
        monitor = config.progress_monitor
        if monitor is not None and not _report(monitor):
            report_error(self.logger, "Error Code 7: BuildCanceled (Build canceled by user)")
            return None
        if config._cache is not None:
            config._cache = ITimingCache(config._cache._content + b"timed ")
        tensors = {
            "inputs": [[tensor.name, int(tensor.dtype), tensor.shape] for tensor in network._inputs],
            "outputs": [[tensor.name, int(tensor.dtype), tensor.shape] for tensor in network._outputs],
        }
        settings = {
            "strongly_typed": network.get_flag(NetworkDefinitionCreationFlag.STRONGLY_TYPED),
            "flags": sorted(flag.name for flag in config._flags),
            "workspace": config._pools.get(MemoryPoolType.WORKSPACE),
            "level": config.builder_optimization_level,
            "hardware": config.hardware_compatibility_level.name,
            "profiles": [profile._shapes for profile in config._profiles],
            "layers": network.num_layers,
        }
        stripped = BuilderFlag.STRIP_PLAN in config._flags
        return make_plan({**tensors, **settings, "weights": None if stripped else network._weights})


def _report(monitor: IProgressMonitor) -> bool:
    monitor.phase_start("Building engine", None, 2)  # type: ignore[arg-type]  # as the real one does
    going_on = monitor.step_complete("Building engine", 0)
    if going_on:
        monitor.phase_start("Timing tactics", "Building engine", 3)
        going_on = all(monitor.step_complete("Timing tactics", step) for step in range(3))
        monitor.phase_finish("Timing tactics")
    going_on = going_on and monitor.step_complete("Building engine", 1)
    monitor.phase_finish("Building engine")
    return going_on
