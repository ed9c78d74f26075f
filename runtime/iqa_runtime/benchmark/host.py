"""What a benchmark ran on: host, versions, commit; and what that host can do, measured in the same run."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np

from iqa_runtime import __version__
from iqa_runtime.backends import BACKEND_PACKAGES
from iqa_runtime.cpu import available_cpus
from iqa_runtime.kernels import instruction_set

_LIBRARIES = ("numpy", "opencv-python-headless", "opencv-python", "simplejpeg", *BACKEND_PACKAGES, "cuda-python")
_COPIED_BYTES = 2**28
"""Several times the last-level cache of any host there is, so that copies go through memory."""
_GEMM_SIDE = 1536
_PROBES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Where a benchmark ran.

    Attributes
    ----------
    system, machine, processor
        Such as ``Linux``, ``x86_64`` and the processor's name, as far as the system tells it.
    processor_model
        Its numbers of family and model: virtual machines have processors of several generations under one name. Empty
        where the system does not tell them.
    cpus
        CPUs this process may use, cgroup quotas included.
    kernels
        Instruction set of the patch kernels.
    versions
        Of iqa-deploy, Python and the libraries that are installed.
    commit
        Of the checkout this package runs from, marked if files differ from it; None outside one.
    """

    system: str
    machine: str
    processor: str
    processor_model: str
    cpus: int
    kernels: str
    versions: dict[str, str]
    commit: str | None


Source = Literal["measured", "published", "given"]
"""How a number is known: from this run; from what NVIDIA publishes, at the highest clock; from the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the hardware can do, and how that is known.

    Attributes
    ----------
    bandwidth
        Memory traffic of a copy, bytes read and written, in 10^9 a second; None if it is not known.
    bandwidth_source
        None if it is not known.
    peak
        Matrix products, in 10^9 operations a second, two for each multiply-accumulate; None if it is not known.
    peak_source
        None if it is not known.
    peak_precision
        Number format of these products: ``float32``, ``float16``, ``bfloat16`` or ``int8``; None if the peak is not
        known, or was given.
    """

    bandwidth: float | None = None
    bandwidth_source: Source | None = None
    peak: float | None = None
    peak_source: Source | None = None
    peak_precision: str | None = None


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of iqa-deploy, of Python and of those of some distributions that are installed."""
    versions = {"iqa-deploy": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def describe_host() -> Host:
    """Return where this process runs."""
    processor, model = _processor()
    return Host(
        system=platform.system(),
        machine=platform.machine(),
        processor=processor,
        processor_model=model,
        cpus=available_cpus(),
        kernels=instruction_set(),
        versions=versions_of(_LIBRARIES),
        commit=_commit(Path(__file__)),
    )


def measure_machine(threads: int) -> Machine:
    """Measure what this host's processor and memory do at best; takes a second or so and half a gigabyte.

    The copy uses so many threads; the product is of float32, whatever an artefact computes in, and uses as many as
    NumPy's own library takes.
    """
    return Machine(
        bandwidth=_bandwidth(threads) / 1e9,
        bandwidth_source="measured",
        peak=_gemm_peak() / 1e9,
        peak_source="measured",
        peak_precision="float32",
    )


def _bandwidth(threads: int) -> float:
    """Return the bytes a second that copies of large arrays read and write, at best."""
    size = _COPIED_BYTES // threads
    pairs = [(np.ones(size, np.uint8), np.zeros(size, np.uint8)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        seconds = _best(lambda: list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs)))
    return 2 * size * threads / seconds


def _gemm_peak() -> float:
    """Return the operations a second of float32 matrix products, at best."""
    left = np.random.default_rng(0).random((_GEMM_SIDE, _GEMM_SIDE), dtype=np.float32)
    out = np.empty_like(left)
    return 2 * _GEMM_SIDE**3 / _best(lambda: np.matmul(left, left, out=out))


def _best(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_PROBES):
        began = perf_counter()
        work()
        seconds.append(perf_counter() - began)
    return min(seconds)


def _processor() -> tuple[str, str]:
    """Return name, and family and model, of the first processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor(), ""
    said: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        said.setdefault(key.strip(), value.strip())
    numbers = [f"{word} {said[key]}" for word, key in (("family", "cpu family"), ("model", "model")) if key in said]
    return said.get("model name") or platform.processor(), ", ".join(numbers)


def _commit(file: Path) -> str | None:
    """Describe the checkout a file is part of; None if it is installed somewhere, be it inside another checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=file.parent, capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", file.name) is None:
        return None
    return git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
