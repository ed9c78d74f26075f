"""What a GPU can do: its bandwidth by copies within its memory, and the peak that NVIDIA publishes for its kind."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import Literal

from iqa_runtime.benchmark.host import Machine
from iqa_runtime.contract import Precision
from iqa_runtime.cuda import Cuda, Multiprocessors, open_cuda
from iqa_runtime.errors import DependencyError

NumberFormat = Literal["float32", "float16", "bfloat16", "int8"]

_COPIED_BYTES = 2**28
"""Twice the largest level-2 cache there is (126 MB, B200), so that copies go through memory."""
_COPIES = 8
"""Between two events, so that starting the first one counts for little."""
_ROUNDS = 5

_COMPUTED_IN: dict[Precision, NumberFormat] = {
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "int8": "int8",
    "int8-weights": "float32",
}
"""What the products of an artefact multiply; int8 weights alone are multiplied out first."""

_OPERATIONS: dict[tuple[int, int], dict[NumberFormat, int]] = {
    (7, 5): {"float32": 128, "float16": 1024, "int8": 2048},
    (8, 0): {"float32": 128, "float16": 2048, "bfloat16": 2048, "int8": 4096},
    (8, 6): {"float32": 256, "float16": 1024, "int8": 2048},
    (8, 7): {"float32": 256, "float16": 2048, "int8": 4096},
    (8, 9): {"float32": 256, "float16": 1024, "int8": 2048},
    (9, 0): {"float32": 256, "float16": 4096, "bfloat16": 4096, "int8": 8192},
    (10, 0): {"float32": 256, "float16": 8192, "bfloat16": 8192, "int8": 16384},
    (12, 0): {"float32": 256, "float16": 1024, "int8": 2048},
}
"""Dense operations a clock in each multiprocessor, by compute capability; a multiply-accumulate is two.

float32 is that of CUDA cores, 64 or 128 in a multiprocessor (CUDA programming guide, throughput of arithmetic
instructions). The others are tensor cores, float16 summed in float16. They are in, or follow from TFLOPS, clock and
multiprocessors in, NVIDIA's white papers on Turing (T4: 65 TFLOPS in float16, 130 TOPS in int8), GA100 (A100: 312 and
624), GA102 (A40: 149.7 and 299.3), Ada (RTX 4090: 330.3 and 660.6), Hopper (H100 SXM: 989.4 and 1978.9) and RTX
Blackwell (RTX 5090: 419 and 838); for 8.7 in the technical brief on Jetson AGX Orin (85 TOPS in int8, half the rate in
float16); for 10.0 in the benchmarks of NVIDIA's cudnn-frontend, with int8 at twice the rate of float16 as in the data
sheet of HGX B200.

bfloat16 is not there where boards of one compute capability differ (8.6, 8.9, 12.0: GeForce has half the rate of the
others), and where it is not published (8.7) or there is none (7.5).
"""

_TURING_WITH_TENSOR_CORES = re.compile(r"\b(RTX|T4|T4G|T10)\b")
"""In the names of GPUs; the others of compute capability 7.5, such as GTX 1660 and T1000, have none."""


def measure_gpu(device: str, precision: Precision) -> Machine:
    """Measure the bandwidth of a GPU's memory, and look up its peak; takes some milliseconds and half a gigabyte of it.

    Parameters
    ----------
    device
        ``cuda`` or ``cuda:N``.
    precision
        Of the artefact, whose number format the peak is of.

    Returns
    -------
    Machine
        With nothing known where no CUDA library for Python is, which backends other than TensorRT do without; without
        a peak where none is published.

    Raises
    ------
    UsageError
        If the text is no such device.
    BackendError
        If there is no such GPU, its memory is short, or CUDA fails.
    """
    try:
        cuda = open_cuda(device)
    except DependencyError:
        return Machine()
    number_format = _COMPUTED_IN[precision]
    with cuda.active():
        bandwidth = _copy_bandwidth(cuda) / 1e9
        peak = published_peak(cuda.device_name, cuda.multiprocessors(), number_format)
    return Machine(
        bandwidth=bandwidth,
        bandwidth_source="measured",
        peak=peak,
        peak_source=None if peak is None else "published",
        peak_precision=None if peak is None else number_format,
    )


def published_peak(gpu: str, multiprocessors: Multiprocessors, number_format: NumberFormat) -> float | None:
    """Return what the arithmetic units of a GPU do at most: operations a clock, multiprocessors and highest clock.

    Data sheets often reckon with a lower clock than the highest: 989 TFLOPS for an H100 SXM in float16 are at 1.83 GHz,
    at the 1.98 GHz it may reach they are 1071.

    Parameters
    ----------
    gpu
        As the driver calls it.
    multiprocessors
        How many, how fast, and of which compute capability.
    number_format
        Of the factors of the products.

    Returns
    -------
    float or None
        Dense products, in 10^9 operations a second; None where none is published, or the driver tells no clock.
    """
    capability = multiprocessors.compute_capability
    if capability == (7, 5) and number_format != "float32" and not _TURING_WITH_TENSOR_CORES.search(gpu):
        return None
    operations = _OPERATIONS.get(capability, {}).get(number_format)
    if operations is None or multiprocessors.clock_khz <= 0:
        return None
    return operations * multiprocessors.count * multiprocessors.clock_khz / 1e6


def _copy_bandwidth(cuda: Cuda) -> float:
    """Return the bytes a second that copies from one place in a GPU's memory to another read and write, at best."""
    with ExitStack() as freeing:
        stream = cuda.create_stream()
        freeing.callback(cuda.destroy_stream, stream)
        places, marks = [], []
        for _ in range(2):
            places.append(cuda.allocate(_COPIED_BYTES))
            freeing.callback(cuda.free, places[-1])
            marks.append(cuda.create_event())
            freeing.callback(cuda.destroy_event, marks[-1])
        times = []
        for _ in range(1 + _ROUNDS):
            cuda.record(marks[0], stream)
            for _ in range(_COPIES):
                cuda.copy_on_device(places[0], places[1], _COPIED_BYTES, stream)
            cuda.record(marks[1], stream)
            cuda.synchronize(stream)
            times.append(cuda.milliseconds(marks[0], marks[1]) / 1000)
    # The first round touches the memory and raises the clock.
    return 2 * _COPIED_BYTES * _COPIES / min(times[1:])
