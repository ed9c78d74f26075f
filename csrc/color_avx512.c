/* Rows with AVX-512 (F, BW, VBMI, VNNI): 64 pixels at a time. All tables are permuted out of registers: none is
 * gathered from memory, which is slow everywhere and slower still since processors guard against reading stale data. */
#include "color.h"

#ifdef IQA_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vbmi,avx512vnni")))

typedef struct {
    __m512i quarter[4];
} table;

/* 192 bytes of one order out of those of the other: out of the first two vectors, and where `last`, out of the third. */
typedef struct {
    __m512i two[3], third[3];
    __mmask64 last[3];
} order;

typedef struct {
    table low[3], high[3]; /* bytes of linear - 32768 */
    table level, rest, slope;
    __m512i red_green[3], blue[3], constant[3]; /* of each output */
    __m128i shift;
    order split, join;
} vectors;

TARGET static table load_table(const uint8_t *bytes) {
    table t;
    for (int i = 0; i < 4; i++) t.quarter[i] = _mm512_loadu_si512(bytes + 64 * i);
    return t;
}

/* `upper` are the indices of at least 128. */
TARGET static inline __m512i look_up(const table *t, __m512i index, __mmask64 upper) {
    const __m512i lower_half = _mm512_permutex2var_epi8(t->quarter[0], index, t->quarter[1]);
    const __m512i upper_half = _mm512_permutex2var_epi8(t->quarter[2], index, t->quarter[3]);
    return _mm512_mask_mov_epi8(lower_half, upper, upper_half);
}

/* `places` tells for each of 192 bytes which of 192 it is. */
TARGET static order load_order(const uint8_t places[192]) {
    order o;
    for (int i = 0; i < 3; i++) {
        const __m512i place = _mm512_loadu_si512(places + 64 * i);
        o.two[i] = o.third[i] = place; /* only the low bits count */
        o.last[i] = _mm512_movepi8_mask(place);
    }
    return o;
}

TARGET static inline __m512i reordered(const order *o, int i, const __m512i from[3]) {
    const __m512i two = _mm512_permutex2var_epi8(from[0], o->two[i], from[1]);
    return _mm512_mask_permutexvar_epi8(two, o->last[i], o->third[i], from[2]);
}

TARGET static void load_vectors(vectors *v, const iqa_color *color) {
    uint8_t low[3][256], high[3][256], split[192], join[192];
    for (int c = 0; c < 3; c++) {
        for (int i = 0; i < 256; i++) {
            const uint16_t value = (uint16_t)(color->linear[256 * c + i] - 32768);
            low[c][i] = (uint8_t)value;
            high[c][i] = (uint8_t)(value >> 8);
        }
        v->low[c] = load_table(low[c]);
        v->high[c] = load_table(high[c]);
        const int16_t *const row = color->matrix + 3 * c;
        v->red_green[c] = _mm512_set1_epi32((int32_t)((uint32_t)(uint16_t)row[0] | (uint32_t)(uint16_t)row[1] << 16));
        v->blue[c] = _mm512_set1_epi32((uint16_t)row[2]);
        v->constant[c] = _mm512_set1_epi32((row[0] + row[1] + row[2]) * 32768 + (1 << (color->shift - 1)));
    }
    v->level = load_table(color->lines);
    v->rest = load_table(color->lines + 256);
    v->slope = load_table(color->lines + 512);
    v->shift = _mm_cvtsi32_si128(color->shift);
    for (int i = 0; i < 192; i++) {
        split[i] = (uint8_t)(3 * (i % 64) + i / 64);
        join[i] = (uint8_t)(64 * (i % 3) + i / 3);
    }
    v->split = load_order(split);
    v->join = load_order(join);
}

/* encode[x] of 64 numbers, given and returned in the order of unpacked bytes. */
TARGET static inline __m512i encode(const vectors *v, __m512i x0, __m512i x1) {
    const __m512i fine = _mm512_set1_epi16(8192), coarse = _mm512_set1_epi16((short)0x8000);
    const __m512i low_byte = _mm512_set1_epi16(0xFF), factor = _mm512_set1_epi16(32 << 8), half = _mm512_set1_epi16(4096);
    __m512i w[2] = {x0, x1};
    for (int i = 0; i < 2; i++) {
        const __mmask32 is_fine = _mm512_cmplt_epu16_mask(w[i], fine);
        w[i] = _mm512_mask_slli_epi16(_mm512_or_si512(_mm512_srli_epi16(w[i], 1), coarse), is_fine, w[i], 2);
    }
    const __m512i index = _mm512_packus_epi16(_mm512_srli_epi16(w[0], 8), _mm512_srli_epi16(w[1], 8));
    const __mmask64 upper = _mm512_movepi8_mask(index);
    const __m512i rest = look_up(&v->rest, index, upper), slope = look_up(&v->slope, index, upper);
    const __m512i pairs[2] = {_mm512_unpacklo_epi8(slope, rest), _mm512_unpackhi_epi8(slope, rest)};
    for (int i = 0; i < 2; i++) {
        const __m512i factors = _mm512_ternarylogic_epi32(w[i], low_byte, factor, 0xEA); /* (w & low_byte) | factor */
        const __m512i sum = _mm512_add_epi16(_mm512_maddubs_epi16(factors, pairs[i]), half);
        w[i] = _mm512_srli_epi16(sum, 13);
    }
    return _mm512_add_epi8(look_up(&v->level, index, upper), _mm512_packus_epi16(w[0], w[1]));
}

TARGET void iqa_color_row_avx512(const iqa_color *color, uint8_t *pixels, ptrdiff_t count) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx512vbmi") || !__builtin_cpu_supports("avx512vnni")) {
        iqa_color_row_avx2(color, pixels, count); /* before Ice Lake and Zen 4, bytes could not be permuted */
        return;
    }
    const __m512i zero = _mm512_setzero_si512();
    vectors v;
    load_vectors(&v, color);
    for (; count >= 64; count -= 64, pixels += 192) {
        const __m512i block[3] = {_mm512_loadu_si512(pixels), _mm512_loadu_si512(pixels + 64),
                                  _mm512_loadu_si512(pixels + 128)};
        __m512i words[3][2], red_green[4], blue[4], out[3];
        for (int c = 0; c < 3; c++) {
            const __m512i values = reordered(&v.split, c, block);
            const __mmask64 upper = _mm512_movepi8_mask(values);
            const __m512i low = look_up(&v.low[c], values, upper), high = look_up(&v.high[c], values, upper);
            words[c][0] = _mm512_unpacklo_epi8(low, high);
            words[c][1] = _mm512_unpackhi_epi8(low, high);
        }
        for (int i = 0; i < 2; i++) {
            red_green[2 * i] = _mm512_unpacklo_epi16(words[0][i], words[1][i]);
            red_green[2 * i + 1] = _mm512_unpackhi_epi16(words[0][i], words[1][i]);
            blue[2 * i] = _mm512_unpacklo_epi16(words[2][i], zero);
            blue[2 * i + 1] = _mm512_unpackhi_epi16(words[2][i], zero);
        }
        for (int o = 0; o < 3; o++) {
            __m512i x[4];
            for (int i = 0; i < 4; i++) {
                const __m512i sum = _mm512_dpwssd_epi32(v.constant[o], red_green[i], v.red_green[o]);
                x[i] = _mm512_sra_epi32(_mm512_dpwssd_epi32(sum, blue[i], v.blue[o]), v.shift);
            }
            out[o] = encode(&v, _mm512_packus_epi32(x[0], x[1]), _mm512_packus_epi32(x[2], x[3]));
        }
        for (int i = 0; i < 3; i++) _mm512_storeu_si512(pixels + 64 * i, reordered(&v.join, i, out));
    }
    iqa_color_row_avx2(color, pixels, count);
}
#else
typedef int iqa_no_color_avx512; /* ISO C wants a declaration in every file */
#endif
