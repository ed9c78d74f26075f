/* Rows with the Advanced SIMD of AArch64: 16 pixels at a time. */
#include "patches.h"

#ifdef IQA_NEON
#include <arm_neon.h>

static inline float32x4_t normalise(const iqa_normalisation *n, int c, uint32x4_t value) {
    const float32x4_t d = vsubq_f32(vcvtq_f32_u32(value), vdupq_n_f32(n->centre[c]));
    const float32x4_t low = vfmaq_f32(vdupq_n_f32(n->bias[c]), d, vdupq_n_f32(n->scale_low[c]));
    return vfmaq_f32(low, d, vdupq_n_f32(n->scale[c]));
}

static inline float32x4x4_t normalise_block(const iqa_normalisation *n, int c, uint8x16_t bytes) {
    const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_u8(vget_high_u8(bytes));
    return (float32x4x4_t){{
        normalise(n, c, vmovl_u16(vget_low_u16(low))),
        normalise(n, c, vmovl_u16(vget_high_u16(low))),
        normalise(n, c, vmovl_u16(vget_low_u16(high))),
        normalise(n, c, vmovl_u16(vget_high_u16(high))),
    }};
}

void iqa_row_neon_f32(const iqa_normalisation *n, const uint8_t *pixels, ptrdiff_t width, void *const planes[3]) {
    float *const out[3] = {planes[0], planes[1], planes[2]};
    ptrdiff_t x = 0;
    for (; x + 16 <= width; x += 16) {
        const uint8x16x3_t block = vld3q_u8(pixels + 3 * x);
        for (int c = 0; c < 3; c++) {
            const float32x4x4_t values = normalise_block(n, c, block.val[c]);
            for (int i = 0; i < 4; i++) vst1q_f32(out[c] + x + 4 * i, values.val[i]);
        }
    }
    void *const rest[3] = {out[0] + x, out[1] + x, out[2] + x};
    iqa_row_scalar_f32(n, pixels + 3 * x, width - x, rest);
}

void iqa_row_neon_f16(const iqa_normalisation *n, const uint8_t *pixels, ptrdiff_t width, void *const planes[3]) {
    uint16_t *const out[3] = {planes[0], planes[1], planes[2]};
    ptrdiff_t x = 0;
    for (; x + 16 <= width; x += 16) {
        const uint8x16x3_t block = vld3q_u8(pixels + 3 * x);
        for (int c = 0; c < 3; c++) {
            const float32x4x4_t values = normalise_block(n, c, block.val[c]);
            for (int i = 0; i < 4; i++) {
                vst1_u16(out[c] + x + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(values.val[i])));
            }
        }
    }
    void *const rest[3] = {out[0] + x, out[1] + x, out[2] + x};
    iqa_row_scalar_f16(n, pixels + 3 * x, width - x, rest);
}
#else
typedef int iqa_no_neon; /* ISO C wants a declaration in every file */
#endif
