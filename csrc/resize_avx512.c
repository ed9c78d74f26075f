/* Resizing with AVX-512: four pixels, or sixteen values of a row, at a time. */
#include "resize.h"

#ifdef IQA_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw")))

TARGET static void across_avx512(const iqa_side *columns, const uint8_t *const *in, ptrdiff_t rows, ptrdiff_t width,
                               uint8_t *const *out) {
    /* Each lane of 128 bits takes a pixel: its bytes become integers, the fourth is zero. */
    const int none = (int)0x80808080u, byte = (int)0x80808000u;
    const __m512i select = _mm512_setr_epi32(byte, byte + 1, byte + 2, none, byte + 3, byte + 4, byte + 5, none, byte + 6,
                                             byte + 7, byte + 8, none, byte + 9, byte + 10, byte + 11, none);
    const __m512i of_pixel = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const uint8_t *bundle[IQA_BUNDLE_ROWS];
    for (ptrdiff_t r = 0; r < IQA_BUNDLE_ROWS; r++) bundle[r] = in[r < rows ? r : rows - 1];

    const int32_t *weights = columns->weights;
    ptrdiff_t x = 0;
    for (; x < columns->size; x++, weights += columns->taps) {
        const ptrdiff_t first = columns->first[x], count = columns->count[x];
        /* Four pixels are fetched as 16 bytes: what would reach beyond the row is left to the scalar kernel. */
        if (first + (count + IQA_TAPS - 1) / IQA_TAPS * IQA_TAPS + 2 > width) break;
        __m512i sums[IQA_BUNDLE_ROWS];
        for (int r = 0; r < IQA_BUNDLE_ROWS; r++) sums[r] = _mm512_setzero_si512();
        for (ptrdiff_t t = 0; t < count; t += IQA_TAPS) {
            const __m512i four = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(weights + t)));
            const __m512i spread = _mm512_permutexvar_epi32(of_pixel, four);
            for (int r = 0; r < IQA_BUNDLE_ROWS; r++) {
                const __m512i pixels =
                    _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(bundle[r] + 3 * (first + t))));
                sums[r] = _mm512_add_epi32(sums[r], _mm512_mullo_epi32(_mm512_shuffle_epi8(pixels, select), spread));
            }
        }
        for (ptrdiff_t r = 0; r < rows; r++) {
            const __m256i half =
                _mm256_add_epi32(_mm512_castsi512_si256(sums[r]), _mm512_extracti64x4_epi64(sums[r], 1));
            const __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
            iqa_store_pixel(out[r] + 3 * x, sum);
        }
    }
    iqa_across_rest(columns, x, in, rows, width, out);
}

TARGET static void down_avx512(const int32_t *weights, const uint8_t *const *in, ptrdiff_t rows, ptrdiff_t count,
                             uint32_t *sums) {
    ptrdiff_t i = 0;
    for (; i + 16 <= count; i += 16) {
        __m512i sum = _mm512_loadu_si512(sums + i);
        for (ptrdiff_t r = 0; r < rows; r++) {
            const __m512i values = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(in[r] + i)));
            sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(values, _mm512_set1_epi32(weights[r])));
        }
        _mm512_storeu_si512(sums + i, sum);
    }
    iqa_down_rest(weights, in, rows, i, count, sums);
}

const iqa_resizing iqa_resizing_avx512 = {across_avx512, down_avx512};
#else
typedef int iqa_no_avx512_resizing; /* ISO C wants a declaration in every file */
#endif
