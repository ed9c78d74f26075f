/* An 8-bit RGB picture at another size: weighted sums of pixels in fixed point, first along rows, then down columns.
 *
 * The weights are integers of IQA_WEIGHT_BITS fractional bits, made by the caller. A sum is rounded to the nearest level
 * and clipped after either pass. Sums are taken modulo 2^32, so that their order is of no matter and every instruction
 * set returns the same bits; no sum of weights that add up to 1 leaves the range of an int32_t.
 */
#ifndef IQA_RESIZE_H
#define IQA_RESIZE_H

#include "instruction_sets.h"

enum { IQA_WEIGHT_BITS = 22 };
enum { IQA_TAPS = 4 };        /* the weights of an output are padded with zeros to a multiple of so many */
enum { IQA_BUNDLE_ROWS = 4 }; /* rows that are worked on at once, so that weights are fetched once for all of them */

/* Along one side: output i is the sum of weights[i * taps + t] * input[first[i] + t] for t < count[i]. */
typedef struct {
    const int32_t *first, *count; /* (size,); first doesn't fall from one output to the next, nor does its sum with count */
    const int32_t *weights;       /* (size, taps) */
    ptrdiff_t size, taps;
} iqa_side;

/* Makes `rows` rows of columns->size pixels out of rows of `width` pixels. */
typedef void iqa_across(const iqa_side *columns, const uint8_t *const *in, ptrdiff_t rows, ptrdiff_t width,
                        uint8_t *const *out);

/* Adds weights[r] * in[r][i] of `rows` rows to sums[i], i < count. */
typedef void iqa_down(const int32_t *weights, const uint8_t *const *in, ptrdiff_t rows, ptrdiff_t count,
                      uint32_t *sums);

typedef struct iqa_resizing {
    iqa_across *across;
    iqa_down *down;
} iqa_resizing;

/* Writes (rows->size, columns->size, 3) contiguous bytes to out, which must not overlap the image. Either side may be
 * NULL: it stays as it is, and the image is exactly so wide or high as the output.
 * Returns 0, or -1 when there is no memory. */
int iqa_resize(const iqa_instruction_set *instruction_set, const iqa_image *image, const iqa_side *rows,
               const iqa_side *columns, uint8_t *out);

extern const iqa_resizing iqa_resizing_scalar;
#ifdef IQA_X86
extern const iqa_resizing iqa_resizing_avx2, iqa_resizing_avx512;
#endif

/* What of a bundle of rows from column `x` on, or from value `i` on, is left to the scalar kernel. */
static inline void iqa_across_rest(const iqa_side *columns, ptrdiff_t x, const uint8_t *const *in, ptrdiff_t rows,
                                   ptrdiff_t width, uint8_t *const *out) {
    const iqa_side rest = {columns->first + x, columns->count + x, columns->weights + x * columns->taps,
                           columns->size - x, columns->taps};
    uint8_t *behind[IQA_BUNDLE_ROWS];
    for (ptrdiff_t r = 0; r < rows; r++) behind[r] = out[r] + 3 * x;
    iqa_resizing_scalar.across(&rest, in, rows, width, behind);
}

static inline void iqa_down_rest(const int32_t *weights, const uint8_t *const *in, ptrdiff_t rows, ptrdiff_t i,
                                 ptrdiff_t count, uint32_t *sums) {
    const uint8_t *rest[IQA_BUNDLE_ROWS];
    for (ptrdiff_t r = 0; r < rows; r++) rest[r] = in[r] + i;
    iqa_resizing_scalar.down(weights, rest, rows, count - i, sums + i);
}

/* What all of them round a sum with, and what it begins with. */
enum { IQA_HALF = 1 << (IQA_WEIGHT_BITS - 1) };
static inline uint8_t iqa_level(uint32_t sum) {
    const int32_t level = (int32_t)sum >> IQA_WEIGHT_BITS;
    return (uint8_t)(level < 0 ? 0 : level > 255 ? 255 : level);
}

#ifdef IQA_X86
#include <emmintrin.h>
#include <string.h>

/* Three sums as three levels, out of the lanes 0 to 2. */
static inline void iqa_store_pixel(uint8_t *out, __m128i sums) {
    const __m128i levels = _mm_srai_epi32(_mm_add_epi32(sums, _mm_set1_epi32(IQA_HALF)), IQA_WEIGHT_BITS);
    const __m128i words = _mm_packs_epi32(levels, levels);
    const uint32_t pixel = (uint32_t)_mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    memcpy(out, &pixel, 2);
    out[2] = (uint8_t)(pixel >> 16);
}
#endif

#endif
