/* The rows of an image go by once: each is resized across, then added to the output rows that it is part of. So memory
 * is that of a few rows, however high the image. */
#include "resize.h"

#include <stdlib.h>
#include <string.h>

static void across_scalar(const iqa_side *columns, const uint8_t *const *in, ptrdiff_t rows, ptrdiff_t width,
                          uint8_t *const *out) {
    (void)width;
    for (ptrdiff_t r = 0; r < rows; r++) {
        const int32_t *weights = columns->weights;
        for (ptrdiff_t x = 0; x < columns->size; x++, weights += columns->taps) {
            const uint8_t *pixel = in[r] + 3 * (ptrdiff_t)columns->first[x];
            uint32_t sums[3] = {IQA_HALF, IQA_HALF, IQA_HALF};
            for (int32_t t = 0; t < columns->count[x]; t++, pixel += 3)
                for (int c = 0; c < 3; c++) sums[c] += (uint32_t)weights[t] * pixel[c];
            for (int c = 0; c < 3; c++) out[r][3 * x + c] = iqa_level(sums[c]);
        }
    }
}

static void down_scalar(const int32_t *weights, const uint8_t *const *in, ptrdiff_t rows, ptrdiff_t count,
                        uint32_t *sums) {
    for (ptrdiff_t r = 0; r < rows; r++) {
        const uint32_t weight = (uint32_t)weights[r];
        const uint8_t *const row = in[r];
        for (ptrdiff_t i = 0; i < count; i++) sums[i] += weight * row[i];
    }
}

const iqa_resizing iqa_resizing_scalar = {across_scalar, down_scalar};

/* The most outputs that one bundle of rows is part of. */
static ptrdiff_t most_open(const iqa_side *rows) {
    ptrdiff_t most = 1, oldest = 0;
    for (ptrdiff_t y = 0; y < rows->size; y++) {
        while (rows->first[oldest] + rows->count[oldest] + IQA_BUNDLE_ROWS <= rows->first[y]) oldest++;
        if (y - oldest + 1 > most) most = y - oldest + 1;
    }
    return most;
}

static void finish(const uint32_t *sums, ptrdiff_t count, uint8_t *out) {
    for (ptrdiff_t i = 0; i < count; i++) out[i] = iqa_level(sums[i]);
}

int iqa_resize(const iqa_instruction_set *instruction_set, const iqa_image *image, const iqa_side *rows,
               const iqa_side *columns, uint8_t *out) {
    const iqa_resizing *const resizing = instruction_set->resizing;
    const ptrdiff_t width = columns ? columns->size : image->width, values = 3 * width;
    const ptrdiff_t open = rows ? most_open(rows) : 0;
    const ptrdiff_t begin = rows ? rows->first[0] : 0;
    const ptrdiff_t end = rows ? (ptrdiff_t)rows->first[rows->size - 1] + rows->count[rows->size - 1] : image->height;

    uint8_t *const resized = malloc((size_t)(IQA_BUNDLE_ROWS * values));
    uint32_t *const sums = malloc((size_t)(open ? open * values : 1) * sizeof *sums);
    if (!resized || !sums) {
        free(sums);
        free(resized);
        return -1;
    }
    ptrdiff_t oldest = 0, next = 0; /* outputs oldest..next-1 are begun and not finished */
    for (ptrdiff_t y = begin; y < end; y += IQA_BUNDLE_ROWS) {
        const ptrdiff_t bundle = end - y < IQA_BUNDLE_ROWS ? end - y : IQA_BUNDLE_ROWS;
        const uint8_t *in[IQA_BUNDLE_ROWS];
        uint8_t *across[IQA_BUNDLE_ROWS];
        for (ptrdiff_t r = 0; r < bundle; r++) {
            in[r] = image->pixels + (y + r) * image->row_stride;
            across[r] = rows ? resized + r * values : out + (y + r) * values;
        }
        if (columns) {
            resizing->across(columns, in, bundle, image->width, across);
            for (ptrdiff_t r = 0; r < bundle; r++) in[r] = across[r];
        } else if (!rows) {
            for (ptrdiff_t r = 0; r < bundle; r++) memcpy(across[r], in[r], (size_t)values);
        }
        if (!rows) continue;
        while (next < rows->size && rows->first[next] < y + bundle) {
            uint32_t *const sum = sums + next++ % open * values;
            for (ptrdiff_t i = 0; i < values; i++) sum[i] = IQA_HALF;
        }
        for (ptrdiff_t output = oldest; output < next; output++) {
            const ptrdiff_t first = rows->first[output], last = first + rows->count[output];
            const ptrdiff_t from = first > y ? first - y : 0, to = last < y + bundle ? last - y : bundle;
            if (from < to)
                resizing->down(rows->weights + output * rows->taps + (y + from - first), in + from, to - from, values,
                               sums + output % open * values);
        }
        for (; oldest < next && rows->first[oldest] + rows->count[oldest] <= y + bundle; oldest++)
            finish(sums + oldest % open * values, values, out + oldest * values);
    }
    free(sums);
    free(resized);
    return 0;
}
