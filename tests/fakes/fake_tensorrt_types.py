"""What both halves of the fake share: its settings, the enumerations, loggers and monitors, and the plan format."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

MAGIC = b"fake plan\n"

FAULTS = (
    "no GPU",  # Builder and Runtime raise the TypeError of a null pointer
    "build returns None",
    "deserialize returns None",
    "context is None",
    "enqueue fails",
    "refit fails",
    "timing cache mismatch",
)


@dataclass
class Fake:
    """What a test sets and sees.

    Attributes
    ----------
    faults
        Some of `FAULTS`.
    unsupported
        Operators that the parser refuses.
    enqueue
        Takes a stream's handle and the work of one execution; None to work at once.
    compute
        Takes the name of an output and the inputs of a run, and returns its values; None for the mean of each item of
        the first input, less those of the others.
    shape
        Takes the shape of the first input and returns that of an output whose sizes are open; None to leave them so.
    builds, deserialised, contexts, executions
        How often.
    """

    version: str = "10.3.0.26"
    faults: set[str] = field(default_factory=set)
    unsupported: set[str] = field(default_factory=lambda: {"Col2Im", "DeformConv"})
    enqueue: Callable[[int, Callable[[], None]], None] | None = None
    compute: Callable[[str, list[Any]], Any] | None = None
    shape: Callable[[tuple[int, ...]], tuple[int, ...]] | None = None
    builds: int = 0
    deserialised: int = 0
    contexts: int = 0
    executions: int = 0


fake = Fake()
"""The settings in force; `install` starts afresh."""


class DataType(IntEnum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    BF16 = 7
    INT64 = 8


class BuilderFlag(IntEnum):
    DEBUG = 0
    REFIT = 2
    DISABLE_TIMING_CACHE = 3
    TF32 = 5
    VERSION_COMPATIBLE = 11
    EXCLUDE_LEAN_RUNTIME = 12
    STRIP_PLAN = 18
    REFIT_IDENTICAL = 19
    WEIGHT_STREAMING = 20


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 1


class MemoryPoolType(IntEnum):
    WORKSPACE = 0


class HardwareCompatibilityLevel(IntEnum):
    NONE = 0
    AMPERE_PLUS = 1


class ProfilingVerbosity(IntEnum):
    LAYER_NAMES_ONLY = 0
    NONE = 1
    DETAILED = 2


class TensorIOMode(IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class LayerInformationFormat(IntEnum):
    ONELINE = 0
    JSON = 1


class ExecutionContextAllocationStrategy(IntEnum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class SerializationFlag(IntEnum):
    EXCLUDE_WEIGHTS = 0
    EXCLUDE_LEAN_RUNTIME = 1


class ErrorCode(IntEnum):
    SUCCESS = 0
    INTERNAL_ERROR = 1
    MODEL_DESERIALIZE_FAILED = 3
    INVALID_NODE = 6
    UNSUPPORTED_NODE = 8


class ILogger:
    class Severity(IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    INTERNAL_ERROR = Severity.INTERNAL_ERROR
    ERROR = Severity.ERROR
    WARNING = Severity.WARNING
    INFO = Severity.INFO
    VERBOSE = Severity.VERBOSE

    def __init__(self) -> None:
        self._made = True

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


def report_error(logger: ILogger, text: str) -> None:
    logger.log(ILogger.ERROR, text)


def construct(logger: ILogger) -> None:
    if not isinstance(logger, ILogger) or not getattr(logger, "_made", False):
        raise TypeError(
            "incompatible constructor arguments; ILogger.__init__() must be called when overriding __init__"
        )
    if "no GPU" in fake.faults:
        report_error(logger, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")


class IProgressMonitor:
    def __init__(self) -> None:
        self._made = True

    def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError


class IHostMemory(bytes):
    @property
    def nbytes(self) -> int:
        return len(self)


def make_plan(content: dict[str, Any]) -> IHostMemory:
    return IHostMemory(MAGIC + json.dumps({"version": fake.version, **content}, sort_keys=True).encode())


def plan_content(plan: bytes | Path) -> dict[str, Any]:
    """Return what a plan of `Builder` says of the network and of the configuration it was built with."""
    text = plan if isinstance(plan, bytes) else plan.read_bytes()
    content: dict[str, Any] = json.loads(text.removeprefix(MAGIC))
    return content
