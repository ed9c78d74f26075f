"""CUDA behind one small protocol, so that the code that uses it knows neither library and runs with a stand-in.

The default is NVIDIA's ``cuda.bindings``. PyCUDA serves programs that live in a PyCUDA context: see `open_cuda`.
"""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from typing import Literal

from iqa_runtime.cuda.protocol import Cuda, Gpu, Multiprocessors
from iqa_runtime.errors import DependencyError, UsageError

__all__ = ["Cuda", "Gpu", "Multiprocessors", "describe_gpu", "device_index", "open_cuda"]


def device_index(device: str) -> int:
    """Return the number of a device given as ``cuda`` or ``cuda:N``; raises `UsageError` for anything else."""
    match = re.fullmatch(r"cuda(?::([0-9]{1,3}))?", device)
    if match is None:
        raise UsageError(f"``device={device}``: this runs on cuda or cuda:N")
    return int(match[1] or 0)


def open_cuda(device: str) -> Cuda:
    """Open a GPU.

    A program in a PyCUDA context stays in it: where ``pycuda.driver`` has been imported and a context is current in the
    calling thread, that context is used. Else it is ``cuda.bindings``, or PyCUDA with the device's primary context
    where only that is installed.

    Parameters
    ----------
    device
        ``cuda`` or ``cuda:N``.

    Raises
    ------
    UsageError
        If the text is no such device, or the host program's PyCUDA context is on another one.
    BackendError
        If there is no such GPU, or no driver.
    DependencyError
        If neither library is installed, or the one there is broken.
    """
    index = device_index(device)
    if _library() == "pycuda":
        from iqa_runtime.cuda.pycuda import PyCuda, host_context

        return PyCuda(index, host_context())
    from iqa_runtime.cuda.cuda_bindings import CudaBindings

    return CudaBindings(index)


def describe_gpu(index: int) -> Gpu | None:
    """Describe a GPU through the library that `open_cuda` would open it with, without opening it.

    Parameters
    ----------
    index
        Number of the device, as CUDA counts.

    Returns
    -------
    Gpu or None
        None if there is no such GPU, or no driver.

    Raises
    ------
    BackendError
        If the GPU is there and cannot be described.
    DependencyError
        If neither library is installed, or the one there is broken.
    """
    if _library() == "pycuda":
        from iqa_runtime.cuda import pycuda

        return pycuda.describe_gpu(index)
    from iqa_runtime.cuda import cuda_bindings

    return cuda_bindings.describe_gpu(index)


def _library() -> Literal["cuda.bindings", "pycuda"]:
    """Return the library that serves the calling thread."""
    if "pycuda.driver" in sys.modules:
        from iqa_runtime.cuda.pycuda import host_context

        if host_context() is not None:
            return "pycuda"
    if _is_installed("cuda.bindings"):
        return "cuda.bindings"
    if _is_installed("pycuda"):
        return "pycuda"
    raise DependencyError('no CUDA library for Python is installed; pip install "iqa-deploy[tensorrt]"')


def _is_installed(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except ModuleNotFoundError:  # of a dotted name, the package in front
        return False
    except ValueError:  # imported, and by something that gave it no spec
        return True
