/* Colours of 8-bit RGB pixels turned into sRGB, in place, in integers: every instruction set gives the same bits.
 *
 * For every pixel: u_c = linear[c][pixel_c]; x_o = (sum_c matrix[o][c] u_c + 2^(shift - 1)) >> shift, held to 0..65535;
 * the output is encode[x_o]. The magnitudes of a row of the matrix sum to at most 32767 - 2^(shift - 1), so that no sum
 * overflows, nor does one less 32768 * 2^shift.
 *
 * encode is made of 256 lines, whose tables fit into registers where the whole does not: with
 *   w = x < 8192 ? x << 2 : (x >> 1) | 0x8000,   i = w >> 8,   f = w & 255,
 *   encode[x] = level[i] + ((32 rest[i] + f slope[i] + 4096) >> 13). */
#ifndef IQA_COLOR_H
#define IQA_COLOR_H

#include "instruction_sets.h"

typedef struct iqa_color {
    const uint16_t *linear; /* (3, 256) */
    const int16_t *matrix;  /* (3, 3) */
    int shift;              /* 1 to 14 */
    const uint8_t *lines;   /* (3, 256): level; rest, which is signed; slope, at most 127 */
    const uint8_t *encode;  /* (65536,) */
} iqa_color;

/* Converts height rows of width pixels, row_stride bytes apart. */
void iqa_to_srgb(const iqa_instruction_set *instruction_set, const iqa_color *color, uint8_t *pixels, ptrdiff_t height,
                 ptrdiff_t width, ptrdiff_t row_stride);

/* The three terms of each output for each value of a channel, the fourth is 0: sums of them are shifted, and then are
 * x - 32768, which a saturating pack holds to its range. `offset` is what x is less in them. */
typedef int32_t iqa_color_terms[3][256][4];
void iqa_color_set_terms(iqa_color_terms terms, const iqa_color *color, int32_t offset);

iqa_color_row iqa_color_row_scalar;
#ifdef IQA_X86
iqa_color_row iqa_color_row_avx2, iqa_color_row_avx512;
#endif

#endif
