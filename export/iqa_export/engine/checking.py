"""What is wrong with a build before it begins: told at once, and not after an export or a calibration."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import get_args

from iqa_export.engine.options import EngineOptions, check_library, check_options
from iqa_export.engine.timing_cache import cache_path, prepare_cache
from iqa_runtime.artefacts.files import PLAN_SUFFIX
from iqa_runtime.artefacts.host_key import INSTALL, TITLES, Flavour, HostKey, current_host
from iqa_runtime.artefacts.signing import sign
from iqa_runtime.errors import BackendError, DependencyError, UsageError
from iqa_runtime.files.overwriting import check_output


def check_build(options: EngineOptions, output: Path) -> HostKey:
    """Refuse a build that cannot succeed, whatever the graph is.

    Parameters
    ----------
    options
        How it is to be built.
    output
        The plan to be written.

    Returns
    -------
    HostKey
        Of the host that builds, with the library that was chosen.

    Raises
    ------
    UsageError
        If the options don't fit each other or the library, the output is no name of a plan, or the key cannot sign.
    FileError
        If there is no folder for the output, or the key or the timing cache cannot be used.
    DependencyError
        If the library is not there, or what signs is not.
    BackendError
        If there is no GPU, and the library needs one.
    """
    check_options(options)
    check_output(output, PLAN_SUFFIX)
    library = find_library(options.library)
    check_library(options, library)
    host = building_host(library)
    if host.gpu is None and library == "tensorrt":
        remedy = "``library=tensorrt_rtx``" if _is_installed("tensorrt_rtx") else INSTALL["tensorrt_rtx"]
        raise BackendError(
            f"{output}: TensorRT builds on the GPU that will run the plan, and none was found; check the driver with "
            f"nvidia-smi and that cuda-bindings or PyCUDA is installed; or, for RTX GPUs, build without one: {remedy}"
        )
    if options.sign is not None:
        sign(b"", options.sign)
    if options.timing_cache is not None:
        prepare_cache(cache_path(options.timing_cache, host))
    return host


def find_library(wanted: Flavour | None = None) -> Flavour:
    """Return the library that builds: the wanted one, or TensorRT, or TensorRT-RTX.

    Raises
    ------
    UsageError
        If there is no library of the wanted name.
    DependencyError
        If none is installed.
    """
    if wanted is not None:
        if wanted not in TITLES:
            raise UsageError(f"``library={wanted}``: there is {' and '.join(TITLES)}")
        if not _is_installed(wanted):
            raise DependencyError(f"{TITLES[wanted]} is not installed; {INSTALL[wanted]}{_or_another(wanted)}")
        return wanted
    for library in TITLES:
        if _is_installed(library):
            return library
    raise DependencyError(
        f"an engine needs TensorRT: {INSTALL['tensorrt']}; or, for RTX GPUs, TensorRT-RTX, which builds without a GPU: "
        f"{INSTALL['tensorrt_rtx']}"
    )


def building_host(library: Flavour) -> HostKey:
    """Return the key of this host with a library.

    Raises
    ------
    DependencyError
        If it cannot be loaded; names the other library if that is installed.
    BackendError
        If the GPU cannot be asked.
    """
    try:
        return current_host(library)
    except DependencyError as error:
        raise DependencyError(f"{error}{_or_another(library)}") from error


def why_no_engine(wanted: Flavour | None = None) -> str | None:
    """Say in one line why an engine is not built here unless asked for; None if a library and a GPU are there.

    Raises
    ------
    UsageError
        If there is no library of the wanted name.
    """
    try:
        host = building_host(find_library(wanted))
    except (BackendError, DependencyError) as error:
        return str(error)
    if host.gpu is not None:
        return None
    reason = f"{TITLES[host.library]} is installed, but no NVIDIA GPU was found"
    if host.library == "tensorrt_rtx":
        return f"{reason}; ``engine`` builds for RTX GPUs all the same"
    if _is_installed("tensorrt_rtx"):
        return f"{reason}; ``engine`` with ``library=tensorrt_rtx`` builds for RTX GPUs all the same"
    return reason


def why_no_plan(precision: str, target: str) -> str | None:
    """Say why a graph made for a target cannot become an engine; None if it can.

    Parameters
    ----------
    precision, target
        As in the contract.
    """
    if target == "onnxruntime" and precision in ("int8", "int8-weights"):
        return "its 8-bit graph was made for ONNX Runtime, TensorRT wants another form"
    if target == "openvino" and precision == "bf16":
        return "a float32 graph that OpenVINO runs in bfloat16"
    return None


def _is_installed(library: Flavour) -> bool:
    try:
        return find_spec(library) is not None
    except ValueError:  # imported, and by something that gave it no spec
        return True


def _or_another(library: Flavour) -> str:
    """Return, to be added to an error, how to build with the other library; nothing if that is not installed."""
    other = next(name for name in get_args(Flavour) if name != library)
    return f"; or build with {TITLES[other]}: ``library={other}``" if _is_installed(other) else ""
