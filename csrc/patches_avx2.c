/* Rows with AVX2, FMA and F16C: 8 pixels at a time. */
#include "patches.h"

#ifdef IQA_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,f16c")))

typedef struct {
    __m256i select[3]; /* byte shuffles that spread a channel of 4 pixels over the 4 integers of a lane */
    __m256 centre[3], scale[3], scale_low[3], bias[3];
} vectors;

TARGET static inline void load_vectors(vectors *v, const iqa_normalisation *n) {
    for (int c = 0; c < 3; c++) {
        /* The upper lane holds bytes 8..23 of the 24, so its first pixel starts at byte 4. */
        v->select[c] = _mm256_add_epi32(
            _mm256_setr_epi32(0, 3, 6, 9, 4, 7, 10, 13),
            _mm256_set1_epi32((int)0x80808000u + c)); /* 0x80: a zero byte */
        v->centre[c] = _mm256_set1_ps(n->centre[c]);
        v->scale[c] = _mm256_set1_ps(n->scale[c]);
        v->scale_low[c] = _mm256_set1_ps(n->scale_low[c]);
        v->bias[c] = _mm256_set1_ps(n->bias[c]);
    }
}

TARGET static inline __m256i load_pixels(const uint8_t *pixels) {
    const __m128i low = _mm_loadu_si128((const __m128i *)pixels);
    const __m128i high = _mm_loadu_si128((const __m128i *)(pixels + 8));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

TARGET static inline __m256 normalise(const vectors *v, int c, __m256i pixels) {
    const __m256 value = _mm256_cvtepi32_ps(_mm256_shuffle_epi8(pixels, v->select[c]));
    const __m256 d = _mm256_sub_ps(value, v->centre[c]);
    return _mm256_fmadd_ps(d, v->scale[c], _mm256_fmadd_ps(d, v->scale_low[c], v->bias[c]));
}

TARGET void iqa_row_avx2_f32(const iqa_normalisation *n, const uint8_t *pixels, ptrdiff_t width,
                             void *const planes[3]) {
    float *const out[3] = {planes[0], planes[1], planes[2]};
    vectors v;
    load_vectors(&v, n);
    ptrdiff_t x = 0;
    for (; x + 8 <= width; x += 8) {
        const __m256i block = load_pixels(pixels + 3 * x);
        for (int c = 0; c < 3; c++) _mm256_storeu_ps(out[c] + x, normalise(&v, c, block));
    }
    void *const rest[3] = {out[0] + x, out[1] + x, out[2] + x};
    iqa_row_scalar_f32(n, pixels + 3 * x, width - x, rest);
}

TARGET void iqa_row_avx2_f16(const iqa_normalisation *n, const uint8_t *pixels, ptrdiff_t width,
                             void *const planes[3]) {
    uint16_t *const out[3] = {planes[0], planes[1], planes[2]};
    vectors v;
    load_vectors(&v, n);
    ptrdiff_t x = 0;
    for (; x + 8 <= width; x += 8) {
        const __m256i block = load_pixels(pixels + 3 * x);
        for (int c = 0; c < 3; c++) {
            const __m128i halves = _mm256_cvtps_ph(normalise(&v, c, block), _MM_FROUND_TO_NEAREST_INT);
            _mm_storeu_si128((__m128i *)(out[c] + x), halves);
        }
    }
    void *const rest[3] = {out[0] + x, out[1] + x, out[2] + x};
    iqa_row_scalar_f16(n, pixels + 3 * x, width - x, rest);
}
#else
typedef int iqa_no_avx2; /* ISO C wants a declaration in every file */
#endif
