"""Some rows of a JPEG file. Arguments are checked by `iqa_runtime.images.jpeg`, which is the module to call."""

from libc.stdint cimport int64_t, uint8_t


cdef extern from "bands.h" nogil:
    bint iqa_jpeg_bands(const uint8_t *data, size_t size, Py_ssize_t height, Py_ssize_t width, const int64_t *bands,
                        Py_ssize_t count, uint8_t *out) noexcept
    const char *iqa_jpeg_version() noexcept


LIBJPEG_TURBO = iqa_jpeg_version().decode()


def decode_bands(const uint8_t[::1] data, Py_ssize_t height, const int64_t[:, ::1] bands, uint8_t[:, :, ::1] out):
    """Fill `out` (rows of all bands, width, 3); return whether libjpeg-turbo has nothing to say against the file."""
    cdef bint clean
    with nogil:
        clean = iqa_jpeg_bands(&data[0], data.shape[0], height, out.shape[1], &bands[0, 0], bands.shape[0],
                               &out[0, 0, 0])
    return clean
