"""What a TensorRT plan is bound to: the library and its version, the platform, the GPU; of a plan, and of this host."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Literal

from iqa_runtime.cuda import Gpu, describe_gpu
from iqa_runtime.errors import DependencyError

Flavour = Literal["tensorrt", "tensorrt_rtx"]
"""Names of the Python packages: TensorRT itself, and TensorRT for RTX."""

Portability = Literal["same_gpu", "ampere_or_later"]
"""GPUs that run a plan: the model it was built on, or every one of compute capability 8.0 or later."""

TITLES: dict[Flavour, str] = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}

INSTALL: dict[Flavour, str] = {
    "tensorrt": 'pip install "iqa-deploy[tensorrt]", or on Jetson that of JetPack (see docs/tensorrt.md)',
    "tensorrt_rtx": 'pip install "iqa-deploy[tensorrt-rtx]"',
}

_AMPERE = (8, 0)

_NEXT_MAJOR = {10: 11}
"""The one step between major versions that NVIDIA supports for version-compatible plans (support matrix of 11.4; the
other one, 8 to 10, ends below the versions this package runs on)."""

_MACHINES = {"AMD64": "x86_64", "ARM64": "aarch64"}
"""What Windows calls its processors, in the words of Linux."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """Where a plan was built, or shall run.

    Attributes
    ----------
    library, version
        Which TensorRT, and its full version.
    platform
        Operating system and processor, such as ``Linux aarch64``.
    gpu
        None where there is none, which TensorRT-RTX can build on.
    """

    library: Flavour
    version: str
    platform: str
    gpu: Gpu | None

    def __str__(self) -> str:
        return f"{TITLES[self.library]} {self.version}, {self.platform}, {self.gpu or 'no GPU'}"


def import_tensorrt(library: Flavour) -> ModuleType:
    """Import one of the two libraries.

    Raises
    ------
    DependencyError
        If it is not installed, or cannot be loaded.
    """
    try:
        module = import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise DependencyError(f"{library} cannot be imported ({error}); reinstall it") from error
        raise DependencyError(f"{TITLES[library]} is not installed; {INSTALL[library]}") from error
    except ImportError as error:  # bindings without their libraries
        raise DependencyError(
            f"{library} cannot be imported ({error}); install its libraries too, of the same version"
        ) from error
    if not hasattr(module, "__version__") or not hasattr(module, "Runtime"):
        raise DependencyError(f"{library} is installed in part only; reinstall it")
    return module


def current_host(library: Flavour, *, ordinal: int = 0) -> HostKey:
    """Return the key of this host with one of its GPUs.

    Raises
    ------
    DependencyError
        If the library is not there.
    BackendError
        If the GPU cannot be asked.
    """
    module = import_tensorrt(library)
    return HostKey(
        library=library, version=str(module.__version__), platform=current_platform(), gpu=current_gpu(ordinal)
    )


def current_platform() -> str:
    """Return operating system and processor."""
    machine = platform.machine()
    return f"{platform.system()} {_MACHINES.get(machine, machine)}"


def current_gpu(ordinal: int = 0) -> Gpu | None:
    """Describe a GPU of this host; None if there is none, or no driver, or nothing to ask it with.

    Raises
    ------
    BackendError
        If CUDA answers with an error.
    """
    try:
        return describe_gpu(ordinal)
    except DependencyError:
        return None


def differences(built: HostKey, host: HostKey, portability: Portability, *, version_compatible: bool) -> Iterator[str]:
    """Yield what keeps a plan built in one place from running in another, in words; nothing if it may run.

    TensorRT binds plans to the exact version, unless built version-compatible, to the operating system, and to the GPU
    model, unless built hardware-compatible. Plans of TensorRT-RTX run on Linux and Windows alike and on every GPU from
    Ampere on, with the version that built them. The GPU's driver is not compared.
    """
    if host.library != built.library:
        yield f"{TITLES[built.library]} built it, {TITLES[host.library]} is to run it"
        return
    if not _runs_version(built.version, host.version, version_compatible):
        newer = " or a later one" if version_compatible else ""
        yield f"{TITLES[built.library]} {host.version} is here, the plan needs {built.version}{newer}"
    rtx = built.library == "tensorrt_rtx"
    parts = slice(-1, None) if rtx else slice(None)  # of operating system and processor
    if built.platform.split()[parts] != host.platform.split()[parts]:
        yield f"it runs on {built.platform}, this is {host.platform}"
    if host.gpu is None:
        yield "no NVIDIA GPU was found here"
    elif portability == "ampere_or_later":
        if host.gpu.compute_capability < _AMPERE:
            yield f"it needs a GPU of compute capability 8.0 or later, here is {host.gpu}"
    elif built.gpu is None or (built.gpu.name, built.gpu.compute_capability) != (
        host.gpu.name,
        host.gpu.compute_capability,
    ):
        yield f"it runs on {built.gpu or 'an unknown GPU'}, here is {host.gpu}"


def _runs_version(built: str, host: str, compatible: bool) -> bool:
    if not compatible:
        return built == host
    (built_major, *built_rest), (host_major, *host_rest) = _numbers(built), _numbers(host)
    if built_major != host_major:
        return _NEXT_MAJOR.get(built_major) == host_major
    return host_rest >= built_rest


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)] or [0]
