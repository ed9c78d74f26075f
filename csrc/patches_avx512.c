/* Rows with AVX-512 F and BW: 16 pixels at a time. */
#include "patches.h"

#ifdef IQA_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw")))

typedef struct {
    __m512i spread;    /* brings 4 whole pixels, 12 bytes, to the start of every 16-byte lane */
    __m512i select[3]; /* byte shuffles that spread a channel of 4 pixels over the 4 integers of a lane */
    __m512 centre[3], scale[3], scale_low[3], bias[3];
} vectors;

TARGET static inline void load_vectors(vectors *v, const iqa_normalisation *n) {
    v->spread = _mm512_setr_epi32(0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9, 10, 11, 12);
    for (int c = 0; c < 3; c++) {
        v->select[c] = _mm512_add_epi32(
            _mm512_setr_epi32(0, 3, 6, 9, 0, 3, 6, 9, 0, 3, 6, 9, 0, 3, 6, 9),
            _mm512_set1_epi32((int)0x80808000u + c)); /* 0x80: a zero byte */
        v->centre[c] = _mm512_set1_ps(n->centre[c]);
        v->scale[c] = _mm512_set1_ps(n->scale[c]);
        v->scale_low[c] = _mm512_set1_ps(n->scale_low[c]);
        v->bias[c] = _mm512_set1_ps(n->bias[c]);
    }
}

TARGET static inline __m512i load_pixels(const vectors *v, const uint8_t *pixels) {
    const __m512i bytes = _mm512_maskz_loadu_epi32((__mmask16)0x0FFF, pixels); /* 48 bytes: 16 pixels */
    return _mm512_permutexvar_epi32(v->spread, bytes);
}

TARGET static inline __m512 normalise(const vectors *v, int c, __m512i pixels) {
    const __m512 value = _mm512_cvtepi32_ps(_mm512_shuffle_epi8(pixels, v->select[c]));
    const __m512 d = _mm512_sub_ps(value, v->centre[c]);
    return _mm512_fmadd_ps(d, v->scale[c], _mm512_fmadd_ps(d, v->scale_low[c], v->bias[c]));
}

TARGET void iqa_row_avx512_f32(const iqa_normalisation *n, const uint8_t *pixels, ptrdiff_t width,
                               void *const planes[3]) {
    float *const out[3] = {planes[0], planes[1], planes[2]};
    vectors v;
    load_vectors(&v, n);
    ptrdiff_t x = 0;
    for (; x + 16 <= width; x += 16) {
        const __m512i block = load_pixels(&v, pixels + 3 * x);
        for (int c = 0; c < 3; c++) _mm512_storeu_ps(out[c] + x, normalise(&v, c, block));
    }
    void *const rest[3] = {out[0] + x, out[1] + x, out[2] + x};
    iqa_row_scalar_f32(n, pixels + 3 * x, width - x, rest);
}

TARGET void iqa_row_avx512_f16(const iqa_normalisation *n, const uint8_t *pixels, ptrdiff_t width,
                               void *const planes[3]) {
    uint16_t *const out[3] = {planes[0], planes[1], planes[2]};
    vectors v;
    load_vectors(&v, n);
    ptrdiff_t x = 0;
    for (; x + 16 <= width; x += 16) {
        const __m512i block = load_pixels(&v, pixels + 3 * x);
        for (int c = 0; c < 3; c++) {
            const __m256i halves = _mm512_cvtps_ph(normalise(&v, c, block), _MM_FROUND_TO_NEAREST_INT);
            _mm256_storeu_si256((__m256i *)(out[c] + x), halves);
        }
    }
    void *const rest[3] = {out[0] + x, out[1] + x, out[2] + x};
    iqa_row_scalar_f16(n, pixels + 3 * x, width - x, rest);
}
#else
typedef int iqa_no_avx512; /* ISO C wants a declaration in every file */
#endif
