/* Crops of an 8-bit image as normalised float planes, in one pass.
 *
 * For every crop, channel, row and column: out = (pixel / 255 - mean) / std, rounded once from double precision.
 * A channel of a pixel has 256 values, so a table of 3 x 256 outputs defines the result completely. The caller makes it
 * in double precision; every instruction set returns exactly its bits:
 *   - the scalar rows look each value up;
 *   - the SIMD rows evaluate a formula in float32 (see iqa_normalisation), which is tried on all 256 values before it
 *     is used. Should one bit differ, as it may for odd means and standard deviations, the rows are looked up instead.
 */
#ifndef IQA_PATCHES_H
#define IQA_PATCHES_H

#include "instruction_sets.h"

enum { IQA_FLOAT32 = 0, IQA_FLOAT16 = 1 };
enum { IQA_MAX_THREADS = 64 };

/* Everything is in the channel order of the image.
 *
 * With d = pixel - centre, the formula is fma(d, scale, fma(d, scale_low, bias)). centre is 255 mean, cut to so few
 * bits that d is exact; scale + scale_low is 1 / (255 std) to 48 bits; bias is what the cut lost. So the outer fma
 * rounds a value that is right to about 2^-48, once, even where pixel / 255 and mean nearly cancel. */
typedef struct iqa_normalisation {
    const void *table[3]; /* 256 outputs of each channel: float, or the bits of a half as uint16_t */
    float centre[3], scale[3], scale_low[3], bias[3];
} iqa_normalisation;

typedef struct {
    const int64_t *positions; /* (count, 2): top, left; any value, outside the image by reflection */
    ptrdiff_t count, height, width;
} iqa_crops;

typedef struct {
    const void *table; /* (3, 256) float or half outputs, in the channel order of the output, as mean and std */
    double mean[3], std[3];
    int swap_channels; /* the output's channels are the image's reversed */
    int dtype;         /* IQA_FLOAT32 or IQA_FLOAT16 */
} iqa_output;

/* Writes (count, 3, height, width) contiguous values to out, which must not overlap the image.
 *
 * Outside the image, rows and columns are reflected about the edge pixel, which is not repeated, as often as needed.
 * The rows are split over `threads` threads, at most IQA_MAX_THREADS, where there are POSIX threads; the bits don't
 * depend on it.
 * Returns 0, or -1 when there is no memory. */
int iqa_extract(const iqa_instruction_set *instruction_set, const iqa_image *image, const iqa_crops *crops,
                const iqa_output *output, void *out, ptrdiff_t threads);

/* Whether the formula reproduces the table with this instruction set, so that rows needn't be looked up. */
int iqa_formula_is_exact(const iqa_instruction_set *instruction_set, const iqa_output *output);

/* The rows of each instruction set; the SIMD ones leave what is left of a full vector to the scalar one. */
iqa_row iqa_row_scalar_f32, iqa_row_scalar_f16;
#ifdef IQA_X86
iqa_row iqa_row_avx2_f32, iqa_row_avx2_f16;
iqa_row iqa_row_avx512_f32, iqa_row_avx512_f16;
#endif
#ifdef IQA_NEON
iqa_row iqa_row_neon_f32, iqa_row_neon_f16;
#endif

#endif
