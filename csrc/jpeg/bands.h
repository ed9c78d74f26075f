/* Some rows of a JPEG file, decoded by libjpeg-turbo to the bits that decoding all of them gives. */
#ifndef IQA_JPEG_BANDS_H
#define IQA_JPEG_BANDS_H

#include <stddef.h>
#include <stdint.h>

/* Of chrominances at most two pixels wide, libjpeg-turbo 2.1.5 makes other rows after skipped ones. */
#define IQA_JPEG_LEAST_WIDTH 16

/* Decodes `count` bands of rows, bands[2 i] to bands[2 i + 1] - 1, which follow each other and have a row at least, into
 * `out`, one below the other, as RGB of 8 bits. All coded data is read to its end, that of the rows left out too.
 * Returns 1; 0 if libjpeg-turbo has anything to say against the file, its size is not height x width, it is narrower
 * than IQA_JPEG_LEAST_WIDTH, or it is gray with a sampling factor, which means nothing: libjpeg-turbo 2.1.5 counts rows
 * by it when it skips them. */
int iqa_jpeg_bands(const uint8_t *data, size_t size, ptrdiff_t height, ptrdiff_t width, const int64_t *bands,
                   ptrdiff_t count, uint8_t *out);

const char *iqa_jpeg_version(void);

#endif
