"""The compiled kernels. Arguments are checked by `iqa_runtime.kernels`, which is the module to call."""

from libc.math cimport cos, sin
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t

import numpy as np


cdef extern from "instruction_sets.h" nogil:
    ctypedef struct iqa_instruction_set:
        const char *name
        bint (*supported)() noexcept

    ctypedef struct iqa_image:
        const uint8_t *pixels
        Py_ssize_t height, width, row_stride

    const iqa_instruction_set *const *iqa_instruction_sets


cdef extern from "patches.h" nogil:
    enum:
        IQA_FLOAT32
        IQA_FLOAT16
        IQA_MAX_THREADS

    ctypedef struct iqa_crops:
        const int64_t *positions
        Py_ssize_t count, height, width

    ctypedef struct iqa_output:
        const void *table
        double mean[3]
        double std[3]
        bint swap_channels
        int dtype

    int iqa_extract(const iqa_instruction_set *instruction_set, const iqa_image *image, const iqa_crops *crops,
                    const iqa_output *output, void *out, Py_ssize_t threads) noexcept

    bint iqa_formula_is_exact(const iqa_instruction_set *instruction_set, const iqa_output *output) noexcept


cdef extern from "resize.h" nogil:
    enum:
        IQA_WEIGHT_BITS
        IQA_TAPS

    ctypedef struct iqa_side:
        const int32_t *first
        const int32_t *count
        const int32_t *weights
        Py_ssize_t size, taps

    int iqa_resize(const iqa_instruction_set *instruction_set, const iqa_image *image, const iqa_side *rows,
                   const iqa_side *columns, uint8_t *out) noexcept


cdef extern from "color.h" nogil:
    ctypedef struct iqa_color:
        const uint16_t *linear
        const int16_t *matrix
        int shift
        const uint8_t *lines
        const uint8_t *encode

    void iqa_to_srgb(const iqa_instruction_set *instruction_set, const iqa_color *color, uint8_t *pixels,
                     Py_ssize_t height, Py_ssize_t width, Py_ssize_t row_stride) noexcept


MAX_THREADS = IQA_MAX_THREADS
WEIGHT_BITS = IQA_WEIGHT_BITS
TAPS = IQA_TAPS


cdef const iqa_instruction_set *find(str name) except NULL:
    cdef Py_ssize_t i = 0
    while iqa_instruction_sets[i] is not NULL:
        if iqa_instruction_sets[i].name == name.encode() and iqa_instruction_sets[i].supported():
            return iqa_instruction_sets[i]
        i += 1
    raise LookupError(name)


def instruction_sets():
    """Return the names of the instruction sets that this processor has, best first."""
    cdef list names = []
    cdef Py_ssize_t i = 0
    while iqa_instruction_sets[i] is not NULL:
        if iqa_instruction_sets[i].supported():
            names.append(iqa_instruction_sets[i].name.decode())
        i += 1
    return tuple(names)


cdef iqa_output describe(table, tuple mean, tuple std, bint swap_channels) except *:
    cdef iqa_output output
    cdef int c
    cdef const float[:, ::1] floats
    cdef const uint16_t[:, ::1] halves
    if table.dtype == np.float16:
        halves = table.view(np.uint16)
        output.table = &halves[0, 0]
        output.dtype = IQA_FLOAT16
    else:
        floats = table
        output.table = &floats[0, 0]
        output.dtype = IQA_FLOAT32
    for c in range(3):
        output.mean[c] = mean[c]
        output.std[c] = std[c]
    output.swap_channels = swap_channels
    return output


def extract_patches(
    const uint8_t[:, :, :] image,
    const int64_t[:, ::1] positions,
    table,
    tuple mean,
    tuple std,
    bint swap_channels,
    out,
    Py_ssize_t threads,
    str instruction_set,
):
    """Fill `out` (N, 3, h, w) with the crops of `image`; see `iqa_runtime.kernels.extract_patches`."""
    cdef const iqa_instruction_set *chosen = find(instruction_set)
    cdef iqa_output output = describe(table, mean, std, swap_channels)
    cdef uint8_t[::1] target = out.reshape(-1).view(np.uint8)
    cdef iqa_image source
    cdef iqa_crops crops
    cdef int failed

    if target.shape[0] == 0:
        return
    source.pixels = &image[0, 0, 0]
    source.height = image.shape[0]
    source.width = image.shape[1]
    source.row_stride = image.strides[0]
    crops.positions = &positions[0, 0]
    crops.count = positions.shape[0]
    crops.height = out.shape[2]
    crops.width = out.shape[3]
    with nogil:
        failed = iqa_extract(chosen, &source, &crops, &output, &target[0], threads)
    if failed:
        raise MemoryError("no memory for the scratch rows of the kernels")


def formula_is_exact(table, tuple mean, tuple std, bint swap_channels, str instruction_set):
    """Return whether SIMD arithmetic reproduces `table`, so that its values needn't be looked up one by one."""
    cdef iqa_output output = describe(table, mean, std, swap_channels)
    return iqa_formula_is_exact(find(instruction_set), &output)


cdef iqa_side describe_side(arrays) except *:
    cdef const int32_t[::1] first = arrays[0]
    cdef const int32_t[::1] count = arrays[1]
    cdef const int32_t[:, ::1] weights = arrays[2]
    cdef iqa_side side
    side.first = &first[0]
    side.count = &count[0]
    side.weights = &weights[0, 0]
    side.size = weights.shape[0]
    side.taps = weights.shape[1]
    return side


def resize(const uint8_t[:, :, :] image, rows, columns, uint8_t[:, :, ::1] out, str instruction_set):
    """Fill `out` (h, w, 3); `rows` and `columns` are (first, count, weights), or None for a side that stays."""
    cdef const iqa_instruction_set *chosen = find(instruction_set)
    cdef iqa_image source
    cdef iqa_side down, across
    cdef const iqa_side *down_or_none = NULL
    cdef const iqa_side *across_or_none = NULL
    cdef int failed

    source.pixels = &image[0, 0, 0]
    source.height = image.shape[0]
    source.width = image.shape[1]
    source.row_stride = image.strides[0]
    if rows is not None:
        down = describe_side(rows)
        down_or_none = &down
    if columns is not None:
        across = describe_side(columns)
        across_or_none = &across
    with nogil:
        failed = iqa_resize(chosen, &source, down_or_none, across_or_none, &out[0, 0, 0])
    if failed:
        raise MemoryError("no memory for the rows of a resized picture")


def to_srgb(
    uint8_t[:, :, :] image,
    const uint16_t[:, ::1] linear,
    const int16_t[:, ::1] matrix,
    int shift,
    const uint8_t[:, ::1] lines,
    const uint8_t[::1] encode,
    str instruction_set,
):
    """Convert `image` in place; see `iqa_runtime.kernels.color.to_srgb`."""
    cdef const iqa_instruction_set *chosen = find(instruction_set)
    cdef iqa_color color

    color.linear = &linear[0, 0]
    color.matrix = &matrix[0, 0]
    color.shift = shift
    color.lines = &lines[0, 0]
    color.encode = &encode[0]
    with nogil:
        iqa_to_srgb(chosen, &color, &image[0, 0, 0], image.shape[0], image.shape[1], image.strides[0])


def sines(const double[::1] x, double[::1] out):
    """Fill `out` with the C library's sines, which ``math.sin`` gives one by one."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(x.shape[0]):
            out[i] = sin(x[i])


def cosines(const double[::1] x, double[::1] out):
    """Fill `out` with the C library's cosines."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(x.shape[0]):
            out[i] = cos(x[i])
