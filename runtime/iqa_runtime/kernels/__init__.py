"""What is done to pixels, in C and in NumPy.

The compiled kernels run with the best instruction set of the processor; without them their NumPy twins
(``<kernel>_numpy``), which define what is computed, do the same work more slowly. All of them give the same bits. The
environment variable ``IQA_KERNELS`` picks one by name (``avx512``, ``avx2``, ``neon``, ``scalar``, ``numpy``), for
tests and measurements.
"""

from iqa_runtime.kernels.arrays import aligned_empty
from iqa_runtime.kernels.color import ColorTables, color_tables, to_srgb
from iqa_runtime.kernels.patches import MAX_POSITION, MAX_SIDE, MAX_THREADS, extract_patches
from iqa_runtime.kernels.resizing import MAX_RESIZED_SIDE, resize
from iqa_runtime.kernels.selection import instruction_set

__all__ = [
    "MAX_POSITION",
    "MAX_RESIZED_SIDE",
    "MAX_SIDE",
    "MAX_THREADS",
    "ColorTables",
    "aligned_empty",
    "color_tables",
    "extract_patches",
    "instruction_set",
    "resize",
    "to_srgb",
]
