/* Resizing with AVX2: two pixels, or eight values of a row, at a time. */
#include "resize.h"

#ifdef IQA_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))

TARGET static void across_avx2(const iqa_side *columns, const uint8_t *const *in, ptrdiff_t rows, ptrdiff_t width,
                               uint8_t *const *out) {
    /* Each lane of 128 bits takes a pixel: its bytes become integers, the fourth is zero. */
    const int none = (int)0x80808080u, byte = (int)0x80808000u;
    const __m256i select01 = _mm256_setr_epi32(byte, byte + 1, byte + 2, none, byte + 3, byte + 4, byte + 5, none);
    const __m256i select23 = _mm256_add_epi8(select01, _mm256_set1_epi32(6));
    const __m256i weight01 = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    const __m256i weight23 = _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3);
    const uint8_t *bundle[IQA_BUNDLE_ROWS];
    for (ptrdiff_t r = 0; r < IQA_BUNDLE_ROWS; r++) bundle[r] = in[r < rows ? r : rows - 1];

    const int32_t *weights = columns->weights;
    ptrdiff_t x = 0;
    for (; x < columns->size; x++, weights += columns->taps) {
        const ptrdiff_t first = columns->first[x], count = columns->count[x];
        /* Four pixels are fetched as 16 bytes: what would reach beyond the row is left to the scalar kernel. */
        if (first + (count + IQA_TAPS - 1) / IQA_TAPS * IQA_TAPS + 2 > width) break;
        __m256i sums[IQA_BUNDLE_ROWS];
        for (int r = 0; r < IQA_BUNDLE_ROWS; r++) sums[r] = _mm256_setzero_si256();
        for (ptrdiff_t t = 0; t < count; t += IQA_TAPS) {
            const __m256i four = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(weights + t)));
            const __m256i k01 = _mm256_permutevar8x32_epi32(four, weight01);
            const __m256i k23 = _mm256_permutevar8x32_epi32(four, weight23);
            for (int r = 0; r < IQA_BUNDLE_ROWS; r++) {
                const __m256i pixels = _mm256_broadcastsi128_si256(
                    _mm_loadu_si128((const __m128i *)(bundle[r] + 3 * (first + t))));
                const __m256i p01 = _mm256_mullo_epi32(_mm256_shuffle_epi8(pixels, select01), k01);
                const __m256i p23 = _mm256_mullo_epi32(_mm256_shuffle_epi8(pixels, select23), k23);
                sums[r] = _mm256_add_epi32(sums[r], _mm256_add_epi32(p01, p23));
            }
        }
        for (ptrdiff_t r = 0; r < rows; r++) {
            const __m128i sum =
                _mm_add_epi32(_mm256_castsi256_si128(sums[r]), _mm256_extracti128_si256(sums[r], 1));
            iqa_store_pixel(out[r] + 3 * x, sum);
        }
    }
    iqa_across_rest(columns, x, in, rows, width, out);
}

TARGET static void down_avx2(const int32_t *weights, const uint8_t *const *in, ptrdiff_t rows, ptrdiff_t count,
                             uint32_t *sums) {
    ptrdiff_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m256i sum = _mm256_loadu_si256((const __m256i *)(sums + i));
        for (ptrdiff_t r = 0; r < rows; r++) {
            const __m256i values = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(in[r] + i)));
            sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(values, _mm256_set1_epi32(weights[r])));
        }
        _mm256_storeu_si256((__m256i *)(sums + i), sum);
    }
    iqa_down_rest(weights, in, rows, i, count, sums);
}

const iqa_resizing iqa_resizing_avx2 = {across_avx2, down_avx2};
#else
typedef int iqa_no_avx2_resizing; /* ISO C wants a declaration in every file */
#endif
