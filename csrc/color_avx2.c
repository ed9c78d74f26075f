/* Rows with AVX2: a pixel at a time, its three outputs side by side. Gathers were slower than these loads. */
#include "color.h"

#ifdef IQA_X86
#include <immintrin.h>

__attribute__((target("avx2"))) void iqa_color_row_avx2(const iqa_color *color, uint8_t *pixels, ptrdiff_t count) {
    _Alignas(16) iqa_color_terms terms;
    iqa_color_set_terms(terms, color, 32768);
    const uint8_t *const encode = color->encode + 32768;
    const __m128i shift = _mm_cvtsi32_si128(color->shift);
    for (uint8_t *const end = pixels + 3 * count; pixels < end; pixels += 3) {
        const __m128i r = _mm_load_si128((const __m128i *)terms[0][pixels[0]]);
        const __m128i g = _mm_load_si128((const __m128i *)terms[1][pixels[1]]);
        const __m128i b = _mm_load_si128((const __m128i *)terms[2][pixels[2]]);
        const __m128i x = _mm_sra_epi32(_mm_add_epi32(_mm_add_epi32(r, g), b), shift);
        const int64_t held = _mm_cvtsi128_si64(_mm_packs_epi32(x, x));
        pixels[0] = encode[(int16_t)held];
        pixels[1] = encode[(int16_t)(held >> 16)];
        pixels[2] = encode[(int16_t)(held >> 32)];
    }
}
#else
typedef int iqa_no_color_avx2; /* ISO C wants a declaration in every file */
#endif
